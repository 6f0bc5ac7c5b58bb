"""A whole attempt, from the request to the ledger's end, against a dbt that does what the test says."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher import codec
from ledger_watcher.capture import Capture, CaptureRequest, CaptureResult, Checked, session
from ledger_watcher.errors import ConfigError, Denied, Fenced, Overtaken, Transient, WriterStopped
from ledger_watcher.ledger import ChainReader, RunKey, WriterOptions
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.records import AttemptStarted, EndedBy, Heartbeat, Outcome, Plan, utcnow
from ledger_watcher.state import RunState
from tests.core.fakes import FakeDbt, Screen, json_of, running
from tests.core.stores import Fault, FaultyStore, MemoryStore

RUN = RunKey("shop", "run-1")
FAST = WriterOptions(
    commit_interval=0.01, heartbeat=0.05, drain_timeout=0.2, retry_first=0.01, retry_longest=0.02, open_timeout=0.1, takeover_grace=0
)
WAIT = "signal.signal(signal.SIGINT, lambda *_: sys.exit(2)); text('ready'); threading.Event().wait()"
ONE_MODEL = """
say("NodeStart", "debug", node_name="a")
say("LogModelResult", "info", "1 of 1 OK", node_name="a")
say("NodeFinished", "debug", node_name="a", data={"run_result": {"status": "success", "message": "OK", "execution_time": 1.5}})
"""


@pytest.fixture
def dbt(tmp_path: Path) -> FakeDbt:
    return FakeDbt.make(tmp_path)


class Run:
    """One attempt, with everything that it led to."""

    def __init__(
        self, dbt: FakeDbt, code: str, *args: str, store: MemoryStore | None = None, env: dict[str, str] | None = None, **request: Any
    ) -> None:
        self.store = store or MemoryStore()
        self.screen = Screen()
        self.result: CaptureResult | None = None
        self.raised: BaseException | None = None
        self.capture = Capture(
            self.store,
            RUN,
            CaptureRequest(
                command=(str(dbt.path), *(args or ("build",))),
                project_dir=dbt.project,
                env={"FAKE_DBT": textwrap.dedent(code), **(env or {})},
                forward=self.screen,
                **request,
            ),
            options=FAST,
        )

    def __call__(self) -> None:
        try:
            self.result = self.capture.run()
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self.raised = error

    @property
    def done(self) -> CaptureResult:
        self()
        if self.raised is not None:
            raise self.raised
        assert self.result is not None
        return self.result

    @property
    def state(self) -> RunState:
        """What a reader sees."""
        state = RunState()
        state.apply(ChainReader(self.store, RUN).read())
        return state


def test_a_run(dbt: FakeDbt) -> None:
    """The ledger and the result say the same."""
    started = datetime(2026, 1, 1, tzinfo=timezone.utc)
    run = Run(dbt, ONE_MODEL, plan=("model.shop.a",), plan_source="airflow", try_number=2, clear_number=1, producer_started_at=started)
    result = run.done
    assert (result.exit_code, result.ended_by, result.message, result.problems) == (0, EndedBy.EXIT, None, ())
    reader = ChainReader(run.store, RUN)
    records = [entry.record for entry in reader.read() if not isinstance(entry.record, Heartbeat)]
    assert reader.ended
    assert reader.last is not None
    assert reader.last.sha256 == result.end_sha256
    assert [record.kind for record in records] == [
        "attempt_started",
        "plan",
        "dbt_started",
        "node_started",
        "log",
        "node_finished",
        "attempt_finished",
    ]
    assert records[1] == Plan(ts=records[1].ts, unique_ids=("model.shop.a",), source="airflow")
    state = run.state
    assert state.nodes == result.state.nodes
    assert state.attempts == result.state.attempts
    attempt = state.attempts[1]
    assert attempt.started is not None
    assert (attempt.started.try_number, attempt.started.clear_number, attempt.started.producer_started_at) == (2, 1, started)
    assert (attempt.started.command, attempt.started.invocation, attempt.started.pid) == (
        (str(dbt.path), "build"),
        "subprocess",
        os.getpid(),
    )
    finished = state.nodes["model.shop.a"].finished
    assert finished is not None
    assert (finished.outcome, finished.execution_time) == (Outcome.SUCCESS, 1.5)
    assert run.screen.lines == ["00:00:00  MainReportVersion", "00:00:00  1 of 1 OK"]


def test_standard_output_is_the_default_console(dbt: FakeDbt, capfd: pytest.CaptureFixture[str]) -> None:
    run = Run(dbt, ONE_MODEL)
    object.__setattr__(run.capture._request, "forward", None)
    assert run.done.exit_code == 0
    assert capfd.readouterr().out == "00:00:00  MainReportVersion\n00:00:00  1 of 1 OK\n"


def test_artifacts_fill_gaps_are_stored_and_put_where_dbt_would_have_left_them(dbt: FakeDbt) -> None:
    run = Run(
        dbt,
        """
        write("manifest.json", nodes={"model.shop.b": {"depends_on": {"nodes": ["model.shop.a"]}}})
        say("NodeStart", "debug", node_name="a")
        say("NodeFinished", "debug", node_name="a", data={"run_result": {"status": "error", "message": "at " + os.environ["DBT_TARGET_PATH"]}})
        say("MarkSkippedChildren", "debug", data={"unique_id": "model.shop.a", "status": "error"})
        say("NodeFinished", "debug", unique_id="model.shop.b", data={"run_result": {"status": "skipped"}})
        write("run_results.json", args={"which": "build", "vars": {"token": "x"}}, results=[
            {"unique_id": "model.shop.a", "status": "success"},
            {"unique_id": "model.shop.c", "status": "skipped", "message": "Skipping due to fail_fast"},
            {"unique_id": "operation.shop.end", "status": "success", "message": "passed"}])
        write("graph_summary.json")
        text(os.environ["DBT_TARGET_PATH"] + "/x")
        sys.exit(1)
        """,
    )
    result = run.done
    assert (result.exit_code, result.message, result.problems) == (1, None, ())
    state = run.state
    assert {unique_id: node.status for unique_id, node in state.nodes.items()} == {
        "model.shop.a": "failed",
        "model.shop.b": "skipped",
        "model.shop.c": "skipped",
    }
    failed, skipped = state.nodes["model.shop.a"].finished, state.nodes["model.shop.b"].finished
    assert failed is not None
    assert failed.message == "at target"
    assert skipped is not None
    assert skipped.skip_cause == ("model.shop.a",)
    attempt = state.attempts[1]
    assert attempt.hooks["operation.shop.end"].source == "run_results"
    assert set(attempt.artifacts) == {"manifest.json", "run_results.json"}
    stored = codec.loads(run.store.get(attempt.artifacts["run_results.json"].path))
    assert stored["args"] == {"which": "build"}
    target = dbt.project / "target"
    assert sorted(path.name for path in target.iterdir()) == ["graph_summary.json", "manifest.json", "run_results.json"]
    assert json_of(target / "run_results.json")["args"]["vars"] == {"token": "x"}
    assert run.screen.lines[-1] == "target/x"


def test_results_of_an_earlier_run_are_not_taken_for_this_ones(dbt: FakeDbt) -> None:
    """dbt crashed: the run_results.json in the folder that the user insists on is that of the run before."""
    (dbt.project / "out").mkdir()
    results = [{"unique_id": "model.shop.a", "status": "success"}]
    (dbt.project / "out" / "run_results.json").write_bytes(codec.dumps({"metadata": {"invocation_id": "old"}, "results": results}))
    run = Run(dbt, "sys.exit(2)", "build", "--target-path", "out")
    assert run.done.exit_code == 2
    assert run.state.nodes == {}
    assert run.state.attempts[1].artifacts == {}


def test_secrets_are_masked(dbt: FakeDbt) -> None:
    code = 'say("MainEncounteredError", "error", data={"exc": "no access with " + os.environ["DBT_ENV_SECRET_KEY"]}); sys.exit(2)'
    run = Run(dbt, code, "build", "--vars", "{a: hunter22}", "--select", "hunter22", env={"DBT_ENV_SECRET_KEY": "hunter22"})
    assert run.done.message == "no access with *****"
    assert not any(b"hunter22" in data for data in run.store.objects.values())


def test_odd_artifacts_are_a_problem_and_no_failure(dbt: FakeDbt) -> None:
    run = Run(dbt, 'open(os.environ["DBT_TARGET_PATH"] + "/run_results.json", "w").write("{"); sys.exit(1)')
    result = run.done
    assert result.exit_code == 1
    assert len(result.problems) == 1
    assert result.problems[0].startswith("run_results.json is not in the ledger: not JSON")


def test_what_could_not_be_read_is_told_in_the_ledger(dbt: FakeDbt) -> None:
    run = Run(dbt, 'say("NodeFinished", "debug", node_name="a", data={"run_result": {}})')
    result = run.done
    assert len(result.problems) == 1
    finished = run.state.attempts[1].finished
    assert finished is not None
    assert finished.incomplete == result.problems[0]


@pytest.mark.parametrize(
    ("code", "exit_code", "ended_by", "message"),
    [
        ("sys.exit(1)", 1, EndedBy.EXIT, None),
        ('say("MainEncounteredError", "error", data={"exc": "Parsing Error"}); sys.exit(2)', 2, EndedBy.EXIT, "Parsing Error"),
        ('text("Error: No such option: --foo", sys.stderr); sys.exit(2)', 2, EndedBy.EXIT, "Error: No such option: --foo"),
        ("os.kill(os.getpid(), 9)", 137, EndedBy.SIGNAL, "dbt was killed by SIGKILL (often the system is out of memory)"),
        ("os.kill(os.getpid(), 15)", 143, EndedBy.SIGNAL, "dbt was killed by SIGTERM"),
    ],
)
def test_how_it_ended(dbt: FakeDbt, code: str, exit_code: int, ended_by: EndedBy, message: str | None) -> None:
    run = Run(dbt, code)
    result = run.done
    assert (result.exit_code, result.ended_by, result.message) == (exit_code, ended_by, message)
    finished = run.state.attempts[1].finished
    assert finished is not None
    assert (finished.exit_code, finished.ended_by, finished.message) == (exit_code, ended_by, message)


def test_interrupt(dbt: FakeDbt) -> None:
    run = Run(dbt, WAIT)
    with running(run):
        run.screen.wait_for("ready")
        run.capture.interrupt()
    assert run.result is not None
    assert (run.result.exit_code, run.result.ended_by, run.result.message) == (2, EndedBy.SIGNAL, "dbt was interrupted")
    assert run.state.ended


def test_interrupted_before_dbt_started(dbt: FakeDbt) -> None:
    """While the ledger is opened, for example: dbt is not started at all."""
    run = Run(dbt, "open('started', 'w')")
    run.capture.interrupt()
    result = run.done
    assert (result.exit_code, result.ended_by, result.message) == (130, EndedBy.SIGNAL, "dbt was interrupted")
    assert run.state.ended
    assert not (dbt.project / "started").exists()


def test_a_timeout_from_outside_is_raised_when_the_ledger_has_its_end(dbt: FakeDbt) -> None:
    class TaskTimeout(BaseException):
        """As Airflow's."""

    def strike(*_: object) -> None:
        raise TaskTimeout("15 minutes")

    run = Run(
        dbt, f"signal.signal(signal.SIGINT, lambda *_: sys.exit(2)); os.kill({os.getpid()}, signal.SIGUSR1); threading.Event().wait()"
    )
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert isinstance(run.raised, TaskTimeout)
    assert run.capture.result is not None
    assert (run.capture.result.exit_code, run.capture.result.ended_by) == (2, EndedBy.TIMEOUT)
    finished = run.state.attempts[1].finished
    assert finished is not None
    assert (finished.ended_by, finished.message) == (EndedBy.TIMEOUT, "dbt was interrupted by TaskTimeout: 15 minutes")


