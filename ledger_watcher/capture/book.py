"""What an attempt writes: records into the ledger and, folded together, into the state of the run that it goes by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ledger_watcher.ledger import Entry, LedgerWriter
from ledger_watcher.records import Record
from ledger_watcher.state import RunState


class Book:
    """The writer of an attempt, the run with all that was written so far, and what went wrong with capturing."""

    def __init__(self, writer: LedgerWriter, told: Callable[[list[Entry]], None] | None = None) -> None:
        """:param told: is given what is written, too; it must neither block nor raise."""
        self.state = RunState()
        self._told = told
        self.problems: list[str] = []
        self._writer = writer

    @property
    def past(self) -> RunState:
        """The run before this attempt: as long as nothing of the attempt itself but its start is written."""
        return RunState({epoch: one for epoch, one in self.state.attempts.items() if epoch < self._writer.epoch}, self.state.nodes)

    def append(self, records: Iterable[Record]) -> None:
        """Write records. Never blocks."""
        for record in records:
            self._writer.append(record)
            self.fold([record])

    def store(self, name: str, data: bytes) -> list[Record]:
        """Store a file, unless the ledger is lost. Blocks, see :meth:`LedgerWriter.put_file`; may be called from any thread.

        Returns what was written, for :meth:`fold`.

        :raises StorageError: as there.
        """
        return [self._writer.put_file(name, data)] if self._writer.error is None else []

    def fold(self, records: Iterable[Record]) -> None:
        """Take what the writer has written by other means into the state."""
        entries = [Entry(0, self._writer.epoch, record) for record in records]
        self.state.apply(entries)
        if self._told is not None:
            self._told(entries)
