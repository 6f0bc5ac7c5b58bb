"""The in-process runner against a dbtRunner that does what the test says. Real runs are in test_capture_dbt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ledger_watcher.capture import inprocess
from ledger_watcher.capture.inprocess import InProcessDbt, check_installed
from ledger_watcher.capture.runner import INTERRUPTED, Launch
from ledger_watcher.errors import ConfigError
from tests.core.fakes import PATIENCE, running

Body = Callable[["Stub"], Any]


class Stub:
    """dbtRunner: it swallows every exception, as dbt's does."""

    body: Body

    def __init__(self, callbacks: list[Callable[[object], None]], manifest: object = None) -> None:
        self.callbacks = callbacks

    def fire(self, name: object) -> None:
        for callback in self.callbacks:
            callback(SimpleNamespace(info=SimpleNamespace(name=name)))

    def invoke(self, args: list[str]) -> SimpleNamespace:
        self.args = args
        try:
            return SimpleNamespace(success=type(self).body(self), exception=None)
        except BaseException as error:  # noqa: BLE001
            return SimpleNamespace(success=False, exception=error)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., InProcessDbt]:
    module = ModuleType("dbt.cli.main")
    monkeypatch.setattr(module, "dbtRunner", Stub, raising=False)
    monkeypatch.setitem(sys.modules, "dbt.cli.main", module)
    monkeypatch.setattr(inprocess, "_to_dict", lambda message: {"info": {"name": message.info.name}})

    def build(body: Body, *, sink: Callable[[Any], None] = lambda _event: None, grace: float = PATIENCE) -> InProcessDbt:
        monkeypatch.setattr(Stub, "body", body, raising=False)
        launch = Launch(argv=("build", "-x"), env={"LEDGER_WATCHER_TEST": "set"}, cwd=tmp_path)
        return InProcessDbt(launch, sink=sink, grace=grace)

    return build


def raiser(error: BaseException) -> Body:
    def body(_stub: Stub) -> bool:
        raise error

    return body


class TaskTimeout(BaseException):
    """As Airflow's."""


@pytest.mark.parametrize(
    ("body", "exit_code", "error", "raised", "interrupted"),
    [
        (lambda _: True, 0, None, None, False),
        (lambda _: False, 1, None, None, False),
        (raiser(RuntimeError("no such option")), 2, "no such option", None, False),
        (raiser(KeyboardInterrupt()), 2, None, None, True),
        (raiser(TaskTimeout()), 2, None, TaskTimeout, False),
    ],
)
def test_exit_codes_are_those_of_dbts_own_main(
    make: Callable[..., InProcessDbt], body: Body, exit_code: int, error: str | None, raised: type | None, interrupted: bool
) -> None:
    dbt = make(body)
    assert dbt.run() == exit_code
    assert (dbt.error, dbt.interrupted, dbt.problems) == (error, interrupted, [])
    assert type(dbt.raised) is (raised or type(None))


def test_only_wanted_events_are_taken_in_their_order_and_all_before_the_end(make: Callable[..., InProcessDbt]) -> None:
    taken: list[str] = []

    def body(stub: Stub) -> bool:
        for name in ("NodeStart", "SQLQuery", "MainReportArgs", "NodeFinished"):
            stub.fire(name)
        return stub.args == ["build", "-x"]

    assert make(body, sink=lambda event: taken.append(event["info"]["name"])).run() == 0
    assert taken == ["NodeStart", "NodeFinished"]


def test_the_callback_never_waits_and_never_raises(make: Callable[..., InProcessDbt]) -> None:
    """An exception in it would hang dbt; a slow sink would slow down its nodes."""
    gate = threading.Event()

    def sink(_event: object) -> None:
        gate.wait(PATIENCE)
        raise RuntimeError

    def body(stub: Stub) -> bool:
        stub.fire("NodeStart")
        stub.fire(["not", "hashable"])
        stub.callbacks[0](None)
        stub.fire("NodeFinished")
        gate.set()
        return True

    dbt = make(body, sink=sink)
    assert dbt.run() == 0
    assert dbt.problems == ["4 events of dbt could not be taken from its callback"]


def test_environment_and_folder_are_dbts_as_long_as_it_runs(make: Callable[..., InProcessDbt], tmp_path: Path) -> None:
    before = Path.cwd()

    def body(_stub: Stub) -> bool:
        found = Path.cwd() == tmp_path and os.environ["LEDGER_WATCHER_TEST"] == "set"
        os.chdir("/")
        return found

    assert make(body).run() == 0
    assert Path.cwd() == before
    assert "LEDGER_WATCHER_TEST" not in os.environ


def test_one_invocation_at_a_time(make: Callable[..., InProcessDbt]) -> None:
    def body(_stub: Stub) -> bool:
        with pytest.raises(ConfigError, match="dbt runs in this process already"):
            InProcessDbt(Launch(argv=(), env={}, cwd=Path()), sink=print, grace=1).run()
        return True

    assert make(body).run() == 0
    assert make(lambda _: True).run() == 0


# Interrupts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler])
def test_an_interrupt_wakes_dbt_in_the_main_thread(make: Callable[..., InProcessDbt], handler: Any) -> None:  # noqa: ANN401
    """dbt waits for a lock there; Airflow's task process has SIG_DFL. Whatever was there is there again afterwards."""
    here = threading.Event()

    def body(_stub: Stub) -> bool:
        here.set()
        return threading.Lock().acquire() and threading.Event().wait(PATIENCE)

    dbt = make(body)
    before = signal.signal(signal.SIGINT, handler)
    try:
        with running(lambda: (here.wait(PATIENCE), dbt.interrupt())):  # type: ignore[func-returns-value]
            assert dbt.run() == 2
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert dbt.interrupted
    assert dbt.raised is None


