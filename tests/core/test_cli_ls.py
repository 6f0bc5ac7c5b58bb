from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli import _common, _runs
from ledger_watcher.cli.ls import ls
from ledger_watcher.cli.show import show
from ledger_watcher.errors import Denied, Transient
from ledger_watcher.ledger import RunKey
from ledger_watcher.records import EndedBy, Outcome, utcnow
from ledger_watcher.storage import LocalStore
from tests.core.ledgers import as_version_2, began, ended, ends, plan, segment, starts, truncate, write, write_open

GOOD, OLD = RunKey("shop", "run-2"), RunKey("shop", "run-1")


def run(*args: object) -> Result:
    return CliRunner().invoke(ls, [str(arg) for arg in args])


def listing(*args: object) -> dict:
    result = run(*args, "--json")
    return json.loads(result.stdout)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two finished runs of one DAG, the older one failed at its second attempt."""
    folder = tmp_path / "ledger"
    write(folder, OLD, began(0), [starts("a"), ends("a", Outcome.FAILED), starts("b"), ends("b")], ended(10, 1, will_retry=True))
    write(folder, OLD, began(100), [starts("a", 101), ends("a", Outcome.FAILED, 102)], ended(105, 1))
    write(folder, GOOD, began(50), [starts("a"), ends("a"), starts("b"), ends("b", Outcome.WARN)], ended(62))
    return folder


def test_newest_first_with_status_counts_and_attempts(root: Path) -> None:
    result = run(root)
    assert result.exit_code == 0
    head, newest, oldest = result.stdout.splitlines()
    assert head.split() == ["dag", "run", "status", "age", "took", "attempts", "nodes"]
    assert newest.split()[:3] == ["shop", "run-2", "success"]
    assert "1 success, 1 warn" in newest
    assert "failed (exit 1)" in oldest
    assert oldest.endswith("2  1 success, 1 failed")
    assert "15.0 s" in oldest, "the two attempts together, not the pause between them"
    assert result.stderr == ""


def test_json_has_every_number(root: Path) -> None:
    found = listing(root)
    assert (found["version"], found["total"], found["ledger"]) == (1, 2, f"file://{root}")
    newest, oldest = found["runs"]
    assert newest["uri"] == f"file://{root}/{GOOD.prefix}"
    assert (newest["dag_id"], newest["run_id"], newest["group"], newest["map_index"]) == ("shop", "run-2", "", -1)
    assert (newest["state"], newest["exit_code"], newest["ended_by"], newest["duration"]) == ("success", 0, "exit", 12.0)
    assert newest["started_at"] == "2026-07-31T10:00:50Z"
    assert newest["finished_at"] == "2026-07-31T10:01:02Z"
    assert (oldest["state"], oldest["attempt_count"], oldest["duration"], oldest["exit_code"]) == ("failed", 2, 15.0, 1)
    assert {name: number for name, number in oldest["counts"].items() if number} == {"success": 1, "failed": 1}
    assert oldest["counts"]["not_run"] == 0, "every state is a key, so that a script need not guess"


def test_running_and_silent_are_told_apart_by_the_newest_record(tmp_path: Path) -> None:
    now = utcnow()
    write_open(tmp_path, RunKey("shop", "live"), began(-4, base=now))
    write_open(tmp_path, RunKey("shop", "quiet"), began(-7300, base=now))
    live, quiet = listing(tmp_path)["runs"]
    assert (live["run_id"], live["state"]) == ("live", "running")
    assert (quiet["run_id"], quiet["state"]) == ("quiet", "silent")
    assert quiet["finished_at"] is None
    text = run(tmp_path).stdout
    assert "running (last seen " in text
    assert "silent (last seen 2 h ago)" in text


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        (ended(9, None, EndedBy.LOST), "failed (lost)"),
        (ended(9, 2, EndedBy.SIGNAL), "failed (signal, exit 2)"),
        (ended(9, 2, will_retry=True), "failed (exit 2, will retry)"),
        (ended(9, 0, incomplete="3 lines"), "success (ledger incomplete)"),
    ],
)
def test_how_the_attempt_ended_is_said(tmp_path: Path, end: object, shown: str) -> None:
    write(tmp_path, GOOD, began(), [], end)
    assert shown in run(tmp_path).stdout


def test_a_later_success_of_other_nodes_does_not_hide_a_failed_one(tmp_path: Path) -> None:
    write(tmp_path, GOOD, began(0), [ends("a", Outcome.FAILED), ends("b", Outcome.FAILED)], ended(3, 1))
    write(tmp_path, GOOD, began(10), [ends("a")], ended(12, 0))
    assert "failed (exit 0, but 1 failed in an earlier attempt)" in run(tmp_path).stdout


def test_limit_keeps_the_newest_and_says_that_there_are_more(root: Path) -> None:
    result = run(root, "--limit", 1)
    assert "run-2" in result.stdout
    assert "run-1" not in result.stdout
    assert "1 of 2 runs" in result.stderr
    assert len(listing(root, "--limit", 0)["runs"]) == 2
    assert listing(root, "--limit", 1)["total"] == 2


def test_filters(root: Path) -> None:
    write(root, RunKey("other", "x", deployment="prod"), began(), [], ended(1))
    assert [found["dag_id"] for found in listing(root, "--dag-id", "other")["runs"]] == ["other"]
    assert [found["deployment"] for found in listing(root, "--deployment", "prod")["runs"]] == ["prod"]
    assert listing(root, "--deployment", "prod", "--dag-id", "shop")["runs"] == []


def test_a_dag_id_that_is_longer_than_a_path_part_is_found(tmp_path: Path) -> None:
    long = [RunKey("d" * 300 + tail, "r") for tail in "ab"]
    for key in long:
        write(tmp_path, key, began(), [], ended(1))
    assert [found["dag_id"] for found in listing(tmp_path, "--dag-id", long[1].dag_id)["runs"]] == [long[1].dag_id]


def test_group_map_index_and_deployment_are_shown_where_there_are_any(root: Path) -> None:
    assert "group" not in run(root).stdout
    write(root, RunKey("shop", "run-3", group="nightly.dbt", map_index=4, deployment="prod"), began(200), [], ended(201))
    head, first, *_ = run(root).stdout.splitlines()
    assert head.split()[:5] == ["deployment", "dag", "run", "group", "map"]
    assert first.split()[:5] == ["prod", "shop", "run-3", "nightly.dbt", "4"]


def test_uris_can_be_given_to_show_and_to_ls(root: Path) -> None:
    write(root, RunKey("wéird/../dag", "manual__2026-07-31T10:00:00+00:00", group="a.b"), began(300), [], ended(301))
    uris = run(root, "--uri").stdout.splitlines()
    assert len(uris) == 3
    for uri in uris:
        shown = CliRunner().invoke(show, [uri, "--json"])
        assert shown.exit_code == 0
        assert json.loads(shown.stdout)["run"]["uri"] == uri
        assert [found["uri"] for found in listing(uri)["runs"]] == [uri]
    assert run(uris[0], "--dag-id", "x").exit_code == 2


def test_the_ledger_of_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable of `ledger-watcher run` serves `ls` and `show` too."""
    monkeypatch.setenv("LEDGER_WATCHER_LEDGER", str(root))
    assert "run-2" in run().stdout
    assert CliRunner().invoke(show).stdout.startswith("shop / run-2")


