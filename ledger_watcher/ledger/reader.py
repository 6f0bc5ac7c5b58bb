"""Reading a chain: one request per poll, everything verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger_watcher.errors import CorruptLedger, Missing
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.ledger.segments import GENESIS, Header, Kind, unpack
from ledger_watcher.records import Record

if TYPE_CHECKING:
    from ledger_watcher.storage import Store


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and where it stands."""

    seq: int
    epoch: int
    record: Record


class ChainReader:
    """Follows the chain of one run from its first segment on. It sees a prefix of the chain, always; not thread-safe."""

    def __init__(self, store: Store, run: RunKey) -> None:
        self._store = store
        self.run = run
        self.last: Header | None = None

    @property
    def next_seq(self) -> int:
        """The slot that is read next."""
        return self.last.seq + 1 if self.last else 0

    @property
    def ended(self) -> bool:
        """The newest segment read is the end of an epoch. Another epoch may still follow."""
        return self.last is not None and self.last.kind is Kind.END

    def poll(self) -> list[Entry] | None:
        """The records of the next segment, or ``None`` if there is none yet: one request either way.

        :raises CorruptLedger: the object there is not the next one of this chain.
        :raises StorageError: denied, or out of reach; the position is unchanged and the call may be repeated.
        """
        seq = self.next_seq
        key = self.run.segment(seq)
        path = f"{self._store.root}/{key}"
        try:
            data = self._store.get(key)
        except Missing:
            return None
        header, records = unpack(path, data)
        self._check(path, header, seq)
        self.last = header
        return [Entry(header.seq, header.epoch, record) for record in records]

    def read(self, limit: int | None = None) -> list[Entry]:
        """All records up to the present end of the chain (or of ``limit`` segments): a request per segment and one more."""
        entries: list[Entry] = []
        count = 0
        while limit is None or count < limit:
            found = self.poll()
            if found is None:
                break
            entries += found
            count += 1
        return entries

    def _check(self, path: str, header: Header, seq: int) -> None:
        last = self.last
        if header.run != self.run.prefix:
            raise CorruptLedger(path, f"it belongs to the run {header.run!r}")
        if header.seq != seq:
            raise CorruptLedger(path, f"its sequence number is {header.seq}, its place is {seq}")
        if header.prev != (last.sha256 if last else GENESIS):
            raise CorruptLedger(path, "it does not follow from the segment before it (its prev is the hash of something else)")
        fits = header.kind is Kind.FENCE if last is None or last.kind is Kind.END else True
        expected = (last.epoch if last else 0) + 1
        if not fits or (header.epoch != expected if header.kind is Kind.FENCE else not last or header.epoch != last.epoch):
            raise CorruptLedger(path, f"a {header.kind.value} segment of epoch {header.epoch} cannot stand here")
        if header.kind is not Kind.FENCE and last and header.writer != last.writer:
            raise CorruptLedger(path, "its writer never claimed this epoch")
