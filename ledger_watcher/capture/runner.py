"""What the two ways of running dbt have in common."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

Sink = Callable[[Mapping[str, Any]], None]
"""Takes one event, a mapping with ``info`` and ``data``; called from one thread."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a dbt that was interrupted before it started: what a shell would show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is started: arguments (with the executable, or for dbtRunner without), environment and working directory.

    A process of its own inherits the file descriptors in ``inherited``. ``command`` is dbt's subcommand.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    inherited: tuple[int, ...] = ()
    command: str = ""


class Escalation:
    """Steps that make dbt end, taken one after another by a thread of its own, ``grace`` seconds apart, until it has."""

    def __init__(self, steps: Sequence[Callable[[], None]], grace: float) -> None:
        self._steps = steps
        self._grace = grace
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="dbt-escalation", daemon=True)

    def start(self) -> None:
        """Begin to listen; what was asked before is not lost."""
        self._thread.start()

    def ask(self) -> None:
        """Make dbt end. Again is the same as once. SimpleQueue.put is reentrant, as locks are not: this may run in a signal handler."""
        self._asked.put(True)

    def ended(self) -> None:
        """dbt has ended: no step is taken after this returns."""
        self._asked.put(False)
        self._thread.join()

    def _work(self) -> None:
        if self._asked.get():
            for step in self._steps:
                step()
                if self._ended_within(self._grace):
                    return

    def _ended_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        try:
            while self._asked.get(timeout=max(0.0, deadline - time.monotonic())):
                pass
        except Empty:
            return False
        return True


class Runner(Protocol):
    """Runs dbt once."""

    interrupted: bool
    """:meth:`interrupt` was called, or the person at the terminal interrupted."""

    raised: BaseException | None
    """An exception from outside (a timeout, SystemExit) that hit the run: dbt was interrupted for it, and it is for the caller to raise."""

    problems: list[str]
    """What went wrong with capturing, never with dbt."""

    @property
    def error(self) -> str | None:
        """What dbt said last, other than by events, if it ended badly."""

    def run(self) -> int:
        """Run dbt to its end and return its exit code, ``128 + n`` if signal ``n`` killed it."""

    def interrupt(self) -> None:
        """Make dbt cancel its queries and end, as Ctrl-C does. May be called from any thread and from a signal handler, more than once."""
