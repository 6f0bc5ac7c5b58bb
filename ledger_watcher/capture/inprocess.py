"""dbt in this process, through its dbtRunner.

Callbacks run in dbt's own worker threads: time spent there delays nodes, and an exception hangs dbt (in NodeStart) or turns a committed
model into an error (in NodeFinished). So the callback looks at a name and enqueues; another thread does the rest. dbt's event manager
belongs to the process: one invocation at a time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

from ledger_watcher.capture.events import WANTED
from ledger_watcher.capture.runner import INTERRUPTED, Escalation, Launch, Sink
from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger.keys import KEY, KEY_FILE

_one_at_a_time = threading.Lock()
_UNHEARD = 0.2
"""Seconds after which a signal is sent again."""


def check_installed() -> None:
    """Make sure that dbt can be imported, without importing it (that takes seconds).

    :raises ConfigError: it is not installed in this environment.
    """
    with suppress(ModuleNotFoundError):
        if find_spec("dbt.cli.main") is not None:
            return
    raise ConfigError(
        "dbt-core is not installed in this Python environment, so it cannot run in-process; pip install it with an adapter here, "
        "or run a dbt executable of another environment (without --in-process)."
    )


@dataclass(slots=True)
class Parsed:
    """The manifest of a project as dbt has it in memory: what several invocations share, so that it is parsed once."""

    manifest: Any = None


class InProcessDbt:
    """One invocation of dbtRunner. dbt writes to the console by itself, as the arguments say. See :class:`~.runner.Runner`.

    The variables of ``launch.env`` are set, those of the ledger's key are not, and its ``cwd`` is entered, while dbt runs. The manifest in
    ``parsed`` is used, if there is one; ``dbt parse`` puts it there.
    """

    def __init__(self, launch: Launch, *, sink: Sink, grace: float, parsed: Parsed | None = None) -> None:
        self.interrupted = False
        self.raised: BaseException | None = None
        self.problems: list[str] = []
        self.error: str | None = None
        self._launch = launch
        self._sink = sink
        self._parsed = parsed or Parsed()
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._lost = 0
        self._thread: int | None = None
        self._struck = threading.Event()
        self._escalation = Escalation((self._strike_first, self._strike), grace)

    def run(self) -> int:
        """See :meth:`~.runner.Runner.run`: 0 success, 1 nodes failed, 2 anything else, as dbt's own main has it.

        :raises ConfigError: another invocation runs in this process.
        """
        if not _one_at_a_time.acquire(blocking=False):
            raise ConfigError("dbt runs in this process already, and its events belong to the whole process; start another process.")
        pump = threading.Thread(target=self._pump, name="dbt-events", daemon=True)
        pump.start()
        try:
            with _environment(self._launch), self._interruptible():
                return self._invoke()
        finally:
            self._queue.put(None)
            pump.join()
            _one_at_a_time.release()
            if self._lost:
                self.problems.append(f"{self._lost} events of dbt could not be taken from its callback")

    def interrupt(self) -> None:
        """See :meth:`~.runner.Runner.interrupt`: a KeyboardInterrupt in the thread that runs dbt, as SIGINT from anywhere else is.

        After either, a second one ``grace`` seconds later: dbt cancels its queries once and then waits for them, also for one that began
        just after that. It then returns although the query may still run, and it is for this process to end.
        """
        self.interrupted = True
        self._escalation.ask()

    def _invoke(self) -> int:
        from dbt.cli.main import dbtRunner  # noqa: PLC0415 - takes seconds and 180 MB

        parsing, manifest = self._launch.command == "parse", self._parsed.manifest
        runner = dbtRunner(manifest=manifest, callbacks=[self._callback])
        try:
            self._thread = threading.get_ident()
            if self.interrupted:  # while dbt was imported; from here on an interrupt is an exception
                return INTERRUPTED
            result = self._call(runner)
        except BaseException as error:  # noqa: BLE001 - hit between dbt's own handling and here
            self._outside(error)
            return 2
        finally:
            self._thread = None
        if result.success and parsing:
            self._parsed.manifest = result.result
        if result.exception is None:
            return 0 if result.success else 1
        self._outside(result.exception)
        return 2

    def _call(self, runner: Any) -> Any:  # noqa: ANN401 - dbt's
        """Where a signal is a KeyboardInterrupt: in the lines around it, one would end whoever called :meth:`run`."""
        return runner.invoke(list(self._launch.argv))

    def _strike_first(self) -> None:
        if not self._struck.is_set():  # by a SIGINT from elsewhere: twice at once, and dbt would stop cancelling
            self._strike()

    def _strike(self) -> None:
        thread = self._thread
        if thread is None:
            return
        if thread == threading.main_thread().ident:
            # Really sent, since that wakes a thread that waits for a lock; sent again if it came just before that wait began, when
            # Python remembers the signal and the wait goes on all the same.
            self._struck.clear()
            while self._thread is not None:
                signal.pthread_kill(thread, signal.SIGINT)
                if self._struck.wait(_UNHEARD):
                    return
        else:  # raised when that thread runs Python code again, at the latest when a node ends
            _raise_in(thread, KeyboardInterrupt)

    def _outside(self, error: BaseException) -> None:
        """dbtRunner swallows every exception: what is not an error of dbt's is kept for the caller."""
        if isinstance(error, Exception):
            self.error = str(error) or type(error).__name__
        elif isinstance(error, KeyboardInterrupt):
            self.interrupted = True
        else:
            self.raised = self.raised or error

    def _callback(self, message: Any) -> None:  # noqa: ANN401 - a protobuf message
        try:
            if message.info.name in WANTED:
                self._queue.put(message)
        except Exception:  # noqa: BLE001 - KeyboardInterrupt must pass: dbt may be inside a callback when it is interrupted
            self._lost += 1

    def _pump(self) -> None:
        while (message := self._queue.get()) is not None:
            try:
                self._sink(_to_dict(message))
            except Exception:  # noqa: BLE001, PERF203 - one event must not cost the others
                self._lost += 1

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Turn SIGINT into KeyboardInterrupt while dbt runs: in an Airflow task it would kill the process at once."""
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, self._on_sigint) if in_main else None
        alarm = signal.getsignal(signal.SIGALRM) if in_main else None
        if callable(alarm):  # a timeout of the caller's, as Airflow's execution_timeout
            signal.signal(signal.SIGALRM, partial(self._on_alarm, alarm))
        self._escalation.start()
        try:
            yield
        finally:
            self._escalation.ended()  # before the handler goes: a late SIGINT would kill this process
            if in_main:
                signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
                if callable(alarm):
                    signal.signal(signal.SIGALRM, alarm)
            else:
                _take_back()

    def _on_alarm(self, handler: Callable[[int, FrameType | None], object], signum: int, frame: FrameType | None) -> None:
        """Keep what the caller's handler raises for after the run: dbt cancels its queries for a KeyboardInterrupt only."""
        try:
            handler(signum, frame)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller of run(), once dbt has ended
            self.raised = self.raised or error
            self._on_sigint(signum, frame)

    def _on_sigint(self, _signum: int, frame: FrameType | None) -> None:
        self.interrupted = True
        self._escalation.ask()
        while frame is not None:
            if frame.f_code is InProcessDbt._call.__code__:
                self._struck.set()
                raise KeyboardInterrupt
            frame = frame.f_back


