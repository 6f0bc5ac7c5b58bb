"""dbt as a process of its own: any executable, core or Fusion, of any environment."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import IO, Any

from ledger_watcher import codec
from ledger_watcher.capture.console import Console
from ledger_watcher.capture.events import wanted_line
from ledger_watcher.capture.runner import Escalation, Launch, Sink
from ledger_watcher.capture.warden import Warden
from ledger_watcher.errors import ConfigError
from ledger_watcher.records import plain

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_BUFFER = 1 << 16
_TAIL_LINES, _TAIL_WIDTH = 20, 2000
_LONG = 3600.0
_Mask = set[int | signal.Signals]
_DRAIN = 5.0
"""Seconds without a line after which a pipe is given up that a process left over by dbt holds open."""


class DbtProcess:
    """One dbt process. Its events go to ``sink``, what a person would see to ``console``. See :class:`~.runner.Runner`.

    It has a session of its own, so that a terminal's Ctrl-C does not reach it besides ours, and it gets SIGINT when the thread that
    called :meth:`run` dies, however that happens (Linux), and SIGTERM and SIGKILL as below: no orphan goes on working on the warehouse.

    :param grace: seconds from SIGINT to SIGTERM, and from SIGTERM to SIGKILL.
    """

    def __init__(self, launch: Launch, *, sink: Sink, console: Console, grace: float) -> None:
        self.interrupted = False
        self.raised: BaseException | None = None
        self.problems: list[str] = []
        self._launch = launch
        self._sink = sink
        self._console = console
        steps = (self._interrupt, lambda: self._kill_group(signal.SIGTERM), lambda: self._kill_group(signal.SIGKILL))
        self._escalation = Escalation(steps, grace)
        self._grace = grace
        self._process: subprocess.Popen[bytes] | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._given_up = False
        self._taking: set[int] = set()
        self._lines = 0
        self._lost = 0

    @property
    def error(self) -> str | None:
        """The last lines that were no events: a usage error, a traceback."""
        return "\n".join(self._tail).strip() or None

    def run(self) -> int:
        """See :meth:`~.runner.Runner.run`.

        :raises ConfigError: the executable cannot be started.
        """
        # A timeout of the caller's that strikes from here on would leave dbt behind: it has to wait until it can be taken care of.
        held = _Held()
        try:
            self._process = process = self._start(held.mask)
            readers = [self._reader(process.stdout, self._on_stdout), self._reader(process.stderr, self._on_text)]
            warden = Warden(process.pid, self._grace)
            self._escalation.start()
        except BaseException:
            self._kill_group(signal.SIGKILL)
            held.release()
            raise
        returncode = self._wait(process, held)
        self._escalation.ended()
        warden.dismiss()
        self._drain(readers)
        if self._lost:
            self.problems.append(f"{self._lost} lines of dbt's output could not be taken")
        return 128 - returncode if returncode < 0 else returncode

    def interrupt(self) -> None:
        """See :meth:`~.runner.Runner.interrupt`: SIGINT once, to dbt alone; SIGTERM, then SIGKILL to its process group if it stays.

        To dbt alone, since launchers such as ``uv run`` pass the signal on: dbt would get it twice and stop cancelling its queries.
        """
        self.interrupted = True
        self._escalation.ask()

    def _start(self, mask: _Mask) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self._launch.argv,
                env=self._launch.env,
                cwd=self._launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=_BUFFER,
                pass_fds=self._launch.inherited,
                start_new_session=True,
                preexec_fn=_before_exec(mask),  # noqa: PLW1509 - all that it calls is loaded beforehand
            )
        except OSError as error:
            raise ConfigError(f"{self._launch.argv[0]} could not be started in {self._launch.cwd}: {error}.") from error

    def _interrupt(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)

    def _kill_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _wait(self, process: subprocess.Popen[bytes], held: _Held) -> int:
        while True:
            try:
                held.release()  # what has come meanwhile strikes here
                # With a timeout it looks up every 50 ms. Without one, a signal that comes just before the wait begins is not handled
                # until dbt has ended: Python runs handlers in this thread only.
                return process.wait(timeout=_LONG)
            except subprocess.TimeoutExpired:  # noqa: PERF203 - not a loop over data
                continue
            except KeyboardInterrupt:
                self.interrupt()
            except BaseException as error:  # noqa: BLE001 - a timeout of the caller's: dbt must end before it is passed on
                self.raised = self.raised or error
                self.interrupt()

    # Output ---------------------------------------------------------------------------------------------------------

    def _reader(self, pipe: IO[bytes] | None, take: Callable[[bytes], None]) -> threading.Thread:
        assert pipe is not None  # noqa: S101 - both are pipes
        thread = threading.Thread(target=self._read, args=(pipe, take), name="dbt-output", daemon=True)
        thread.start()
        return thread

    def _read(self, pipe: IO[bytes], take: Callable[[bytes], None]) -> None:
        with pipe:
            for raw in pipe:  # lines of any length: one of 112 KB was seen
                if self._given_up:
                    return
                self._lines += 1
                self._taking.add(threading.get_ident())
                try:
                    take(raw)
                except Exception:  # noqa: BLE001 - the reading must go on, or dbt blocks on a full pipe
                    self._lost += 1
                finally:
                    self._taking.discard(threading.get_ident())

    def _drain(self, readers: list[threading.Thread]) -> None:
        for reader in readers:
            seen = -1
            # A reader that is not waiting for a line but for our own console (a pager, a slow log collector) has records to come.
            while reader.is_alive() and (seen != self._lines or reader.ident in self._taking):
                seen = self._lines
                reader.join(_DRAIN)
        if any(reader.is_alive() for reader in readers):
            self._given_up = True  # its thread stays blocked in the read; closing the pipe under it would block, too
            self.problems.append("dbt ended, but a process that it started still holds its output open: what comes after is not taken")

    def _on_stdout(self, raw: bytes) -> None:
        wanted, shown = wanted_line(raw), self._console.wants(raw)
        if not (wanted or shown):
            return
        event = _event(raw)
        if event is None:
            self._on_text(raw)
            return
        if wanted:
            self._sink(event)
        if shown:
            self._console.event(event, raw)

    def _on_text(self, raw: bytes) -> None:
        self._console.text(raw)
        self._tail.append(plain(raw.decode("utf-8", "replace")).rstrip()[:_TAIL_WIDTH])


class _Held:
    """Signals wait from now until :meth:`release`.

    To block them is not enough where other threads run: the system then gives a signal to one of those, and Python calls its handler in the
    main thread all the same. So handlers are held back, too.
    """

    def __init__(self) -> None:
        self.mask: _Mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._came: list[int] = []
        self._handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
        if threading.current_thread() is threading.main_thread():
            for number in signal.valid_signals():
                if callable(handler := signal.getsignal(number)):
                    self._handlers[number] = handler
                    signal.signal(number, lambda number, _frame: self._came.append(number))

    def release(self) -> None:
        """Handle what has come. What a handler raises is raised, and the next call goes on from there; when all is done, a call does nothing."""
        for number, handler in list(self._handlers.items()):
            signal.signal(number, handler)
            del self._handlers[number]
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        while self._came:
            signal.raise_signal(self._came.pop(0))


def _event(raw: bytes) -> Mapping[str, Any] | None:
    if not raw.startswith(b"{"):
        return None
    try:
        found = codec.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "info" in found else None


def _before_exec(mask: _Mask) -> Callable[[], None]:
    """What the child does before it becomes dbt. libc is loaded here, in the parent: loading after a fork can deadlock."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None
    parent = os.getpid()

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore SIGINT, and dbt would inherit that
        signal.pthread_sigmask(signal.SIG_SETMASK, mask - {signal.SIGINT, signal.SIGTERM})
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
            if os.getppid() != parent:  # it died in between, and no signal will come
                os._exit(1)

    return prepare
