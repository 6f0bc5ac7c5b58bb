"""An emitter beside a run of dbt: a queue and a thread of its own, so that nothing it does can hold up or end the run."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Iterable

from ledger_watcher.emit.emitter import Emitter
from ledger_watcher.errors import LedgerWatcherError
from ledger_watcher.ledger.segments import Entry
from ledger_watcher.records import Heartbeat, Log

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds for what waits, once the run is over."""
GRACE = 1.0
"""Seconds for it to say that it could not send everything."""
MOST_WAITING = 50_000
"""Records that wait at most: what a slow service may cost in memory."""
_MOST_FAILURES = 5
"""After so many failures one after another it gives up: each may take as long as a request's timeout."""


class Relay:
    """Hands records on. :meth:`put` never blocks and never raises; :meth:`close` says what went wrong."""

    def __init__(self, name: str, make: Callable[[], Emitter], *, most_waiting: int = MOST_WAITING) -> None:
        self.name = name
        self._make = make
        self._most_waiting = most_waiting
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._timeout = PATIENCE
        self._failures: list[str] = []
        self._lost = 0
        self._given_up = False
        self._problems: list[str] = []
        # In the context of who began it, where OpenTelemetry keeps the current span.
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._work,), name=f"emit-{name}", daemon=True)
        self._thread.start()

    def put(self, entries: Iterable[Entry]) -> None:
        """Take records, but for log lines and heartbeats. What does not fit any more is counted."""
        for entry in entries:
            if self._given_up or isinstance(entry.record, (Log, Heartbeat)):
                continue
            if self._queue.qsize() >= self._most_waiting:
                self._lost += 1
            else:
                self._queue.put(entry)

    def close(self, timeout: float | None = None) -> list[str]:
        """Let it send what waits, for so many seconds at most (default: :data:`PATIENCE`), and return what went wrong, in sentences."""
        timeout = PATIENCE if timeout is None else timeout
        self._timeout = timeout
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout + GRACE)
        problems = list(self._problems)
        if self._thread.is_alive():
            problems.append(f"{self.name}: not everything was sent within {timeout:g} s; about {self._queue.qsize()} records wait")
        if self._failures:
            problems.append(f"{self.name}: {len(self._failures)} records were not told: {self._failures[0]}")
        if self._lost:
            problems.append(f"{self.name}: {self._lost} records were left out, others waited for too long")
        return problems

    def _work(self) -> None:
        try:
            emitter = self._make()
        except Exception as error:  # noqa: BLE001 - a library's configuration; the run goes on without it
            self._given_up = True
            self._problems.append(f"{self.name} could not be set up: {_said(error)}")
            return
        in_a_row = 0
        while (entry := self._queue.get()) is not None and in_a_row < _MOST_FAILURES:
            try:
                emitter.take(entry)
                in_a_row = 0
            except Exception as error:  # noqa: BLE001, PERF203 - as above
                in_a_row += 1
                self._failures.append(_said(error))
        if in_a_row >= _MOST_FAILURES:
            self._given_up = True
            self._problems.append(f"{self.name} gave up after {_MOST_FAILURES} failures one after another")
            log.warning("%s gives up after %d failures, the run goes on: %s", self.name, _MOST_FAILURES, self._failures[-1])
        self._closing.wait()
        try:
            self._problems += [f"{self.name}: {problem}" for problem in emitter.close(self._timeout)]
        except Exception as error:  # noqa: BLE001 - as above
            self._problems.append(f"{self.name}: {_said(error)}")


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, LedgerWatcherError) else f"{type(error).__name__}: {error}"