def test_a_second_attempt_goes_on_in_the_same_chain(dbt: FakeDbt) -> None:
    first = Run(dbt, 'say("NodeFinished", "debug", node_name="a", data={"run_result": {"status": "error"}}); sys.exit(1)')
    assert first.done.exit_code == 1
    second = Run(dbt, ONE_MODEL, store=first.store)
    state = second.done.state
    assert sorted(state.attempts) == [1, 2]
    assert state.nodes["model.shop.a"].epoch == 2
    assert state.nodes["model.shop.a"].status == "success"
    assert second.state.nodes == state.nodes


# The ledger in trouble ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "error"), [(Fault.DENIED, Denied), (Fault.TRANSIENT, Transient)])
def test_dbt_is_not_started_without_a_ledger(dbt: FakeDbt, fault: Fault, error: type[Exception]) -> None:
    run = Run(dbt, "open('started', 'w')", store=FaultyStore(chance=lambda _operation: fault))
    with pytest.raises(error):
        _ = run.done
    assert run.capture.result is None
    assert not (dbt.project / "started").exists()


def test_a_fenced_attempt_interrupts_its_dbt_and_says_who_took_over(dbt: FakeDbt) -> None:
    run = Run(dbt, WAIT)
    with running(run):
        run.screen.wait_for("ready")
        other = ChainWriter(run.store, RUN)
        now = utcnow()
        other.claim(AttemptStarted(ts=now, attempt=0, command=(), invocation="x", producer_started_at=now, host="other-host"))
    assert isinstance(run.raised, Fenced)
    assert "other-host" in str(run.raised)
    assert vars(run.raised)["exit_code"] == 2
    assert run.capture.result is not None
    assert (run.capture.result.exit_code, run.capture.result.end_sha256) == (2, None)
    assert run.state.attempt is not None
    assert run.state.attempt.epoch == 2