def test_an_interrupt_from_a_signal_handler(make: Callable[..., InProcessDbt]) -> None:
    """As Airflow's on_kill: in the very thread that runs dbt."""

    def body(_stub: Stub) -> bool:
        os.kill(os.getpid(), signal.SIGUSR1)
        return threading.Event().wait(PATIENCE)

    dbt = make(body)
    before = signal.signal(signal.SIGUSR1, lambda *_: dbt.interrupt())
    try:
        assert dbt.run() == 2
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert dbt.interrupted


def test_a_timeout_of_the_caller_is_an_interrupt_for_dbt_and_kept(make: Callable[..., InProcessDbt]) -> None:
    """Airflow's execution_timeout raises from SIGALRM an exception for which dbt would cancel nothing."""

    class TaskTimeout(BaseException):
        pass

    def late(*_: object) -> None:
        raise TaskTimeout

    heard: list[type[BaseException]] = []

    def body(_stub: Stub) -> bool:
        try:
            os.kill(os.getpid(), signal.SIGALRM)
            return threading.Event().wait(PATIENCE)
        except BaseException as error:
            heard.append(type(error))
            raise

    dbt = make(body)
    before = signal.signal(signal.SIGALRM, late)
    try:
        assert dbt.run() == 2
        assert signal.getsignal(signal.SIGALRM) is late
    finally:
        signal.signal(signal.SIGALRM, before)
    assert heard == [KeyboardInterrupt]
    assert isinstance(dbt.raised, TaskTimeout)
    assert dbt.interrupted


def test_an_interrupt_in_another_thread(make: Callable[..., InProcessDbt]) -> None:
    """It arrives when Python code runs again there."""
    here, codes = threading.Event(), []

    def body(_stub: Stub) -> bool:
        here.set()
        while True:
            threading.Event().wait(0.001)

    dbt = make(body)
    with running(lambda: codes.append(dbt.run())):
        assert here.wait(PATIENCE)
        dbt.interrupt()
    assert codes == [2]


IN_A_THREAD = """
import sys, threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from ledger_watcher.capture.inprocess import InProcessDbt
from ledger_watcher.capture.runner import Launch

sys.modules["dbt.cli.main"] = module = ModuleType("dbt.cli.main")
module.dbtRunner = lambda **_: SimpleNamespace(invoke=lambda _: SimpleNamespace(success=True, exception=None))
dbt = InProcessDbt(Launch(argv=("build",), env={}, cwd=Path()), sink=print, grace=1.0)
thread = threading.Thread(target=dbt.run)
thread.start()
thread.join()
sys.settrace(lambda *_: None)
(lambda: None)()
"""


def test_a_thread_that_ran_dbt_leaves_the_interpreter_as_it_was() -> None:
    """Were it left to look for an interrupt that never comes, a call under a tracer would not return (CPython 3.11)."""
    assert subprocess.run([sys.executable, "-c", IN_A_THREAD], timeout=PATIENCE, check=False).returncode == 0


def test_an_interrupt_while_dbt_is_imported_keeps_it_from_starting(make: Callable[..., InProcessDbt]) -> None:
    dbt = make(lambda _: True)
    dbt.interrupt()
    assert dbt.run() == INTERRUPTED


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_dbt_that_waits_for_ever_is_interrupted_once_more(make: Callable[..., InProcessDbt], *, by_hand: bool) -> None:
    """dbt cancels its queries once; one that began just after that is waited for."""
    here, interrupts = threading.Event(), []

    def body(_stub: Stub) -> bool:
        try:
            here.set()
            threading.Event().wait(PATIENCE)
        except KeyboardInterrupt:
            interrupts.append(1)
            threading.Event().wait(PATIENCE)
        return True

    dbt = make(body, grace=0.5)
    main = threading.get_ident()

    def interrupt() -> None:
        assert here.wait(PATIENCE)
        if by_hand:
            signal.pthread_kill(main, signal.SIGINT)
        else:
            dbt.interrupt()

    with running(interrupt):
        assert dbt.run() == 2
    assert interrupts == [1]


def test_an_interrupt_just_behind_dbt_hits_nobody_else(make: Callable[..., InProcessDbt], monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one, of a dbt that ends for the first one meanwhile."""
    outside = InProcessDbt._outside

    def late(self: InProcessDbt, error: BaseException) -> None:
        signal.raise_signal(signal.SIGINT)
        outside(self, error)

    monkeypatch.setattr(InProcessDbt, "_outside", late)
    dbt = make(lambda _: True)
    monkeypatch.setattr(Stub, "invoke", lambda *_: signal.raise_signal(signal.SIGINT))
    assert dbt.run() == 2
    assert dbt.interrupted


def test_dbt_is_installed_here() -> None:
    check_installed()


def test_dbt_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(inprocess, "find_spec", missing)
    with pytest.raises(ConfigError, match="dbt-core is not installed in this Python environment"):
        check_installed()


def test_importing_the_package_imports_no_dbt() -> None:
    code = "import sys, ledger_watcher.capture, ledger_watcher.cli; sys.exit(any(name.split('.')[0] in ('dbt', 'airflow') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
