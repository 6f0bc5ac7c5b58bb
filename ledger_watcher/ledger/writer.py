"""The writer's thread: takes records without ever blocking, commits them in groups, and says what it could not keep."""

from __future__ import annotations

import hashlib
import logging
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ledger_watcher import codec
from ledger_watcher.errors import Ambiguous, ConfigError, Denied, Exists, Fenced, LedgerWatcherError, Transient, WriterStopped
from ledger_watcher.ledger.backlog import Backlog
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.ledger.segments import Entry, Kind
from ledger_watcher.records import Artifact, AttemptFinished, AttemptStarted, Heartbeat, Log, Record, utcnow
from ledger_watcher.storage import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOptions:
    """Bounds of the writer, in seconds, bytes and segments.

    ``drain_timeout``: how long the end of an attempt waits for a storage that is away, artifacts and all. ``memory_bytes`` and
    ``disk_bytes``: what waits meanwhile. ``takeover_grace``: see :attr:`LedgerWriter.takeover_wait`. A checkpoint is written after
    ``checkpoint_segments`` segments, or up to eight times as many while they add less than half of its size.
    """

    commit_interval: float = 0.5
    commit_bytes: int = 256 * 1024
    segment_bytes: int = 4 * 1024 * 1024
    heartbeat: float = 5.0
    open_timeout: float = 30.0
    drain_timeout: float = 300.0
    retry_first: float = 0.2
    retry_longest: float = 5.0
    memory_bytes: int = 32 * 1024 * 1024
    disk_bytes: int = 1024 * 1024 * 1024
    checkpoint_segments: int = 64
    takeover_grace: float = 20.0


