from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli.show import show
from ledger_watcher.ledger import RunKey
from ledger_watcher.records import Artifact, EndedBy, HookFinished, NodeFinished, NodeProgress, Outcome, utcnow
from tests.core.ledgers import (
    as_version_2,
    at,
    began,
    dbt,
    ended,
    ends,
    log,
    plan,
    segment,
    starts,
    truncate,
    write,
    write_open,
)

RUN = RunKey("shop", "run-1")
HOSTILE = "\x1b[31mred\x1b]0;owned\x07 \x9b2J\u202egnp"


def run(*args: object) -> Result:
    return CliRunner().invoke(show, [str(arg) for arg in args])


def shown(*args: object) -> dict:
    return json.loads(run(*args, "--json").stdout)


def lines_with(text: str, word: str) -> list[str]:
    return [line for line in text.splitlines() if word in line]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run with a failed node and a skipped one."""
    folder = tmp_path / "ledger"
    records = [
        dbt(),
        plan("a", "b", "c", "d"),
        starts("a", materialized="table", relation="db.main.a"),
        log("a", "10:00:01 1 of 4 START a", "10:00:02 1 of 4 OK a", dropped=3),
        ends("a", rows_affected=0, query_id="q-1", adapter_response={"code": "OK"}),
        starts("b", thread="Thread-2"),
        ends("b", Outcome.FAILED, 3.0, message="Runtime Error in b\n  division by zero\n\n  at line 3", execution_time=1.25),
        ends("c", Outcome.SKIPPED, skip_cause=("model.shop.b",), execution_time=0.0, finished_at=None),
        HookFinished(ts=at(4), unique_id="operation.shop.end-0", outcome=Outcome.FAILED, status="error", message="no such role"),
        Artifact(ts=at(4.5), name="run_results.json", sha256="ab", size=10, path="x"),
    ]
    write(folder, RUN, began(), records, ended(5.0, 1, message="1 of 4 failed"))
    return folder


def test_a_run_for_people(root: Path) -> None:
    result = run(root)
    assert result.exit_code == 0
    text = result.stdout
    assert text.startswith("shop / run-1: failed (exit 1)\n")
    assert f"file://{root}/{RUN.prefix}" in text
    assert "started 2026-07-31 10:00:00Z, last seen 2026-07-31 10:00:05Z, took 5.00 s" in text
    assert "1  failed (exit 1)  2026-07-31 10:00:00Z  5.00 s  1.11.16  dbt build" in text
    assert "attempt 1: message: 1 of 4 failed" in text
    assert "attempt 1: hook operation.shop.end-0 failed: no such role" in text
    assert "4 nodes: 1 success, 1 failed, 1 skipped, 1 not run" in text
    assert re.search(r"^success  model  a +10:00:01Z +0\.50 +0$", text, re.MULTILINE)
    assert re.search(r"^failed   model  b +10:00:01Z +1\.25 +Runtime Error in b$", text, re.MULTILINE)
    assert re.search(r"^skipped  model  c +0\.00 +because of b$", text, re.MULTILINE)
    assert re.search(r"^not run  model  d$", text, re.MULTILINE)
    assert "\x1b" not in text


def test_nodes_can_be_compared_with_run_results_json(tmp_path: Path) -> None:
    """The same words and numbers as dbt's own file, whatever the node: compare dictionaries by unique_id and nothing else."""
    keys = ("status", "execution_time", "message", "failures", "adapter_response")
    results = [
        ("model.shop.a", Outcome.SUCCESS, ("success", 0.123, "SELECT 4", None, {"_message": "SELECT 4", "rows_affected": 4})),
        ("model.shop.b", Outcome.FAILED, ("error", 1.5, "Runtime Error\n  boom", None, {})),
        ("model.shop.c", Outcome.SKIPPED, ("skipped", 0.0, None, None, {})),
        ("test.shop.unique_a.0123456789", Outcome.FAILED, ("fail", 0.2, "Got 2 results, configured to fail if != 0", 2, {})),
        ("test.shop.not_null_a.0123456789", Outcome.SUCCESS, ("pass", 0.1, None, 0, {})),
        ("test.shop.maybe", Outcome.WARN, ("warn", 0.1, "Got 1 result, configured to warn if != 0", 1, {})),
    ]
    run_results = {
        "metadata": {"dbt_version": "1.11.16"},
        "results": [{"unique_id": unique_id, **dict(zip(keys, values, strict=True))} for unique_id, _, values in results],
    }
    records = [
        NodeFinished(
            ts=at(2),
            unique_id=unique_id,
            outcome=outcome,
            rows_affected=values[4].get("rows_affected"),
            **dict(zip(keys, values, strict=True)),
        )
        for unique_id, outcome, values in results
    ]
    write(tmp_path, RUN, began(), records, ended(5.0, 1))

    nodes = shown(tmp_path)["nodes"]
    ledger = {node["unique_id"]: {key: node[key] or None for key in keys} for node in nodes}
    file = {result["unique_id"]: {key: result[key] or None for key in keys} for result in run_results["results"]}
    assert ledger == file
    assert [node["rows_affected"] for node in nodes] == [4, None, None, None, None, None]
    assert [node["state"] for node in nodes] == ["success", "failed", "skipped", "failed", "success", "warn"]
    assert [node["name"] for node in nodes][3:] == ["unique_a", "not_null_a", "maybe"]
    assert nodes[4]["failures"] == 0, "no failing row is a fact, not an absence"