def test_a_storage_that_stays_away_does_not_change_dbts_result(dbt: FakeDbt) -> None:
    away = False
    store = FaultyStore(chance=lambda _operation: Fault.TRANSIENT if away else Fault.NONE)
    run = Run(dbt, f"text('ready'); sys.stdin.close(); {ONE_MODEL.strip().replace(chr(10), ';')}; sys.exit(1)", store=store)
    opened = run.capture._open

    def open_then_lose(checked: Checked) -> None:
        nonlocal away
        opened(checked)
        away = True

    run.capture._open = open_then_lose  # type: ignore[method-assign]
    run()
    assert isinstance(run.raised, WriterStopped)
    assert vars(run.raised)["exit_code"] == 1
    assert run.capture.result is not None
    assert run.capture.result.exit_code == 1
    assert run.capture.result.state.nodes["model.shop.a"].status == "success"
    assert any("are not in the ledger" in problem for problem in run.capture.result.problems)


def test_a_dbt_that_cannot_be_started_leaves_an_ended_ledger(dbt: FakeDbt) -> None:
    dbt.path.write_text("#!/does/not/exist\n")
    run = Run(dbt, "")
    with pytest.raises(ConfigError, match="could not be started"):
        _ = run.done
    finished = run.state.attempts[1].finished
    assert finished is not None
    assert finished.exit_code is None
    assert finished.message is not None
    assert "could not be started" in finished.message