class LedgerWriter:
    """Appends the records of one attempt. :meth:`append` never waits for the storage and never raises; :meth:`close` tells the truth.

    While the storage is away, records wait in memory and then in a local file, and the same segment is tried again; the run goes on. A
    writer that another one fenced calls ``on_fenced`` once, from its thread, and drops what comes after.
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
        self._backlog = Backlog(self._options.memory_bytes, self._options.disk_bytes)
        self._wake = threading.Condition()
        self._closing = False
        self._give_up_at: float | None = None
        self._end: AttemptFinished | None = None
        self._error: LedgerWatcherError | None = None
        self._last_commit = 0.0
        self._since_checkpoint = (0, 0)
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
        self.takeover_wait = 0.0
        """Seconds to wait before dbt starts, set by :meth:`open`: another writer's attempt has no end, and may be alive. It learns
        that it is fenced by its next heartbeat and interrupts its dbt, so after ``takeover_grace`` s without a segment of its own, or
        if its process is known to be gone, there is nothing to wait for."""

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

    def open(self, started: AttemptStarted, *, after: int | None = None) -> list[Entry]:
        """Claim the next epoch and start the thread. Returns what the chain held before, as far as it still counts.

        :param after: claim only if this is the newest epoch.
        :raises Overtaken: there is a newer one than ``after``.
        :raises Denied: credentials or permissions.
        :raises ConfigError: no such bucket, or a storage that cannot keep a ledger.
        :raises Transient: the storage stayed out of reach for ``open_timeout`` seconds.
        """
        give_up_at = time.monotonic() + self._options.open_timeout
        delay = self._options.retry_first
        while True:
            try:
                _, history = self._chain.claim(started, after=after)
                break
            except (Transient, Ambiguous):
                if time.monotonic() + delay > give_up_at:
                    raise
                time.sleep(delay)
                delay = min(delay * 2, self._options.retry_longest)
        self.takeover_wait = self._takeover_wait(history)
        self._last_commit = time.monotonic()
        self._thread.start()
        return history

    def append(self, record: Record) -> None:
        """Take one record; it is durable after the next commit. Never waits for the storage, never raises for it."""
        line = codec.encode(record)
        with self._wake:
            if self._error is not None:
                return
            self._backlog.put(line, droppable=isinstance(record, Log))
            if len(self._backlog) == 1 or self._backlog.nbytes >= self._options.commit_bytes:
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
                if self._give_up_at is not None:
                    give_up_at = min(give_up_at, self._give_up_at)
                if time.monotonic() + delay > give_up_at:
                    raise
                self._pause(delay)
                delay = min(delay * 2, self._options.retry_longest)
        record = Artifact(ts=utcnow(), name=name, sha256=digest, size=len(data), path=key)
        self.append(record)
        return record

    def finish_within(self, seconds: float) -> None:
        """Give everything that still has to be written so many seconds from now; an earlier bound stays. May be called from any thread."""
        with self._wake:
            bound = time.monotonic() + seconds
            self._give_up_at = bound if self._give_up_at is None else min(self._give_up_at, bound)
            self._wake.notify_all()

    def close(self, finished: AttemptFinished) -> str:
        """Drain, write the end segment (the commit point) and return its hash, within ``drain_timeout`` seconds.

        :raises Fenced: another writer took the run over.
        :raises WriterStopped: the storage stayed out of reach; the message says how many records are not in the ledger, and the local
            file that has them.
        """
        self.finish_within(self._options.drain_timeout)
        with self._wake:
            self._closing = True
            self._end = finished
            self._wake.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._chain.last is not None  # noqa: S101 - the fence at least
        return self._chain.last.sha256

    def _takeover_wait(self, history: Iterable[Entry]) -> float:
        before = self._chain.before
        if before is None or before.kind is Kind.END:
            return 0.0
        other = next((e.record for e in history if e.epoch == before.epoch and isinstance(e.record, AttemptStarted)), None)
        if other is not None and other.host == socket.gethostname() and other.pid and not Path(f"/proc/{other.pid}").exists():
            return 0.0
        silent = max(0.0, (utcnow() - before.ts).total_seconds())
        return max(0.0, self._options.takeover_grace - silent)

    # The thread ------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while True:
                lines = self._next_lines()
                if lines:
                    self._commit(Kind.DATA, lines)
                    self._checkpoint_if_due(sum(map(len, lines)))
                    self._check_drain([], "it is too slow")
                    continue
                with self._wake:
                    end = self._end if self._closing and not self._backlog else None
                if end is not None:
                    self._commit(Kind.END, [codec.encode(self._complete(end))])
                    self._checkpoint(end=True)
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
                if self._backlog and (since >= options.commit_interval or self._backlog.nbytes >= options.commit_bytes):
                    break
                if not self._backlog and since >= options.heartbeat:
                    return [codec.encode(Heartbeat(ts=utcnow()))]
                self._wake.wait((options.commit_interval if self._backlog else options.heartbeat) - since)
            return self._backlog.take(options.segment_bytes)

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
                self._check_drain(lines if kind is Kind.DATA else [], error)
                self._pause(delay)
                delay = min(delay * 2, self._options.retry_longest)
        if warned:
            log.warning("The ledger is written again: %s", self._store.root)
        self._last_commit = time.monotonic()

    def _checkpoint_if_due(self, nbytes: int) -> None:
        segments, size = self._since_checkpoint[0] + 1, self._since_checkpoint[1] + nbytes
        self._since_checkpoint = (segments, size)
        every = self._options.checkpoint_segments
        if segments >= every and (size >= self._chain.checkpoint_bytes / 2 or segments >= 8 * every):
            self._checkpoint()

    def _checkpoint(self, *, end: bool = False) -> None:
        """Readers do without if this fails: they begin at an earlier one."""
        self._since_checkpoint = (0, 0)
        try:
            self._chain.checkpoint(end=end)
        except LedgerWatcherError as error:
            log.warning("A checkpoint of the ledger was not written, readers start from the one before: %s", error)

    def _complete(self, end: AttemptFinished) -> AttemptFinished:
        """The end, with the lines of dbt that were given up while the storage was away."""
        if not self._backlog.dropped:
            return end
        lost = f"{self._backlog.dropped} log records were dropped while the storage was away"
        return replace(end, incomplete=f"{end.incomplete}; {lost}" if end.incomplete else lost)

    def _check_drain(self, in_flight: list[bytes], problem: LedgerWatcherError | str) -> None:
        """Give up when the bound of the end has passed and the storage is away, or records still wait."""
        with self._wake:
            if self._give_up_at is None or not self._closing or time.monotonic() < self._give_up_at:
                return
            if not in_flight and not self._backlog and not isinstance(problem, LedgerWatcherError):
                return
            self._backlog.untake(in_flight)
            count = len(self._backlog) + 1
            raise WriterStopped(
                f"{count} records of {self.run} are not in the ledger {self._store.root}, the end of the attempt among them: the storage "
                f"did not take them in time ({problem}). {self._saved()} What was written before is intact; run again when the storage is back."
            ) from (problem if isinstance(problem, LedgerWatcherError) else None)

    def _saved(self) -> str:
        """Put what waits into a local file and say where it is."""
        path = Path(tempfile.gettempdir()) / f"ledger-watcher-unwritten-{uuid.uuid4().hex}.jsonl"
        if self._end is not None:
            self._backlog.put(codec.encode(self._complete(self._end)))
        first = {"kind": "unwritten", "root": self._store.root, "run": self.run.prefix, "epoch": self.epoch, "ts": utcnow()}
        try:
            self._backlog.save(path, codec.dumps(first))
        except OSError as error:
            return f"They could not be saved to {path} either: {error}."
        return f"They are in the local file {path}."

    def _pause(self, delay: float) -> None:
        """Wait before the next try: to the end of the delay whatever is appended, but not when the writer is told to hurry."""
        with self._wake:
            bound, closing = self._give_up_at, self._closing
            if bound is not None:
                delay = min(delay, max(0.0, bound - time.monotonic()))
            self._wake.wait_for(lambda: self._give_up_at != bound or self._closing != closing, delay)

    def _stop(self, error: LedgerWatcherError) -> None:
        with self._wake:
            self._error = error
            self._backlog.clear()