def test_the_json_of_a_run(root: Path) -> None:
    found = shown(root)
    assert (found["version"], found["state"], found["exit_code"], found["problem"]) == (1, "failed", 1, None)
    assert found["run"] == {
        "uri": f"file://{root}/{RUN.prefix}",
        "deployment": "default",
        "dag_id": "shop",
        "run_id": "run-1",
        "group": "",
        "map_index": -1,
    }
    (attempt,) = found["attempts"]
    assert attempt["command"] == ["dbt", "build"]
    assert (attempt["dbt_version"], attempt["threads"], attempt["target"], attempt["planned"]) == ("1.11.16", 4, "dev", 4)
    assert (attempt["host"], attempt["pid"], attempt["writer_version"], attempt["try_number"]) == ("worker-1", 42, "0.1.0", None)
    assert (attempt["started_at"], attempt["finished_at"], attempt["duration"]) == ("2026-07-31T10:00:00Z", "2026-07-31T10:00:05Z", 5.0)
    assert attempt["artifacts"] == [{"name": "run_results.json", "sha256": "ab", "size": 10, "path": "x"}]
    assert [hook["state"] for hook in attempt["hooks"]] == ["failed"]
    a, b, c, d = found["nodes"]
    assert (a["materialized"], a["relation"], a["rows_affected"], a["query_id"]) == ("table", "db.main.a", 0, "q-1")
    assert (b["message"], b["thread"]) == ("Runtime Error in b\n  division by zero\n\n  at line 3", "Thread-2")
    assert (c["skip_cause"], c["attempt"]) == (["model.shop.b"], 1)
    assert (d["state"], d["status"], d["attempt"], d["skip_cause"]) == ("not_run", None, None, [])
    assert a.keys() == b.keys() == c.keys() == d.keys(), "every key is always there"


def test_one_node_with_its_message_and_log(root: Path) -> None:
    for name in ("a", "model.shop.a"):
        text = run(root, name).stdout
        assert text.startswith("a: success\n")
        assert "  relation        db.main.a\n" in text
        assert "  rows affected   0\n" in text
        assert '  adapter         {"code":"OK"}\n' in text
        assert text.endswith("log\n  10:00:01 1 of 4 START a\n  10:00:02 1 of 4 OK a\n  (3 lines were not kept)\n")
    assert "message\n  Runtime Error in b\n    division by zero\n  \n    at line 3\n" in run(root, "b").stdout
    assert "skipped for     model.shop.b" in run(root, "c").stdout
    assert run(root, "d").stdout.startswith("d: not run\n")


