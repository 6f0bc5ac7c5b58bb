"""The subprocess runner against a dbt that does what the test says."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.capture import process as process_module
from ledger_watcher.capture.argv import Output
from ledger_watcher.capture.console import Console
from ledger_watcher.capture.process import DbtProcess
from ledger_watcher.capture.runner import Launch
from ledger_watcher.errors import ConfigError
from tests.core.fakes import PATIENCE, FakeDbt, Screen, running

GRACE = 30.0
WAIT = "text('ready'); threading.Event().wait()"


@pytest.fixture
def dbt(tmp_path: Path) -> FakeDbt:
    return FakeDbt.make(tmp_path)


class Run:
    """One process, with everything that it led to."""

    def __init__(self, dbt: FakeDbt, code: str, *, grace: float = GRACE, output: Output | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.screen = Screen()
        launch = Launch(argv=(str(dbt.path), "build"), env={**os.environ, "FAKE_DBT": textwrap.dedent(code)}, cwd=dbt.project)
        console = Console(output or Output(), self.screen)
        self.process = DbtProcess(launch, sink=self.events.append, console=console, grace=grace)  # type: ignore[arg-type]
        self.exit_code: int | None = None

    def __call__(self) -> None:
        self.exit_code = self.process.run()

    @property
    def names(self) -> list[str]:
        return [event["info"]["name"] for event in self.events]


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_exit_code_is_dbts(dbt: FakeDbt, code: int) -> None:
    run = Run(dbt, f"sys.exit({code})")
    run()
    assert run.exit_code == code
    assert run.names == ["MainReportVersion"]
    assert (run.process.problems, run.process.error, run.process.interrupted) == ([], None, False)


def test_lines_of_any_kind_and_length(dbt: FakeDbt) -> None:
    """A line of 300 KB, a flood of standard error, text that is no JSON, JSON that is no event, bytes that are no text."""
    run = Run(
        dbt,
        """
        say("SQLQuery", "debug", "x" * 300_000)
        say("NodeStart", "debug", node_name="a", data={"filler": "y" * 300_000})
        for i in range(2000):
            text(f"warning {i} " + "z" * 100, sys.stderr)
        text("WARNING: not json")
        text('{"a": 1}')
        text('{"info": broken')
        sys.stdout.buffer.write(b"\\xff\\xfe\\n"); sys.stdout.flush()
        say("LogModelResult", "info", "done", node_name="a")
        text("no newline at the end", sys.stderr)
        sys.stdout.write("last"); sys.stdout.flush()
        """,
    )
    run()
    assert run.exit_code == 0
    assert run.names == ["MainReportVersion", "NodeStart", "LogModelResult"]
    stdout = [line for line in run.screen.lines if not line.startswith(("warning", "no newline"))]
    assert stdout == ["00:00:00  MainReportVersion", "WARNING: not json", '{"a": 1}', '{"info": broken', "��", "00:00:00  done", "last"]
    assert len(run.screen.lines) - len(stdout) == 2001


def test_quiet_shows_errors_and_prints_only(dbt: FakeDbt) -> None:
    run = Run(
        dbt,
        'say("Note"); say("PrintEvent", "info", "a,b"); say("LogModelResult", "error", "bad", node_name="a")',
        output=Output(level="error"),
    )
    run()
    assert run.screen.lines == ["a,b", "00:00:00  bad"]
    assert run.names == ["MainReportVersion", "LogModelResult"]


def test_what_dbt_said_last_is_its_error(dbt: FakeDbt) -> None:
    run = Run(dbt, 'text("Usage: dbt build", sys.stderr); text("\\x1b[31mError: No such option: --foo\\x1b[0m", sys.stderr); sys.exit(2)')
    run()
    assert run.process.error == "Usage: dbt build\nError: No such option: --foo"


def test_a_sink_that_fails_does_not_stop_the_reading(dbt: FakeDbt) -> None:
    run = Run(dbt, "for _ in range(3): say('NodeStart', 'debug', node_name='a')")

    def broken(_event: object) -> None:
        raise RuntimeError

    run.process._sink = broken
    run()
    assert run.exit_code == 0
    assert run.process.problems == ["4 lines of dbt's output could not be taken"]


def test_an_executable_that_cannot_be_started(tmp_path: Path, dbt: FakeDbt) -> None:
    dbt.path.write_text("#!/does/not/exist\n")
    with pytest.raises(ConfigError, match="could not be started"):
        Run(dbt, "")()


# Signals --------------------------------------------------------------------------------------------------------------


def test_interrupt_is_one_sigint(dbt: FakeDbt) -> None:
    """However often it is asked for; what dbt says while it cancels is taken."""
    run = Run(
        dbt,
        """
        count = []
        signal.signal(signal.SIGINT, lambda *_: count.append(1))
        text("ready")
        while not count: time.sleep(0.01)
        say("NodeFinished", "debug", node_name="a", data={"run_result": {"status": "error"}})
        text(f"{len(count)} signal")
        sys.exit(2)
        """,
    )
    with running(run):
        run.screen.wait_for("ready")
        for _ in range(5):
            run.process.interrupt()
    assert run.exit_code == 2
    assert run.process.interrupted
    assert run.names == ["MainReportVersion", "NodeFinished"]
    assert run.screen.lines[-1] == "1 signal"


def test_an_interrupt_before_the_start_is_not_lost(dbt: FakeDbt) -> None:
    run = Run(dbt, WAIT)
    run.process.interrupt()
    run()
    assert run.exit_code in (1, 128 + signal.SIGINT)  # Python's own answer, by how far it had come


@pytest.mark.parametrize(("ignored", "exit_code"), [("SIGINT", 128 + 15), ("SIGINT SIGTERM", 128 + 9)])
def test_a_dbt_that_does_not_end_is_ended(dbt: FakeDbt, ignored: str, exit_code: int) -> None:
    ignore = "".join(f"signal.signal(signal.{name}, signal.SIG_IGN);" for name in ignored.split())
    run = Run(dbt, ignore + WAIT, grace=0.05)
    with running(run):
        run.screen.wait_for("ready")
        run.process.interrupt()
    assert run.exit_code == exit_code


def test_sigint_reaches_dbt_although_our_shell_ignores_it(dbt: FakeDbt) -> None:
    """`ledger-watcher run ... &` in a script: the ignored signal would be inherited."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = Run(dbt, WAIT)
        with running(run):
            run.screen.wait_for("ready")
            run.process.interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.exit_code == 128 + signal.SIGINT or run.exit_code == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_an_exception_from_outside_interrupts_dbt_first(dbt: FakeDbt, error: type[BaseException]) -> None:
    """Airflow's execution_timeout raises in the main thread from a signal handler."""

    def strike(*_: object) -> None:
        raise error

    run = Run(dbt, f"signal.signal(signal.SIGINT, lambda *_: os._exit(2)); os.kill({os.getpid()}, signal.SIGUSR1); {WAIT}")
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert run.exit_code == 2
    assert run.process.interrupted
    assert type(run.process.raised) is (TimeoutError if error is TimeoutError else type(None))


