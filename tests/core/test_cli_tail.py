from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli import main
from ledger_watcher.errors import Transient
from ledger_watcher.ledger import ChainReader, Kind, RunKey
from ledger_watcher.records import (
    Artifact,
    AttemptStarted,
    EndedBy,
    Heartbeat,
    HookFinished,
    NodeProgress,
    Outcome,
    Unknown,
)
from ledger_watcher.storage import LocalStore
from tests.core.ledgers import at, began, dbt, ended, ends, log, more, plan, segment, starts, truncate, write, write_open

RUN = RunKey("shop", "run-1")
HOSTILE = "\x1b[31mred\x1b]0;owned\x07 \x9b2J\u202egnp"
PATIENCE = 60


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["tail", *(str(arg) for arg in args)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One record of every kind."""
    folder = tmp_path / "ledger"
    records = [
        dbt(),
        plan("a", "b", "c"),
        starts("a", materialized="table", relation="db.main.a"),
        NodeProgress(ts=at(1.2), unique_id="model.shop.a", index=1, total=2, status="success", execution_time=0.25),
        log("a", "10:00:01 START a", "10:00:02 OK a\nmore of it", dropped=3),
        ends("a", rows_affected=7),
        Heartbeat(ts=at(2.5)),
        ends("b", Outcome.FAILED, 3.0, message="\nRuntime Error in b\n  division by zero", execution_time=1.25, failures=2),
        ends("c", Outcome.SKIPPED, skip_cause=("model.shop.b",), execution_time=0.0),
        ends("d", source="carried_over"),
        HookFinished(ts=at(4), unique_id="operation.shop.end-0", outcome=Outcome.FAILED, status="error", message="no such role"),
        Artifact(ts=at(4.5), name="run_results.json", sha256="ab", size=10, path="x"),
        Unknown(ts=at(4.6), original_kind="lineage", data={"seq": "mine", "x": 1}),
    ]
    write(folder, RUN, began(), records, ended(5.0, 1, message="1 of 4 failed\nsee above", incomplete="2 logs dropped"))
    return folder


def test_every_kind_of_record_as_a_line(root: Path) -> None:
    result = run(root)
    assert (result.exit_code, result.stderr) == (0, "")
    day = "2026-07-31 10:00:"
    assert result.stdout.splitlines() == [
        f"{day}00Z  attempt 1 started: dbt build (host worker-1, pid 42)",
        f"{day}00Z  dbt 1.11.16, target dev, 4 threads, invocation 0000-1111",
        f"{day}00Z  plan: 3 nodes (known from ls)",
        f"{day}01Z  a  started, table db.main.a",
        f"{day}01Z  a  batch 1 of 2: success in 0.25 s",
        f"{day}01Z  a  | 10:00:01 START a",
        f"{day}01Z  a  | 10:00:02 OK a",
        f"{day}01Z  a  | more of it",
        f"{day}01Z  a  | (3 lines were not kept)",
        f"{day}02Z  a  success in 0.50 s, 7 rows",
        f"{day}03Z  b  failed (error) in 1.25 s, 2 failures: Runtime Error in b",
        f"{day}02Z  c  skipped in 0.00 s, because of b",
        f"{day}02Z  d  success in 0.50 s, carried over from an earlier attempt",
        f"{day}04Z  end-0  hook failed: no such role",
        f"{day}04Z  run_results.json stored: 10 bytes, sha256 ab",
        f"{day}04Z  a record of a kind that this version does not know: lineage",
        f"{day}05Z  attempt 1 ended: exit 1",
        f"{day}05Z  attempt 1: message: 1 of 4 failed",
        f"{day}05Z  attempt 1: message: see above",
        f"{day}05Z  attempt 1: the ledger is incomplete: 2 logs dropped",
    ]


def test_json_lines_are_the_records_with_their_place(root: Path) -> None:
    result = run(root, "--json")
    assert result.exit_code == 0
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == 1 + 13 + 1, "heartbeats too"
    assert [(record["seq"], record["epoch"], record["kind"]) for record in (found[0], found[-1])] == [
        (0, 1, "attempt_started"),
        (found[-2]["seq"] + 1, 1, "attempt_finished"),
    ]
    assert found[0]["ts"] == "2026-07-31T10:00:00Z"
    assert next(record for record in found if record["kind"] == "lineage")["x"] == 1
    assert {record["kind"] for record in found} >= {"heartbeat", "log", "artifact"}


def test_several_attempts(tmp_path: Path) -> None:
    write(tmp_path, RUN, began(), [ends("a", Outcome.FAILED)], ended(2, None, EndedBy.LOST, will_retry=True))
    write(tmp_path, RUN, began(10), [ends("a")], ended(12))
    lines = run(tmp_path).stdout.splitlines()
    assert [line.partition("Z  ")[2] for line in lines if "attempt" in line] == [
        "attempt 1 started: dbt build (host worker-1, pid 42)",
        "attempt 1 ended: lost, will retry",
        "attempt 2 started: dbt build (host worker-1, pid 42)",
        "attempt 2 ended: exit 0",
    ]
    assert [json.loads(line)["epoch"] for line in run(tmp_path, "--json").stdout.splitlines()] == [1, 1, 1, 2, 2, 2]


def test_a_run_under_way_ends_where_it_is_without_follow(tmp_path: Path) -> None:
    write_open(tmp_path, RUN, began(), [starts("a")])
    result = run(tmp_path)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)


@pytest.mark.parametrize("follow", [(), ("-f",)])
def test_what_stands_before_a_damaged_segment_is_printed(root: Path, follow: tuple[str, ...]) -> None:
    truncate(segment(root, RUN, 2))
    result = run(root, *follow)
    assert result.exit_code == 3
    assert "attempt 1 started" in result.stdout
    assert "truncated or altered" in result.stderr


@pytest.mark.parametrize("follow", [(), ("-f",)])
def test_a_gap_is_not_taken_for_the_end(root: Path, follow: tuple[str, ...]) -> None:
    segment(root, RUN, 1).unlink()
    result = run(root, *follow)
    assert result.exit_code == 3
    assert "it is gone although later segments are there" in result.stderr


def test_no_such_run(root: Path) -> None:
    for args in ((root, "--run-id", "x"), (f"{root}/{RunKey('shop', 'y').prefix}",)):
        result = run(*args)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("Error: No run under ")


class Steps:
    """What happens to a ledger meanwhile: one step each time the command would sleep. No time passes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
        self.left = list(steps)
        monkeypatch.setattr(sys.modules["ledger_watcher.cli.tail"], "sleep", self)  # the package has the command under the module's name

    def __call__(self, _seconds: float) -> None:
        assert self.left, "it waits for ever"
        self.left.pop(0)()


def test_follow_goes_on_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = write_open(tmp_path, RUN, began(), [starts("a")])
    steps = Steps(
        monkeypatch,
        lambda: more(chain, ends("a")),
        lambda: None,
        lambda: more(chain, ended(5), kind=Kind.END),
    )
    result = run(tmp_path, "-f")
    assert (result.exit_code, steps.left) == (0, [])
    assert [line.partition("Z  ")[2] for line in result.stdout.splitlines()][1:] == [
        "a  started",
        "a  success in 0.50 s",
        "attempt 1 ended: exit 0",
    ]


def test_follow_waits_for_the_newest_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that another one took over never ends: it is the newer one's end that counts."""
    write_open(tmp_path, RUN, began(), [starts("a")])
    Steps(monkeypatch, lambda: write(tmp_path, RUN, began(10), [ends("a")], ended(12)))
    result = run(tmp_path, "-f", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout.splitlines()[-1])["epoch"] == 2


def test_follow_of_an_ended_run_prints_it_and_ends(root: Path) -> None:
    assert run(root, "-f").stdout == run(root).stdout


@pytest.mark.parametrize("folder", [False, True])
def test_follow_waits_for_a_run_that_does_not_exist_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: bool) -> None:
    where = (f"{tmp_path}/{RUN.prefix}",) if folder else (tmp_path, "--run-id", "run-1")
    steps = Steps(monkeypatch, lambda: None, lambda: write(tmp_path, RUN, began(), [ends("a")], ended(2)))
    result = run(*where, "-f")
    assert (result.exit_code, steps.left) == (0, [])
    assert "attempt 1 ended: exit 0" in result.stdout
    assert result.stderr.startswith("Waiting for the run: ")
    assert result.stderr.count("\n") == 1