def test_one_node_as_json(root: Path) -> None:
    found = shown(root, "a")
    (node,) = found["nodes"]
    assert node["log"] == ["10:00:01 1 of 4 START a", "10:00:02 1 of 4 OK a"]
    assert (node["log_dropped"], node["batches"]) == (3, [])
    assert "log" not in shown(root)["nodes"][0]
    assert found["counts"]["failed"] == 1, "the summary stays that of the run"


def test_batches_of_a_microbatch_model(tmp_path: Path) -> None:
    batches = [NodeProgress(ts=at(1), unique_id="model.shop.m", index=n, total=2, status="success", execution_time=0.5) for n in (1, 2)]
    write(tmp_path, RUN, began(), [starts("m"), *batches, ends("m")], ended(3))
    assert "  batch 2/2       success 0.50 s\n" in run(tmp_path, "m").stdout
    assert shown(tmp_path, "m")["nodes"][0]["batches"][1] == {"index": 2, "total": 2, "status": "success", "execution_time": 0.5}


def test_a_name_that_several_nodes_have_is_refused(tmp_path: Path) -> None:
    other = NodeFinished(ts=at(1), unique_id="snapshot.shop.a", outcome=Outcome.SUCCESS, status="success", name="a")
    write(tmp_path, RUN, began(), [ends("a"), other], ended(2))
    result = run(tmp_path, "a")
    assert result.exit_code == 3
    assert result.stderr == "Error: 2 nodes have the name 'a'; give the unique_id: model.shop.a; snapshot.shop.a.\n"
    assert run(tmp_path, "snapshot.shop.a").exit_code == 0


def test_an_unknown_node_gets_suggestions(tmp_path: Path) -> None:
    write(tmp_path, RUN, began(), [ends("fct_orders"), ends("stg_orders")], ended(2))
    assert run(tmp_path, "fct_order").stderr == "Error: The run has no node 'fct_order'. Did you mean fct_orders or stg_orders?\n"
    assert run(tmp_path, "zzz").exit_code == 3


def test_the_newest_run_is_the_default(root: Path) -> None:
    write(root, RunKey("shop", "a-later-run"), began(100), [ends("a")], ended(103))
    assert shown(root)["run"]["run_id"] == "a-later-run"
    assert shown(root, "--run-id", "run-1")["run"]["run_id"] == "run-1"
    write(root, RunKey("other", "z"), began(200), [], ended(201))
    assert shown(root)["run"]["dag_id"] == "other"
    assert shown(root, "--dag-id", "shop")["run"]["run_id"] == "a-later-run"


def test_several_ledgers_of_one_dag_run_are_told_apart(root: Path) -> None:
    for group, index in (("nightly", -1), ("it's hourly", 0), ("it's hourly", 1)):
        write(root, RunKey("shop", "run-2", group=group, map_index=index), began(50), [], ended(51))
    for args in ((), ("--run-id", "run-2")):
        result = run(root, *args)
        assert result.exit_code == 3
        assert result.stderr.startswith("Error: 3 ledgers ")
        assert "--group nightly --map-index -1" in result.stderr
        assert """--group 'it'"'"'s hourly' --map-index 1""" in result.stderr, "as a shell takes it"
    assert shown(root, "--run-id", "run-2", "--group", "nightly")["run"]["group"] == "nightly"
    assert shown(root, "--group", "it's hourly", "--map-index", 1)["run"]["map_index"] == 1


