"""A run's state, kept up with: what everybody who looks at a run uses."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from ledger_watcher.errors import CorruptLedger, Transient
from ledger_watcher.ledger.layout import SEG, RunKey, segments_in
from ledger_watcher.ledger.reader import ChainReader
from ledger_watcher.ledger.segments import Entry
from ledger_watcher.records import NodeFinished
from ledger_watcher.state import RunState

if TYPE_CHECKING:
    from ledger_watcher.storage import Store

GAP_CHECK = 30.0
"""Seconds without a new segment, of an attempt that has not ended, after which the folder is listed: a gap looks like the end of the chain."""


class RunFollower:
    """Reads a run from its newest checkpoint and folds it into :attr:`state`, which is that of a prefix of the chain, always.

    One request per look and one more per new segment. Not thread-safe.

    :param whole: read every segment that is there, for whoever wants each record rather than the state.
    """

    def __init__(self, store: Store, run: RunKey, *, whole: bool = False) -> None:
        self._store = store
        self._reader = ChainReader(store, run)
        self._whole = whole
        self._opened = False
        self._news_at = time.monotonic()
        self.state = RunState()

    @property
    def run(self) -> RunKey:
        """The run that is followed."""
        return self._reader.run

    @property
    def ended(self) -> bool:
        """The newest segment read is the end of an epoch."""
        return self._reader.ended

    @property
    def begun(self) -> bool:
        """Anything of the run was there."""
        return self._reader.last is not None

    @property
    def expired(self) -> int:
        """See :attr:`ChainReader.expired`."""
        return self._reader.expired

    def advance(self) -> list[Entry] | None:
        """Read one object and fold it in: the checkpoint or first segment, then the next segment. ``None``: nothing new.

        :raises CorruptLedger: that object is not the next one of this chain, or there is a gap before later segments.
        :raises StorageError: denied, or out of reach; what was read before stays, and the call may be repeated.
        """
        with nullcontext() if self._opened else _uncollected():
            found = self._read()
            if found is not None:
                self.state.apply(found)
        if found is not None:
            self._news_at = time.monotonic()
        elif time.monotonic() - self._news_at >= GAP_CHECK:
            self._news_at = time.monotonic()
            self.check_gap()
        return found

    def _read(self) -> list[Entry] | None:
        if self._opened:
            return self._reader.poll()
        entries = self._reader.open(whole=self._whole)
        self._opened = True
        return entries if self._reader.last is not None else None

    def snapshot(self) -> RunState:
        """Read to the present end of the chain. Of a run that has ended: two requests, if its last attempt left a checkpoint."""
        first = not self._opened
        found = self.advance()
        if not (first and self._reader.complete):
            while found is not None:
                found = self.advance()
        return self.state

    def follow(self, *, interval: float = 1.0, stop: Callable[[], bool] | None = None) -> Iterator[list[Entry]]:
        """The records of one segment after another as they come, until ``stop()`` says so; a storage out of reach is waited for."""
        while True:
            stopping = stop is not None and stop()
            try:
                while (found := self.advance()) is not None:
                    yield found
            except Transient:
                pass
            if stopping:
                return
            time.sleep(interval)

    def wait(self, unique_id: str, *, timeout: float | None = None, interval: float = 1.0) -> NodeFinished:
        """The result of a node as soon as there is one, of the newest attempt that finished it.

        :param timeout: seconds to wait at most; ``None`` is for ever.
        :raises TimeoutError: there is none yet.
        """
        deadline = None if timeout is None else time.monotonic() + timeout

        def late() -> bool:
            return deadline is not None and time.monotonic() >= deadline

        def known() -> NodeFinished | None:
            node = self.state.nodes.get(unique_id)
            return node.finished if node is not None else None

        if (before := known()) is not None:
            return before
        for _ in self.follow(interval=interval, stop=late):
            if (found := known()) is not None:
                return found
        raise TimeoutError(f"{unique_id} has no result in {self.run} after {timeout:g} s.")

    def check_gap(self) -> None:
        """Make sure that a missing segment is the end of the chain: one request.

        :raises CorruptLedger: later segments are there.
        """
        if self._reader.ended:
            return
        following = self._reader.next_seq
        present = segments_in(self._store.list(f"{self.run.prefix}/{SEG}"))
        if following not in present and present and present[-1] > following:
            path = f"{self._store.root}/{self.run.segment(following)}"
            raise CorruptLedger(path, "it is gone although later segments are there (deleted, or expired by a lifecycle rule)")


@contextmanager
def _uncollected() -> Iterator[None]:
    """No pass of the garbage collector over the objects of a checkpoint, which come into being at once and stay: a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:  # of threads that do this at once, the first one to end enables it for all
            gc.enable()
