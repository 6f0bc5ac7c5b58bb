"""Reading a chain: one request per poll, everything verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger_watcher.errors import CorruptLedger, Missing
from ledger_watcher.ledger.checkpoint import unpack_checkpoint
from ledger_watcher.ledger.keys import NO_KEYS, Keyring
from ledger_watcher.ledger.layout import CKPT, SEG, RunKey, checkpoints_in, segments_in
from ledger_watcher.ledger.segments import GENESIS, Entry, Header, Kind, record_of, unpack_lines

if TYPE_CHECKING:
    from ledger_watcher.storage import Store


class ChainReader:
    """Follows the chain of one run, from its first segment on or, after :meth:`open`, from its newest checkpoint.

    It sees a prefix of the chain, always; not thread-safe.

    :param keys: refuse what was not signed with one of them.
    """

    def __init__(self, store: Store, run: RunKey, keys: Keyring = NO_KEYS) -> None:
        self._store = store
        self._keys = keys
        self.run = run
        self.last: Header | None = None
        self.complete = False
        """:meth:`open` found an end, and that nothing came after it: a poll is not needed to know."""
        self._first = 0

    @property
    def next_seq(self) -> int:
        """The slot that is read next."""
        return self.last.seq + 1 if self.last else self._first

    @property
    def expired(self) -> int:
        """How many segments had gone before the first one that is there, and no checkpoint stands for them. 0 as a rule."""
        return self._first

    @property
    def ended(self) -> bool:
        """The newest segment read is the end of an epoch. Another epoch may still follow."""
        return self.last is not None and self.last.kind is Kind.END

    def open(self, *, whole: bool = False) -> list[Entry]:
        """Begin at the newest checkpoint and return its records: two requests, whatever the length of the chain.

        Without a checkpoint, or for the ``whole`` chain, the first segment is read, as :meth:`poll` would; if the segments at the beginning
        have expired, the first that is there. To be called before anything else, again if it raised.

        :raises CorruptLedger: the checkpoint is not one of this run, or altered.
        :raises StorageError: denied, or out of reach.
        """
        self._first = 0  # of an earlier try: there may be a checkpoint now
        found = [] if whole else checkpoints_in(self._store.list(f"{self.run.prefix}/{CKPT}"))
        if not found:
            return self._open_first()
        seq, end = found[-1]
        key = self.run.checkpoint(seq, end=end)
        path = f"{self._store.root}/{key}"
        try:
            data = self._store.get(key)
        except Missing as error:
            raise CorruptLedger(path, "it was listed and is gone (deleted, or expired by a lifecycle rule)") from error
        head, entries, _ = unpack_checkpoint(path, data, self._keys)
        if head.run != self.run.prefix or head.seq != seq or (end and head.kind is not Kind.END):
            raise CorruptLedger(path, f"it covers segment {head.seq} ({head.kind.value}) of the run {head.run!r}")
        self.last = head
        self.complete = end
        return entries

    def _open_first(self) -> list[Entry]:
        entries = self.poll()
        if entries is not None:
            return entries
        present = segments_in(self._store.list(f"{self.run.prefix}/{SEG}"))
        if not present:
            return []
        self._first = present[0]
        return self.poll() or []

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
        header, lines = unpack_lines(path, data, self._keys)
        self._check(path, header, seq)
        entries = [Entry(seq, header.epoch, record_of(path, line), line) for line in lines]
        self.last, self.complete = header, False
        return entries

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
        if header.run != self.run.prefix:
            raise CorruptLedger(path, f"it belongs to the run {header.run!r}")
        if header.seq != seq:
            raise CorruptLedger(path, f"its sequence number is {header.seq}, its place is {seq}")
        if self.last is None and self._first:
            return  # what came before has expired: there is nothing to compare with
        for fault in faults_between(self.last, header):
            raise CorruptLedger(path, fault)


def faults_between(before: Header | None, header: Header) -> list[str]:
    """Why ``header`` cannot be the segment after ``before`` (``None``: the first of a chain); nothing if it can."""
    faults = []
    if header.prev != (before.sha256 if before else GENESIS):
        other = f"segment {before.seq}" if before else "the beginning of a chain"
        faults.append(f"it does not follow from {other}: its prev is {header.prev[:12]}... (one of the two was altered or exchanged)")
    epoch = before.epoch if before else 0
    if header.kind is Kind.FENCE:
        fits = header.epoch == epoch + 1
    else:
        fits = before is not None and before.kind is not Kind.END and header.epoch == epoch
    if not fits:
        faults.append(f"a {header.kind.value} segment of epoch {header.epoch} cannot stand here")
    if header.kind is not Kind.FENCE and before is not None and header.writer != before.writer:
        faults.append(f"its writer {header.writer!r} never claimed this epoch")
    return faults
