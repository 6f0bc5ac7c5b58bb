"""The writer's thread: takes records without ever blocking, commits them in groups, and says what it could not keep."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ledger_watcher import codec
from ledger_watcher.errors import Ambiguous, ConfigError, Denied, Exists, Fenced, LedgerWatcherError, Transient, WriterStopped
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.ledger.reader import Entry
from ledger_watcher.ledger.segments import Kind
from ledger_watcher.records import Artifact, AttemptFinished, AttemptStarted, Heartbeat, Record, utcnow
from ledger_watcher.storage import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOptions:
    """Bounds of the writer, in seconds and bytes."""

    commit_interval: float = 0.5
    commit_bytes: int = 256 * 1024
    segment_bytes: int = 4 * 1024 * 1024
    heartbeat: float = 5.0
    open_timeout: float = 30.0
    drain_timeout: float = 60.0
    retry_first: float = 0.2
    retry_longest: float = 5.0


class LedgerWriter:
    """Appends the records of one attempt. :meth:`append` never blocks and never raises; :meth:`close` tells the truth.

    While the storage is away, records wait in memory and the same segment is tried again; the run goes on. A writer that another one
    fenced calls ``on_fenced`` once, from its thread, and drops what comes after.
    """

    def __init__(
        self,
        store: Store,
        run: RunKey,
        *,
        options: WriterOptions | None = None,
        on_fenced: Callable[[Fenced], None] | None = None,
    ) -> None:
        self._store = store
        self._chain = ChainWriter(store, run)
        self._options = options or WriterOptions()
        self._on_fenced = on_fenced
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = threading.Condition()
        self._closing = False
        self._give_up_at: float | None = None
        self._end: bytes | None = None
        self._error: LedgerWatcherError | None = None
        self._last_commit = 0.0
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)

    @property
    def run(self) -> RunKey:
        """The run that is written."""
        return self._chain.run

    @property
    def epoch(self) -> int:
        """This writer's epoch, the attempt's number."""
        return self._chain.epoch

    @property
    def error(self) -> LedgerWatcherError | None:
        """Why the writer stopped, if it did."""
        return self._error

    def open(self, started: AttemptStarted) -> list[Entry]:
        """Claim the next epoch and start the thread. Returns what the chain held before.

        :raises Denied: credentials or permissions.
        :raises ConfigError: no such bucket, or a storage that cannot keep a ledger.
        :raises Transient: the storage stayed out of reach for ``open_timeout`` seconds.
        """
        give_up_at = time.monotonic() + self._options.open_timeout
        delay = self._options.retry_first
        while True:
            try:
                _, history = self._chain.claim(started)
                break
            except (Transient, Ambiguous):
                if time.monotonic() + delay > give_up_at:
                    raise
                time.sleep(delay)
                delay = min(delay * 2, self._options.retry_longest)
        self._last_commit = time.monotonic()
        self._thread.start()
        return history

    def append(self, record: Record) -> None:
        """Take one record; it is durable after the next commit. Never blocks on storage, never raises for it."""
        line = codec.encode(record)
        with self._wake:
            if self._error is not None:
                return
            self._queue.append(line)
            self._queued_bytes += len(line) + 1
            if len(self._queue) == 1 or self._queued_bytes >= self._options.commit_bytes:
                self._wake.notify()

    def put_file(self, name: str, data: bytes) -> Artifact:
        """Store a file beside the chain under its hash and append its record. Blocks, for ``drain_timeout`` at most.

        :raises StorageError: the storage refused it, or stayed out of reach.
        """
        digest = hashlib.sha256(data).hexdigest()
        key = self.run.file(name, digest)
        give_up_at = time.monotonic() + self._options.drain_timeout
        delay = self._options.retry_first
        while True:
            try:
                with suppress(Exists):  # the same name holds the same hash: the same bytes
                    self._store.create(key, data)
                break
            except (Transient, Ambiguous):
                if time.monotonic() + delay > give_up_at:
                    raise
                time.sleep(delay)
                delay = min(delay * 2, self._options.retry_longest)
        record = Artifact(ts=utcnow(), name=name, sha256=digest, size=len(data), path=key)
        self.append(record)
        return record

    def close(self, finished: AttemptFinished) -> str:
        """Drain, write the end segment (the commit point) and return its hash, within ``drain_timeout`` seconds.

        :raises Fenced: another writer took the run over.
        :raises WriterStopped: the storage stayed out of reach; the message says how many records are not in the ledger.
        """
        with self._wake:
            self._closing = True
            self._end = codec.encode(finished)
            self._give_up_at = time.monotonic() + self._options.drain_timeout
            self._wake.notify()
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._chain.last is not None  # noqa: S101 - the fence at least
        return self._chain.last.sha256

    # The thread ------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while True:
                lines = self._next_lines()
                if lines:
                    self._commit(Kind.DATA, lines)
                    self._check_drain(0, "it is too slow")
                    continue
                with self._wake:
                    end = self._end if self._closing and not self._queue else None
                if end is not None:
                    self._commit(Kind.END, [end])
                    return
        except Fenced as error:
            self._stop(error)
            if self._on_fenced is not None:
                self._on_fenced(error)
        except LedgerWatcherError as error:
            self._stop(error)
        except Exception as error:  # a bug here must be reported by close(), not lost with the thread
            log.exception("ledger writer failed")
            self._stop(WriterStopped(f"The ledger writer failed: {type(error).__name__}: {error}. Please report it."))

    def _next_lines(self) -> list[bytes]:
        """Wait until there is something to commit: records, a heartbeat, or nothing because the writer closes."""
        options = self._options
        with self._wake:
            while not self._closing:
                since = time.monotonic() - self._last_commit
                if self._queue and (since >= options.commit_interval or self._queued_bytes >= options.commit_bytes):
                    break
                if not self._queue and since >= options.heartbeat:
                    return [codec.encode(Heartbeat(ts=utcnow()))]
                self._wake.wait((options.commit_interval if self._queue else options.heartbeat) - since)
            lines: list[bytes] = []
            size = 0
            while self._queue and (not lines or size + len(self._queue[0]) < options.segment_bytes):
                lines.append(self._queue.popleft())
                size += len(lines[-1]) + 1
            self._queued_bytes -= size
            return lines

    def _commit(self, kind: Kind, lines: list[bytes]) -> None:
        self._chain.stage(kind, lines)
        delay = self._options.retry_first
        warned = False
        while True:
            try:
                self._chain.push()
                break
            except (Transient, Ambiguous, Denied, ConfigError) as error:
                # ConfigError (no such bucket) too: the bucket was there when the epoch was claimed, so it may be there again.
                if not warned:
                    log.warning("The ledger cannot be written at the moment, trying on: %s", error)
                    warned = True
                self._check_drain(len(lines) if kind is Kind.DATA else 0, error)
                self._pause(delay)
                delay = min(delay * 2, self._options.retry_longest)
        if warned:
            log.warning("The ledger is written again: %s", self._store.root)
        self._last_commit = time.monotonic()

    def _check_drain(self, in_flight: int, problem: LedgerWatcherError | str) -> None:
        """Give up when the bound of :meth:`close` has passed and the storage is away, or records still wait."""
        with self._wake:
            if self._give_up_at is None or time.monotonic() < self._give_up_at:
                return
            waiting = in_flight + len(self._queue)
            if not waiting and not isinstance(problem, LedgerWatcherError):
                return
            raise WriterStopped(
                f"{waiting + 1} records of {self.run} are not in the ledger {self._store.root}, the end of the attempt among them: the storage "
                f"did not take them within {self._options.drain_timeout:g} s ({problem}). What was written before is intact; run again when "
                "the storage is back."
            ) from (problem if isinstance(problem, LedgerWatcherError) else None)

    def _pause(self, delay: float) -> None:
        """Wait before the next try: to the end of the delay whatever is appended, but not when the writer begins to close."""
        with self._wake:
            closing = self._closing
            if self._give_up_at is not None:
                delay = min(delay, max(0.0, self._give_up_at - time.monotonic()))
            self._wake.wait_for(lambda: self._closing and not closing, delay)

    def _stop(self, error: LedgerWatcherError) -> None:
        with self._wake:
            self._error = error
            self._queue.clear()
            self._queued_bytes = 0