def test_an_empty_ledger_says_so_and_is_no_error(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"No runs under file://{tmp_path}.\n"
    assert listing(tmp_path) == {"version": 1, "ledger": f"file://{tmp_path}", "total": 0, "runs": []}


def test_a_mistyped_object_store_prefix_cannot_be_told_from_an_empty_one() -> None:
    result = run("memory://no-such-ledger")
    assert result.exit_code == 0
    assert "a mistyped prefix looks the same" in result.stderr


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("/no/such/ledger", "does not exist"),
        ("file:///no/such/ledger", "does not exist"),
        (__file__, "is a file"),
        ("", "empty"),
        ("s3://", "names no bucket"),
        ("s3://key:secret@bucket/x", "credentials"),
        ("nosuch://bucket/x", "unknown scheme"),
        ("/tmp/v1/deployment=default/dag=shop", "--dag-id"),  # noqa: S108 - nothing is made there
    ],
)
def test_a_wrong_uri_is_one_line_and_exit_code_3(uri: str, word: str) -> None:
    result = run(uri)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert word in result.stderr
    assert "secret" not in result.stderr


def test_storage_options_have_no_meaning_for_a_folder(tmp_path: Path) -> None:
    assert run(tmp_path, "--storage-option", "anon=true").exit_code == 3
    assert "KEY=VALUE" in run(tmp_path, "--storage-option", "anon").stderr
    assert _common.parse_storage_options(("anon=true", "url=http://x=y", 'more={"a": 1}')) == {
        "anon": True,
        "url": "http://x=y",
        "more": {"a": 1},
    }