def test_follow_waits_for_a_storage_out_of_reach(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = LocalStore.get
    failures = [True, True]

    def get(self: LocalStore, key: str) -> bytes:
        if failures and key.endswith("0000000001.jsonl"):
            failures.pop()
            raise Transient("get", key, "timed out")
        return real(self, key)

    monkeypatch.setattr(LocalStore, "get", get)
    Steps(monkeypatch, lambda: None, lambda: None)
    result = run(root, "-f", "--run-id", "run-1")
    assert result.exit_code == 0
    assert "attempt 1 ended" in result.stdout
    assert result.stderr.startswith("Waiting for the storage: ")
    assert result.stderr.count("\n") == 1


def test_follow_on_a_terminal_is_a_table(root: Path) -> None:
    text = _terminal(root, "-f")
    assert "\x1b[" in text
    assert "✗ failed" in text
    assert "nodes done" in text
    assert "attempt 1 started" in _terminal(root), "without -f lines, on a terminal too"


def _terminal(*args: object) -> str:
    """What the command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    code = "from ledger_watcher.cli import main; main()"
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm-256color"}
    command = [sys.executable, "-c", code, "tail", *(str(arg) for arg in args)]
    output = bytearray()

    def read() -> None:
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says EIO when the other side has closed
                return
            if not part:
                return
            output.extend(part)

    with subprocess.Popen(command, stdout=theirs, stdin=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        thread = threading.Thread(target=read)
        thread.start()
        process.wait(PATIENCE)
        thread.join(PATIENCE)
    os.close(ours)
    return output.decode()


def test_hostile_text_is_inert(tmp_path: Path) -> None:
    records = [
        starts("a", relation=HOSTILE, materialized=HOSTILE),
        log(f"b{HOSTILE}", HOSTILE),
        ends(f"a{HOSTILE}", Outcome.FAILED, message=f"{HOSTILE}\n{HOSTILE}", status=HOSTILE),
        ends(f"c{HOSTILE}", Outcome.SKIPPED, skip_cause=(f"model.shop.{HOSTILE}",)),
        HookFinished(ts=at(1), unique_id=f"h{HOSTILE}", outcome=Outcome.FAILED, status="error", message=HOSTILE),
        NodeProgress(ts=at(1), unique_id=f"m.{HOSTILE}", index=1, total=1, status=HOSTILE),
        Artifact(ts=at(1), name=HOSTILE, sha256=HOSTILE, size=1, path=HOSTILE),
        Unknown(ts=at(1), original_kind=HOSTILE, data={HOSTILE: HOSTILE}),
        dbt(HOSTILE),
    ]
    write(tmp_path, RUN, began(command=("dbt", HOSTILE)), records, ended(2, 1, message=HOSTILE))
    result = run(tmp_path)
    assert result.exit_code == 0
    assert result.stdout.replace("\n", "").isprintable()
    raw = run(tmp_path, "--json").stdout
    assert raw.isascii()
    assert "\x1b" not in raw
    assert json.loads(raw.splitlines()[0])["command"] == ["dbt", HOSTILE], "escaped, not changed"


def test_the_chain_is_what_is_printed(root: Path) -> None:
    entries = ChainReader(LocalStore(str(root)), RUN).read()
    assert isinstance(entries[0].record, AttemptStarted)
    assert len(entries) == len(run(root, "--json").stdout.splitlines())


def test_help_says_what_the_exit_codes_are() -> None:
    assert "Exit codes: 0 whatever became of the run" in run("--help").stdout