class _TakenBack(BaseException):
    """In the place of an interrupt that nobody is to hear any more."""


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    """Raise it in that thread when it next runs Python code, in the place of what was to be raised there and has not been yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


def _take_back() -> None:
    """Forget what is still to be raised in this thread.

    By another exception, which is raised and caught here. To set none instead looks simpler, but leaves a mark on the interpreter that only an exception
    which arrives takes away (pending.async_exc in CPython's ceval): until then it stops at every turn of a loop, about a third slower, and under a
    tracer for good.
    """
    with suppress(_TakenBack):
        _raise_in(threading.get_ident(), _TakenBack)
        while True:
            pass


@contextmanager
def _environment(launch: Launch) -> Iterator[None]:
    folder, saved = Path.cwd(), {name: os.environ.get(name) for name in (*launch.env, KEY, KEY_FILE)}
    os.environ.update(launch.env)
    for name in (KEY, KEY_FILE):
        os.environ.pop(name, None)
    os.chdir(launch.cwd)
    try:
        yield
    finally:
        os.chdir(folder)  # dbt itself enters the project's folder and stays there
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_MessageToDict = Callable[..., dict[str, Any]]


def _to_dict(message: Any) -> dict[str, Any]:  # noqa: ANN401
    """The shape that dbt writes to standard output: default values are kept."""
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with dbt

    convert: _MessageToDict = MessageToDict
    try:
        return convert(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    except TypeError:  # protobuf < 5
        return convert(message, preserving_proto_field_name=True, including_default_value_fields=True)
