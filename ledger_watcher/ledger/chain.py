"""Writing a chain, step by step and without a thread or a clock of its own, so that a test can drive every step.

The rule that makes it safe: a slot is created once. Whoever cannot tell whether it was its own create that filled a slot reads the
slot back. The same bytes: it was. Nothing there: try the same bytes again. Another writer's segment: this writer is fenced.

Whoever claims a run that has segments first writes the checkpoint of all of them: so each epoch can be read alone, and a reader that
lists the checkpoints sees that an attempt begins before its fence is there.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from ledger_watcher import codec
from ledger_watcher.errors import (
    Ambiguous,
    ConfigError,
    CorruptLedger,
    Exists,
    Fenced,
    LedgerError,
    Missing,
    Overtaken,
    StorageError,
    Transient,
)
from ledger_watcher.ledger.checkpoint import Compaction, pack_checkpoint, unpack_checkpoint
from ledger_watcher.ledger.keys import Keyring
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.ledger.reader import ChainReader
from ledger_watcher.ledger.segments import GENESIS, Entry, Header, Kind, pack, unpack
from ledger_watcher.records import AttemptStarted, utcnow

if TYPE_CHECKING:
    from ledger_watcher.storage import Store


class ChainWriter:
    """One writer's right to one epoch. :meth:`claim` first, then :meth:`stage` and :meth:`push` in turn.

    With a key (see :mod:`~ledger_watcher.ledger.keys`) it signs what it writes, and claims no run with an object that is not signed.

    :raises ConfigError: the key's variables are not as they should be.
    """

    def __init__(self, store: Store, run: RunKey) -> None:
        self._store = store
        self._keys = Keyring.from_env()
        self.run = run
        self.writer = uuid.uuid4().hex
        self.epoch = 0
        self.last: Header | None = None
        self.before: Header | None = None
        """The newest segment that the claim found."""
        self._staged: tuple[Header, bytes, list[bytes]] | None = None
        self._reader = ChainReader(store, run, self._keys)
        self._opened = False
        self._history: list[Entry] = []
        self._compaction = Compaction()
        self._checkpoint: tuple[int, str] | None = None

    @property
    def root(self) -> str:
        """The store's root, for messages."""
        return self._store.root

    @property
    def checkpoint_bytes(self) -> int:
        """About the size of a checkpoint now."""
        return self._compaction.nbytes

    def claim(self, started: AttemptStarted, *, after: int | None = None) -> tuple[AttemptStarted, list[Entry]]:
        """Read the chain and claim its next epoch with a fence segment, fencing whoever wrote before.

        Returns the record as written (its ``attempt`` is the epoch) and everything that the chain held before it.

        :param after: claim only if this is the newest epoch.
        :raises Overtaken: there is a newer one than ``after``.
        :raises ConfigError: the storage ignores create-if-absent: no ledger can be kept there.
        :raises StorageError: Denied and Transient, for the caller to retry or report: called again, it goes on where it was.
        """
        while True:
            if self._staged is None:
                self._read_on()
                self.before = self.last = self._reader.last
                newest = self.last.epoch if self.last else 0
                if after is not None and after != newest:
                    raise Overtaken(f"{self._store.root}/{self.run.prefix}", newest, after)
                if self.last is not None:
                    self.checkpoint()
                self.epoch = newest + 1
                self.stage(Kind.FENCE, [codec.encode(replace(started, attempt=self.epoch))])
            assert self._staged is not None  # noqa: S101 - by now
            _, data, _ = self._staged
            try:
                header = self.push()
            except Fenced:
                self._staged = None
                continue  # somebody was faster: adopt what they wrote and claim the slot after it
            self._probe(self.run.segment(header.seq), data)
            history, self._history = self._history, []
            return replace(started, attempt=self.epoch), history

    def _read_on(self) -> None:
        found = self._reader.poll() if self._opened else self._reader.open()
        self._opened = True
        while found is not None and self._reader.last is not None:
            self._compaction.add(found)
            self._history += (replace(entry, line=b"") for entry in found)
            found = self._reader.poll()

    def checkpoint(self, *, end: bool = False) -> None:
        """Try once to write a checkpoint of everything up to the newest segment; the next segment will name it.

        :param end: the newest segment is the end of this writer's epoch: a reader that sees this checkpoint last needs nothing else.
        :raises StorageError: Transient, Denied: nothing is decided. A chain does without, except before a fence.
        :raises CorruptLedger: there is one, of something else.
        """
        if self.last is None:
            raise LedgerError("There is nothing to make a checkpoint of.")
        key = self.run.checkpoint(self.last.seq, end=end)
        data, digest = pack_checkpoint(self.last, self._compaction, self._keys)
        try:
            self._store.create(key, data)
        except (Exists, Ambiguous) as error:
            digest = self._settle_checkpoint(key, data, digest, error)
        self._checkpoint = None if end else (self.last.seq, digest)

    def _settle_checkpoint(self, key: str, data: bytes, digest: str, error: StorageError) -> str:
        try:
            found = self._store.get(key)
        except Missing:
            raise Transient("create", error.path, error) from error
        if found == data:
            return digest
        path = f"{self._store.root}/{key}"  # of another version of this software, which may leave out more or less
        head, _, other = unpack_checkpoint(path, found, self._keys)
        if head != self.last:
            raise CorruptLedger(path, f"it covers segment {head.seq} with the hash {head.sha256[:12]}..., which is not in the chain")
        return other

    def stage(self, kind: Kind, lines: list[bytes]) -> None:
        """Fix the bytes of the next segment. They stay the same however often :meth:`push` has to try."""
        if self._staged is not None:
            raise LedgerError("A segment is already staged; push it first.")  # a mistake in this package, not a user's
        seq = self.last.seq + 1 if self.last else 0
        header = Header(
            run=self.run.prefix,
            seq=seq,
            epoch=self.epoch,
            writer=self.writer,
            kind=kind,
            prev=self.last.sha256 if self.last else GENESIS,
            n=len(lines),
            ts=utcnow(),
            ckpt_seq=self._checkpoint[0] if self._checkpoint else None,
            ckpt_sha256=self._checkpoint[1] if self._checkpoint else None,
        )
        data, digest = pack(header, lines, self._keys)
        self._staged = replace(header, sha256=digest), data, lines

    def push(self) -> Header:
        """Try once to make the staged segment durable; on return it is.

        :raises Fenced: another writer owns the slot.
        :raises StorageError: Transient, Denied or Ambiguous: nothing is decided, call it again.
        """
        if self._staged is None:
            raise LedgerError("Nothing is staged.")
        header, data, lines = self._staged
        key = self.run.segment(header.seq)
        try:
            self._store.create(key, data)
        except (Exists, Ambiguous) as error:
            self._settle(key, data, error)
        self.last = header
        self._staged = self._checkpoint = None
        self._compaction.add(Entry(header.seq, header.epoch, codec.decode(line), line) for line in lines)
        return header

    def _settle(self, key: str, data: bytes, error: StorageError) -> None:
        try:
            found = self._store.get(key)
        except Missing:
            raise Transient("create", error.path, error) from error
        if found != data:
            raise self._fenced(f"{self._store.root}/{key}", found)

    def _fenced(self, path: str, found: bytes) -> LedgerError:
        header, records = unpack(path, found)
        claimed = self.last is not None and self.last.epoch == self.epoch
        if claimed and header.epoch < self.epoch:
            return CorruptLedger(path, f"epoch {header.epoch} goes on after epoch {self.epoch} took over")
        first = records[0] if records else None
        by = f"writer {header.writer[:8]}"
        if isinstance(first, AttemptStarted):
            by = f"attempt {first.attempt} (host {first.host}, pid {first.pid}, started {first.producer_started_at.isoformat()})"
        return Fenced(path, header.epoch, by)

    def _probe(self, key: str, data: bytes) -> None:
        """Create our own fence once more: a storage on which that succeeds would let two writers share a slot."""
        try:
            self._store.create(key, data)
        except StorageError:  # Exists as a rule; any other refusal, too, is one
            return
        raise ConfigError(
            f"The storage at {self._store.root} overwrites an object that should only be created if absent, so it cannot keep a ledger. "
            "Use a storage with conditional writes (AWS S3, GCS, Azure, MinIO, Ceph, a local or NFS folder)."
        )