# The request ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"command": ()}, "no command to run"),
        ({"command": ("dbt", "biuld")}, "'biuld' is not a dbt command"),
        ({"command": ("no-such-dbt", "build")}, "'no-such-dbt' was not found; install dbt"),
        ({"command": ("./no-such-dbt", "build")}, "'./no-such-dbt' was not found"),
        ({"project_dir": Path("/no/such/folder")}, "does not exist; correct --project-dir"),
        ({"project_dir": Path("/")}, r"no dbt_project.yml in /"),
        ({"in_process": True, "command": ("dbt", "build", "--project-dir", "nowhere")}, r"no dbt_project.yml in .*nowhere"),
    ],
)
def test_a_request_that_cannot_work_is_refused_before_anything_is_written(dbt: FakeDbt, change: dict[str, Any], says: str) -> None:
    store = MemoryStore()
    request: dict[str, Any] = {"command": (str(dbt.path), "build"), "project_dir": dbt.project, **change}
    with pytest.raises(ConfigError, match=says):
        Capture(store, RUN, CaptureRequest(**request)).run()
    assert store.calls == []


def test_a_relative_executable_is_the_callers_or_the_projects(dbt: FakeDbt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dbt.path.parent)
    for name in ("./dbt", "../dbt"):
        request = CaptureRequest(command=(name, "build"), project_dir=dbt.project, env=dbt.env("sys.exit(0)"), forward=Screen())
        assert Capture(MemoryStore(), RUN, request, options=FAST).run().exit_code == 0