def test_a_timeout_that_strikes_while_dbt_is_started_interrupts_it(dbt: FakeDbt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may be the one that gets the signal: to block it in this one does not keep Python from calling the handler here."""
    other, over = threading.Thread(target=lambda: over.wait(PATIENCE)), threading.Event()

    class Warden(process_module.Warden):
        def __init__(self, pid: int, grace: float) -> None:
            assert other.ident is not None
            signal.pthread_kill(other.ident, signal.SIGUSR1)
            threading.Event().wait(0.3)
            super().__init__(pid, grace)

    def strike(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(process_module, "Warden", Warden)
    run = Run(dbt, WAIT)
    other.start()
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        run()
    finally:
        signal.signal(signal.SIGUSR1, before)
        over.set()
        other.join()
    assert run.exit_code in (1, 128 + signal.SIGINT)
    assert run.process.interrupted
    assert type(run.process.raised) is TimeoutError


def test_a_child_that_holds_the_output_open_does_not_hold_us(dbt: FakeDbt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger_watcher.capture.process._DRAIN", 0.1)
    run = Run(dbt, "pid = os.fork()\nif pid:\n    text(f'child {pid}'); os._exit(0)\nelse:\n    time.sleep(60)")
    run()
    assert run.exit_code == 0
    child = next(int(line.split()[1]) for line in run.screen.lines if line.startswith("child"))
    os.kill(child, signal.SIGKILL)
    assert run.process.problems == ["dbt ended, but a process that it started still holds its output open: what comes after is not taken"]


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize("deaf", [(), ("INT",), ("INT", "TERM")], ids=lambda deaf: "+".join(deaf) or "nothing")
def test_no_dbt_outlives_us(dbt: FakeDbt, deaf: tuple[str, ...]) -> None:
    """The process that runs dbt is killed with SIGKILL: dbt gets SIGINT, and if it does not heed that, SIGTERM and SIGKILL."""
    ignoring = "".join(f"signal.signal(signal.SIG{name}, signal.SIG_IGN); " for name in deaf)
    code = f"""
        import os
        from pathlib import Path
        from tests.core.fakes import FakeDbt
        from tests.core.test_capture_process import Run
        dbt = FakeDbt(Path({str(dbt.path)!r}), Path({str(dbt.project)!r}))
        run = Run(dbt, "{ignoring}text(f'pid {{os.getpid()}}'); threading.Event().wait()", grace=0.5)
        run.process._console._write = lambda line: print(line, flush=True)
        run()
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as ours:
        assert ours.stdout is not None
        pid = next(int(line.split()[1]) for line in ours.stdout if line.startswith("pid "))
        watch = os.pidfd_open(pid)
        ours.kill()
    try:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        assert poll.poll(PATIENCE * 1000), "dbt is still there"
    finally:
        os.close(watch)


def test_records_behind_a_stalled_console_are_not_given_up(dbt: FakeDbt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pager or a slow log collector holds the reader up, not dbt: what dbt said before its end is still taken."""
    monkeypatch.setattr(process_module, "_DRAIN", 0.05)
    released = threading.Event()
    run = Run(dbt, "text('stall'); text(json.dumps({'info': {'name': 'NodeFinished', 'level': 'debug', 'msg': ''}, 'data': {}}))")

    def stall(line: str) -> None:
        if "stall" in line:
            assert released.wait(PATIENCE)

    run.process._console = Console(Output(), stall)
    threading.Timer(1.0, released.set).start()
    run()
    assert run.events[-1]["info"]["name"] == "NodeFinished"
    assert run.process.problems == []


def test_a_timeout_that_strikes_while_dbt_starts_leaves_none_behind(dbt: FakeDbt, monkeypatch: pytest.MonkeyPatch) -> None:
    class TaskTimeout(BaseException):
        """As Airflow's."""

    def strike(*_: object) -> None:
        raise TaskTimeout

    run = Run(dbt, WAIT)
    start = run.process._start
    started: list[subprocess.Popen[bytes]] = []

    def start_and_be_struck(*args: Any) -> subprocess.Popen[bytes]:
        started.append(start(*args))
        signal.raise_signal(signal.SIGUSR1)
        return started[0]

    monkeypatch.setattr(run.process, "_start", start_and_be_struck)
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert isinstance(run.process.raised, TaskTimeout)
    assert started[0].returncode in (-signal.SIGINT, 1), "a Python that is interrupted while it starts ends with 1"
    assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