def test_the_same_dag_run_in_two_deployments(root: Path) -> None:
    write(root, RunKey("shop", "run-1", deployment="prod"), began(1), [], ended(2))
    assert "--deployment default; --deployment prod" in run(root, "--run-id", "run-1").stderr
    assert shown(root)["run"]["deployment"] == "prod", "the newest"
    assert shown(root, "--run-id", "run-1", "--deployment", "prod")["exit_code"] == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--run-id", "run-2"), "has run_id 'run-2'. Its runs: run-1"),
        (("--dag-id", "shap"), "has dag_id 'shap'. Its DAGs: shop"),
        (("--dag-id", "shop", "--run-id", "nope"), "Its runs: run-1"),
        (("--run-id", "run-1", "--group", "x"), "There are: --dag-id shop --run-id run-1"),
    ],
)
def test_no_such_run_names_what_there_is(root: Path, args: tuple[str, ...], says: str) -> None:
    result = run(root, *args)
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: No run under ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_no_such_run_folder_and_no_run_at_all(root: Path, tmp_path: Path) -> None:
    gone = run(f"{root}/{RunKey('shop', 'run-9').prefix}")
    assert (gone.exit_code, gone.stdout) == (3, "")
    assert "Its runs: run-1" in gone.stderr
    (tmp_path / "empty").mkdir()
    assert "There are no runs under" in run(tmp_path / "empty").stderr
    assert run(f"{root}/{RUN.prefix}", "--run-id", "run-1").exit_code == 2


def test_a_run_under_way(tmp_path: Path) -> None:
    write_open(tmp_path, RUN, began(-3, base=utcnow()), [plan("a", "b", "c"), ends("a"), starts("b")])
    found = shown(tmp_path)
    assert found["finished_at"] is None
    assert found["exit_code"] is None
    assert {node["name"]: node["state"] for node in found["nodes"]} == {"a": "success", "b": "running", "c": "waiting"}


def test_what_an_attempt_that_was_replaced_left_behind(tmp_path: Path) -> None:
    """A killed attempt has no end; the next one plans less."""
    write_open(tmp_path, RUN, began(0), [plan("a", "b", "c"), ends("a"), starts("b")])
    write(tmp_path, RUN, began(60), [plan("d"), ends("d")], ended(70))
    found = shown(tmp_path)
    assert [attempt["state"] for attempt in found["attempts"]] == ["superseded", "success"]
    assert {node["name"]: node["state"] for node in found["nodes"]} == {
        "a": "success",
        "b": "unfinished",
        "c": "not_run",
        "d": "success",
    }
    text = run(tmp_path).stdout
    assert "superseded (another attempt took over, its end is not recorded)" in text
    assert re.search(r"^unfinished  model  b +1 ", text, re.MULTILINE), "with several attempts the column says which one"


def test_a_lost_attempt_has_no_exit_code(tmp_path: Path) -> None:
    write(tmp_path, RUN, began(), [plan()], ended(3, None, EndedBy.LOST))
    attempt = shown(tmp_path)["attempts"][0]
    assert (attempt["exit_code"], attempt["ended_by"], attempt["planned"]) == (None, "lost", 0)
    assert run(tmp_path).stdout.endswith("\nNo nodes.\n"), "it has ended: none will come"


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    write_open(tmp_path, RUN, began())
    assert run(tmp_path).stdout.endswith("\nNo nodes yet.\n")


def test_a_newer_format_is_named(root: Path) -> None:
    as_version_2(segment(root, RUN, 0))
    result = run(root)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "has ledger format version 2, this installation reads version 1" in result.stderr
    assert len(lines_with(result.stderr, "Error: ")) == 1


def test_what_stands_before_a_damaged_segment_is_shown(root: Path) -> None:
    truncate(segment(root, RUN, 2))
    result = run(root)
    assert result.exit_code == 3
    assert "4 nodes: 1 success" in result.stdout
    assert result.stderr.startswith("Error: This is only what stands before an error: ")
    assert "0000000002.jsonl is corrupt" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "truncated or altered" in shown(root)["problem"]