# Giving way to others, and to people ---------------------------------------------------------------------------------


def other_attempt(store: MemoryStore, **fields: Any) -> ChainWriter:
    """An attempt without an end, of another process."""
    started = AttemptStarted(ts=utcnow(), attempt=0, command=("dbt",), invocation="i", producer_started_at=utcnow(), **fields)
    writer = ChainWriter(store, RUN)
    writer.claim(started)
    return writer


def test_an_attempt_that_may_still_run_has_time_to_end_before_dbt_starts(dbt: FakeDbt) -> None:
    """It is fenced first, and then waited for: its host is another one, so nobody knows whether it lives."""
    store = MemoryStore()
    other_attempt(store, host="elsewhere", pid=1)
    run = Run(dbt, WAIT, store=store)
    run.capture._writer._options = replace(FAST, takeover_grace=3600.0)
    with running(run):
        store.wait_for(lambda: RUN.segment(1) in store.objects)
        run.capture.interrupt()  # else it would wait for an hour
    assert run.result is not None
    assert run.result.exit_code == 130
    assert run.screen.lines == [], "dbt was not started"


def test_an_attempt_whose_process_is_gone_is_not_waited_for(dbt: FakeDbt) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    store = MemoryStore()
    other_attempt(store, host=socket.gethostname(), pid=gone.pid)
    run = Run(dbt, ONE_MODEL, store=store)
    run.capture._writer._options = replace(FAST, takeover_grace=3600.0)
    assert run.done.exit_code == 0


def test_an_attempt_that_is_to_follow_another_one_gives_way_to_a_newer(dbt: FakeDbt) -> None:
    """dbt is not started, nothing is written."""
    store = MemoryStore()
    other_attempt(store)
    before = set(store.objects)
    with pytest.raises(Overtaken, match="newest attempt"):
        _ = Run(dbt, ONE_MODEL, store=store, after=0).done
    assert set(store.objects) == before
    assert Run(dbt, ONE_MODEL, store=store, after=1, task_id="a_run").done.exit_code == 0


def test_who_interrupts_again_does_not_wait_for_a_storage_that_is_away(dbt: FakeDbt, monkeypatch: pytest.MonkeyPatch) -> None:
    """dbt has ended, the storage is away, the bound is an hour: the second Ctrl-C ends it, and the records are in a file."""
    monkeypatch.setattr(session, "HURRY", 0.05)
    store = FaultyStore()
    run = Run(dbt, ONE_MODEL + "text('done')", store=store)
    run.capture._options = run.capture._writer._options = replace(FAST, drain_timeout=3600.0)
    claimed = store.create

    def away(key: str, data: bytes) -> None:
        if key != RUN.segment(0):
            raise Transient("create", key, "away")
        claimed(key, data)

    monkeypatch.setattr(store, "create", away)
    with running(run):
        run.screen.wait_for("done")
        while not run.capture._dbt_ended:
            time.sleep(0.01)
        run.capture.interrupt()
    assert isinstance(run.raised, WriterStopped)
    (file,) = re.findall(r"local file (\S+\.jsonl)", str(run.raised))
    kept = [codec.loads(line)["kind"] for line in Path(file).read_text().splitlines()]
    Path(file).unlink()
    assert kept[0] == "unwritten"
    assert {"node_finished", "attempt_finished"} < set(kept)
