from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli import main
from ledger_watcher.ledger import RunKey
from ledger_watcher.records import Outcome
from tests.core.ledgers import began, ended, ends, plan, segment, starts, truncate, write, write_open

A, B = RunKey("shop", "run-a"), RunKey("shop", "run-b")
HOSTILE = "\x1b[31mred\x1b]0;owned\x07 \x9b2J\u202egnp"


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["diff", *(str(arg) for arg in args)])


def compared(*args: object) -> dict:
    return json.loads(run(*args, "--json").stdout)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Slower, faster, failed now, new, removed, and planned but not run."""
    before = [
        plan("slow", "fast", "broken", "old", "idle"),
        ends("slow", execution_time=1.0, rows_affected=10),
        ends("fast", execution_time=5.0, rows_affected=10),
        ends("broken", execution_time=0.5, failures=0),
        ends("old", execution_time=2.0),
        ends("idle", execution_time=0.25),
    ]
    after = [
        plan("slow", "fast", "broken", "fresh", "idle"),
        ends("slow", execution_time=3.5, rows_affected=10),
        ends("fast", execution_time=1.0, rows_affected=12),
        ends("broken", Outcome.FAILED, execution_time=0.5, failures=3, message="boom"),
        ends("fresh", execution_time=0.75),
    ]
    write(tmp_path, A, began(0), before, ended(9))
    write(tmp_path, B, began(60), after, ended(66, 1))
    return tmp_path


def test_for_people(root: Path) -> None:
    result = run(root, "run-a", "run-b")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "before  shop / run-a: success, started 2026-07-31 10:00:00Z, took 9.00 s"
    assert lines[1] == "after   shop / run-b: failed (exit 1), started 2026-07-31 10:01:00Z, took 6.00 s"
    rows = [re.split(r" {2,}", line.strip()) for line in lines[4:10]]
    assert rows == [
        ["success", "model", "slow", "1.00", "3.50", "+2.50"],
        ["status", "success -> failed", "model", "broken", "0.50", "0.50", "0.00", "0 -> 3"],
        ["success", "model", "fast", "5.00", "1.00", "-4.00", "10 -> 12"],
        ["removed", "success", "model", "old", "2.00"],
        ["new", "success", "model", "fresh", "0.75"],
        ["status", "success -> not run", "model", "idle", "0.25"],
    ]
    assert lines[11:] == [
        "before  5 nodes: 5 success",
        "after   5 nodes: 3 success, 1 failed, 1 not run",
        "nodes   2 with another status, 1 new, 1 removed",
        "seconds 8.75 before, 5.75 after, -3.00 (all nodes added up)",
    ]


def test_the_json(root: Path) -> None:
    found = compared(root, "run-a", "run-b")
    assert (found["version"], found["a"]["run_id"], found["b"]["run_id"], found["b"]["state"]) == (1, "run-a", "run-b", "failed")
    assert found["totals"] == {
        "nodes": {"same": 2, "status": 2, "new": 1, "removed": 1},
        "seconds_a": 8.75,
        "seconds_b": 5.75,
        "seconds_difference": -3.0,
    }
    assert [node["name"] for node in found["nodes"]] == ["slow", "broken", "fast", "old", "fresh", "idle"]
    assert found["nodes"][1] == {
        "unique_id": "model.shop.broken",
        "name": "broken",
        "resource_type": "model",
        "change": "status",
        "seconds_difference": 0.0,
        "state_a": "success",
        "state_b": "failed",
        "seconds_a": 0.5,
        "seconds_b": 0.5,
        "rows_affected_a": None,
        "rows_affected_b": None,
        "failures_a": 0,
        "failures_b": 3,
    }
    assert (found["nodes"][3]["state_b"], found["nodes"][4]["state_a"]) == (None, None)


def test_the_other_way_round(root: Path) -> None:
    found = compared(root, "run-b", "run-a")
    assert found["nodes"][0]["name"] == "fast"
    assert found["totals"]["seconds_difference"] == 3.0
    assert found["totals"]["nodes"] == {"same": 2, "status": 2, "new": 1, "removed": 1}


def test_a_run_with_itself(root: Path) -> None:
    text = run(root, "run-a", "run-a").stdout
    assert "nodes   the same in both, with the same status\n" in text
    assert "8.75 before, 8.75 after, 0.00" in text


def test_runs_without_nodes(tmp_path: Path) -> None:
    for key in (A, B):
        write(tmp_path, key, began(), [], ended(1))
    assert "after   0 nodes\n" in run(tmp_path, "run-a", "run-b").stdout
    assert compared(tmp_path, "run-a", "run-b")["nodes"] == []


def test_the_newest_attempt_counts(tmp_path: Path) -> None:
    write(tmp_path, A, began(), [ends("a", Outcome.FAILED)], ended(1, 1))
    write(tmp_path, A, began(10), [ends("a")], ended(12))
    write(tmp_path, B, began(20), [ends("a")], ended(22))
    assert compared(tmp_path, "run-a", "run-b")["nodes"][0]["change"] == "same"


def test_a_run_under_way(tmp_path: Path) -> None:
    write(tmp_path, A, began(), [ends("a"), ends("b")], ended(3))
    write_open(tmp_path, B, began(), [starts("a"), plan("b")])
    found = {node["name"]: (node["state_b"], node["seconds_difference"]) for node in compared(tmp_path, "run-a", "run-b")["nodes"]}
    assert found == {"a": ("running", None), "b": ("waiting", None)}


def test_options_choose_among_runs_of_the_same_name(root: Path) -> None:
    write(root, RunKey("other", "run-a"), began(), [], ended(1))
    result = run(root, "run-a", "run-b")
    assert result.exit_code == 3
    assert "--dag-id shop" in result.stderr
    assert run(root, "run-a", "run-b", "--dag-id", "shop").exit_code == 0
    write(root, RunKey("shop", "run-b", group="g", map_index=1, deployment="prod"), began(), [], ended(1))
    assert run(root, "run-b", "run-b", "--group", "g", "--map-index", 1, "--deployment", "prod").exit_code == 0


def test_no_such_run(root: Path) -> None:
    result = run(root, "run-a", "run-c")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "has run_id 'run-c'. Its runs: run-b; run-a." in result.stderr
    assert run(f"{root}/{A.prefix}", "run-a", "run-b").exit_code == 2


@pytest.mark.parametrize("key", [A, B])
def test_half_a_run_is_not_compared(root: Path, key: RunKey) -> None:
    truncate(segment(root, key, 1))
    result = run(root, "run-a", "run-b")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "truncated or altered" in result.stderr


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    a, b = RunKey(f"d{HOSTILE}", f"a{HOSTILE}"), RunKey(f"d{HOSTILE}", f"b{HOSTILE}")
    write(tmp_path, a, began(), [ends(f"m{HOSTILE}", resource_type=HOSTILE)], ended(1, 1))
    write(tmp_path, b, began(), [ends(f"m{HOSTILE}", resource_type=HOSTILE), ends(HOSTILE)], ended(1, 1))
    result = run(tmp_path, a.run_id, b.run_id)
    assert result.exit_code == 0
    assert result.stdout.replace("\n", "").isprintable()
    assert run(tmp_path, a.run_id, b.run_id, "--json").stdout.isascii()


def test_help_says_what_the_exit_codes_are() -> None:
    assert "Exit codes: 0 whatever differs" in run("--help").stdout