@pytest.mark.parametrize(
    ("seq", "damage", "word"), [(0, as_version_2, "newer format"), (1, truncate, "corrupt"), (1, Path.unlink, "corrupt")]
)
def test_a_run_that_cannot_be_read_does_not_hide_the_others(root: Path, seq: int, damage: Callable[[Path], None], word: str) -> None:
    damage(segment(root, OLD, seq))
    if seq == 0:  # its age is not known, so it is listed whatever the limit
        assert run(root, "--limit", 1).stdout.count("\n") == 3
    result = run(root)
    assert "success" in next(line for line in result.stdout.splitlines() if "run-2" in line)
    assert word in next(line for line in result.stdout.splitlines() if "run-1" in line)
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: 1 of 2 runs could not be read to the end: ")
    assert result.stderr.count("\n") == 1
    assert [found["problem"] is None for found in listing(root)["runs"]] == [True, False]


def test_what_stands_before_a_damaged_segment_is_counted(tmp_path: Path) -> None:
    write(tmp_path, GOOD, began(), [plan("a", "b"), ends("a")], ended(3))
    truncate(segment(tmp_path, GOOD, 2))
    found = listing(tmp_path)["runs"][0]
    assert (found["counts"]["success"], found["counts"]["waiting"]) == (1, 1)
    assert "truncated or altered" in found["problem"]


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\nfake  line\u202e"
    write(tmp_path, RunKey(f"dag{hostile}", f"run{hostile}"), began(), [], ended(1))
    out = run(tmp_path).stdout
    assert len(out.splitlines()) == 2
    assert out.replace("\n", "").isprintable()
    assert "\\x1b[2J" in out
    assert listing(tmp_path)["runs"][0]["dag_id"] == f"dag{hostile}", "JSON keeps it, escaped"


class Unwilling:
    """A store that refuses a call, as often as asked."""

    def __init__(self, folder: Path, call: str, error: type[Denied | Transient], times: int) -> None:
        self._store = LocalStore(str(folder))
        self._call, self._error, self._times = call, error, times
        self.root = "s3://bucket/ledger"

    def _refuse(self, call: str, key: str) -> None:
        if call == self._call and self._times > 0:
            self._times -= 1
            raise self._error(call, f"{self.root}/{key}", "403\nForbidden")

    def get(self, key: str) -> bytes:
        self._refuse("get", key)
        return self._store.get(key)

    def list(self, prefix: str) -> list[str]:
        self._refuse("list", prefix)
        return self._store.list(prefix)


@pytest.mark.parametrize("command", [ls, show])
@pytest.mark.parametrize("call", ["list", "get"])
def test_without_permission(root: Path, monkeypatch: pytest.MonkeyPatch, call: str, command: object) -> None:
    monkeypatch.setattr(_common, "open_store", lambda *_, **__: Unwilling(root, call, Denied, 99))
    result = CliRunner().invoke(command, ["s3://bucket/ledger"])
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "Check the credentials and permissions" in result.stderr
    assert "403\\nForbidden" in result.stderr, "one line, whatever the library said"


@pytest.mark.parametrize("call", ["list", "get"])
def test_a_throttled_request_is_tried_again(root: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(_runs, "_DELAYS", (0.0, 0.0))
    monkeypatch.setattr(_common, "open_store", lambda *_, **__: Unwilling(root, call, Transient, 2))
    result = run("s3://bucket/ledger")
    assert result.exit_code == 0
    assert "run-2" in result.stdout


def test_many_runs_are_read(tmp_path: Path) -> None:
    """More than are read at once, newest first whatever the order of their names."""
    names = ["m", "c", "x", "a", "z", "b", "k", "d", "e", "q", "f", "p"]
    for number, name in enumerate(names):
        write_open(tmp_path, RunKey("shop", name), began(number), [ends("a")])
    assert [found["run_id"] for found in listing(tmp_path)["runs"]] == names[::-1]
    assert listing(tmp_path)["runs"][0]["started_at"] == (began(11).ts + timedelta()).isoformat().replace("+00:00", "Z")