def test_a_segment_that_is_gone_is_not_taken_for_the_end(root: Path) -> None:
    segment(root, RUN, 1).unlink()
    result = run(f"{root}/{RUN.prefix}")
    assert result.exit_code == 3
    assert "0000000001.jsonl is corrupt: it is gone although later segments are there" in result.stderr


def test_a_beginning_that_expired_is_said_and_the_rest_is_shown(root: Path) -> None:
    segment(root, RUN, 0).unlink()
    result = run(f"{root}/{RUN.prefix}")
    assert result.exit_code == 0
    assert "The first 1 segments of" in result.stderr
    assert "expired by a lifecycle rule" in result.stderr
    assert "success" in result.stdout


def test_a_damaged_segment_behind_a_sound_checkpoint_is_for_verify(root: Path) -> None:
    truncate(root / RUN.segment(1))
    assert run(f"{root}/{RUN.prefix}").exit_code == 0


def test_newest_is_said_to_be_a_guess_when_a_run_cannot_be_read(root: Path) -> None:
    write(root, RunKey("shop", "later"), began(100), [], ended(101))
    as_version_2(segment(root, RunKey("shop", "later"), 0))
    result = run(root)
    assert "1 runs could not be read" in result.stderr
    assert "run-1" in result.stdout


@pytest.mark.parametrize("args", [(), ("a",)])
def test_hostile_text_is_inert(tmp_path: Path, args: tuple[str, ...]) -> None:
    """From the project, the warehouse, and the command line."""
    records = [
        starts("a", relation=HOSTILE, thread=HOSTILE),
        log("a", HOSTILE),
        ends("a", Outcome.FAILED, message=f"{HOSTILE}\n{HOSTILE}", status=HOSTILE, query_id=HOSTILE),
        ends(f"b{HOSTILE}", Outcome.SKIPPED, skip_cause=(f"model.shop.{HOSTILE}",)),
        HookFinished(ts=at(1), unique_id=f"h{HOSTILE}", outcome=Outcome.FAILED, status="error", message=HOSTILE),
        dbt(HOSTILE),
    ]
    write(tmp_path, RUN, began(command=("dbt", HOSTILE)), records, ended(2, 1, message=HOSTILE))
    result = run(tmp_path, *args)
    assert result.exit_code == 0
    assert result.stdout.replace("\n", "").isprintable()
    assert "\\x1b[31mred" in result.stdout
    raw = run(tmp_path, *args, "--json").stdout
    assert raw.isascii()
    assert "\x1b" not in raw
    assert run(tmp_path, HOSTILE + "x").stderr.replace("\n", "").isprintable()


def in_a_terminal(*args: object, **env: str) -> str:
    """What the command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    code = "from ledger_watcher.cli.show import show; show()"
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm-256color", **env}
    with subprocess.Popen(
        [sys.executable, "-c", code, *(str(arg) for arg in args)], stdout=theirs, stdin=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        output = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says EIO when the other side has closed
                break
            if not part:
                break
            output += part
        process.wait()
    os.close(ours)
    return output.decode()


def test_on_a_terminal_colour_only_repeats_a_word_and_a_symbol(root: Path) -> None:
    text = in_a_terminal(root)
    assert "\x1b[" in text
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "\x1b" not in bare
    for part in ("✓ success", "✗ failed", "» skipped", "- not run", "Runtime Error in b"):
        assert part in bare
    assert "✗ failed" in in_a_terminal(root, NO_COLOR="1")


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "ascii"}, {"COLUMNS": "30"}])
def test_a_terminal_without_symbols_or_room_gets_plain_text(root: Path, env: dict[str, str]) -> None:
    write(root, RunKey("shöp", "run-2"), began(50), [ends("ä", Outcome.FAILED, message="größer")], ended(51, 1))
    text = in_a_terminal(root, **env)
    assert "\x1b" not in text
    assert "failed" in text
    assert "Traceback" not in text
