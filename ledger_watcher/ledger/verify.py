"""Checking a whole run: every segment, every link between two of them, every checkpoint, every artifact that a record names.

Unlike a reader, which stops at the first object that is wrong, this names all of them. What it proves: each segment holds its own
hash and that of the segment before, so a chain without problems was not altered anywhere, unless everything from the altered place
to the newest segment was written anew or taken away. Only a hash kept elsewhere, an anchor, shows that: nothing up to an ``end``
segment of that hash was altered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ledger_watcher.errors import CorruptLedger, Missing, UnsupportedLedger
from ledger_watcher.ledger.checkpoint import Compaction, pack_checkpoint, unpack_checkpoint
from ledger_watcher.ledger.keys import NO_KEYS, Keyring
from ledger_watcher.ledger.layout import CKPT, FILES, SEG, RunKey, checkpoints_in, segments_in
from ledger_watcher.ledger.reader import faults_between
from ledger_watcher.ledger.segments import Entry, Header, Kind, record_of, unpack_lines
from ledger_watcher.records import Artifact
from ledger_watcher.state import RunState

if TYPE_CHECKING:
    from ledger_watcher.storage import Store

_AT_ONCE = 8
_BATCH = 64
"""Segments that are held in memory at a time."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Problem:
    """An object, and what is wrong with it."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(slots=True)
class Verification:
    """What was found. ``last`` is the newest segment if that one is sound; ``unsupported`` names one of a newer format.

    ``expired`` is the number of segments missing at the beginning of the chain although a checkpoint stands for them: what a lifecycle
    rule leaves, or somebody who deletes the oldest. What is left is sound if there are no problems.
    """

    run: RunKey
    segments: int = 0
    records: int = 0
    epochs: int = 0
    artifacts: int = 0
    checkpoints: int = 0
    expired: int = 0
    last: Header | None = None
    ends: list[Header] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unsupported: UnsupportedLedger | None = None

    @property
    def ended(self) -> bool:
        """The newest segment is the end of an epoch."""
        return self.last is not None and self.last.kind is Kind.END

    def end_of(self, sha256: str) -> Header | None:
        """The ``end`` segment of that hash: the chain has it, and nothing before it was altered if there are no problems."""
        return next((header for header in self.ends if header.sha256 == sha256), None)


def verify(store: Store, run: RunKey, *, at_once: int = _AT_ONCE, keys: Keyring = NO_KEYS) -> Verification:
    """Read and check everything in the run's folder. A run without any segment has ``segments`` 0, and problems only if files are left.

    :param at_once: requests under way at the same time; 1 uses no threads.
    :param keys: with any, an object without a mac, or with one of another key, is a problem.
    :raises StorageError: denied, or out of reach: then nothing is known.
    """
    found = Verification(run)
    check = _Check(store, found, at_once, keys)
    named = check.chain()
    check.artifacts(named)
    return found


def read_artifact(store: Store, run: RunKey, record: Artifact) -> bytes:
    """The bytes of an artifact, checked against its record. The record's path is never followed out of the run's folder.

    :raises CorruptLedger: gone, altered, or its record names another place than where it belongs.
    :raises StorageError: denied, or out of reach.
    """
    key = run.file(record.name, record.sha256)
    path = f"{store.root}/{key}"
    if not _SHA256.fullmatch(record.sha256) or record.path != key:
        raise CorruptLedger(f"{store.root}/{record.path}", f"a record names it as the artifact {record.name!r}, which cannot be there")
    try:
        data = store.get(key)
    except Missing as error:
        raise CorruptLedger(path, "it is gone although a record names it") from error
    if len(data) != record.size:
        raise CorruptLedger(path, f"it has {len(data)} bytes, its record says {record.size}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != record.sha256:
        raise CorruptLedger(path, f"its content hashes to {digest[:12]}..., its record says {record.sha256[:12]}... (altered)")
    return data


class _Check:
    """One pass over a run. ``before`` is the segment before, ``None`` at the beginning; ``torn``: it is not known.

    ``compaction`` is what a checkpoint of everything up to there holds, ``None`` if some of it is not known.
    """

    def __init__(self, store: Store, found: Verification, at_once: int, keys: Keyring) -> None:
        self.store = store
        self.at_once = at_once
        self.keys = keys
        self.run = found.run
        self.found = found
        self.before: Header | None = None
        self.torn = False
        self.compaction: Compaction | None = Compaction()
        self.checkpoints: dict[int, list[bool]] = {}
        self.digests: dict[int, str | None] = {}  # None: it is there, and what is wrong with it is said of it

    def chain(self) -> list[Artifact]:
        """Every segment that is listed, in order. Returns the artifacts that their records name."""
        names = self._list(SEG, lambda name: bool(segments_in([name])))
        for seq, end in checkpoints_in(self._list(CKPT, lambda name: bool(checkpoints_in([name])))):
            self.checkpoints.setdefault(seq, []).append(end)
        named: list[Artifact] = []
        listed = segments_in(names)
        following = self._beginning(listed, named)
        for seq, data in self._fetched(listed):
            if seq > following:
                self._gone(following, seq - 1)
                self._checkpoints_of([gone for gone in self.checkpoints if following <= gone < seq], named)
            following = seq + 1
            named += [entry.record for entry in self._segment(seq, data) if isinstance(entry.record, Artifact)]
            self._checkpoints_of([seq], named)
        for seq, ends in self.checkpoints.items():
            for end in ends:
                if seq >= following:
                    self._problem(f"{self.store.root}/{self.run.checkpoint(seq, end=end)}", "it covers segments that are not there")
        self.found.last = None if self.torn else self.before
        return named

    def _beginning(self, listed: Sequence[int], named: list[Artifact]) -> int:
        """The segment that has to come first: not the first of all if a checkpoint stands for those before it."""
        first = listed[0] if listed else 0
        if not first or max(self.checkpoints, default=-1) < first - 1:
            return 0
        self.found.expired = first
        self.torn, self.compaction = True, None
        self._checkpoints_of([seq for seq in self.checkpoints if seq < first - 1], named)
        for end in self.checkpoints.get(first - 1, ()):
            head, entries = self._checkpoint(first - 1, end=end)
            named += [entry.record for entry in entries if isinstance(entry.record, Artifact)]
            if head is not None:
                self.before, self.torn, self.compaction = head, False, Compaction()
                self.compaction.add(entries)
        return first

    def _checkpoints_of(self, seqs: Sequence[int], named: list[Artifact]) -> None:
        """Those of some segments. If the beginning has expired, they may be all that still names its artifacts."""
        for seq in seqs:
            for end in self.checkpoints.get(seq, ()):
                _, entries = self._checkpoint(seq, end=end)
                if self.found.expired:
                    named += [entry.record for entry in entries if isinstance(entry.record, Artifact)]

    def _checkpoint(self, seq: int, *, end: bool) -> tuple[Header | None, list[Entry]]:
        """Check one: by itself, against the segment that it covers, and against what the chain says up to there."""
        key = self.run.checkpoint(seq, end=end)
        path = f"{self.store.root}/{key}"
        if not end:
            self.digests[seq] = None
        try:
            data = self.store.get(key)
            head, entries, digest = unpack_checkpoint(path, data, self.keys)
        except Missing:
            self._problem(path, "it was listed and is gone")
            return None, []
        except CorruptLedger as error:
            self._problem(path, error.problem)
            return None, []
        except UnsupportedLedger as error:
            self.found.unsupported = self.found.unsupported or error
            return None, []
        self.found.checkpoints += 1
        if not end:
            self.digests[seq] = digest
        known = not self.torn and self.before is not None and self.before.seq == seq
        if head.run != self.run.prefix or head.seq != seq or (end and head.kind is not Kind.END) or (known and head != self.before):
            self._problem(
                path, f"it covers segment {head.seq} of {head.run!r} with the hash {head.sha256[:12]}..., which is not the one there"
            )
            return None, []
        if known and self.compaction is not None and pack_checkpoint(head, self.compaction, self.keys)[0] != data:
            told, meant = RunState(), RunState()
            told.apply(entries)
            meant.apply(self.compaction.entries())
            if told != meant:  # another version may leave out more or less, but never say something else
                self._problem(path, "what it holds is not what the segments up to there say")
        return head, entries

    def artifacts(self, named: Sequence[Artifact]) -> None:
        """Every artifact that a record names, and whatever else lies in the run's folder."""
        checked: dict[str, Artifact] = {}
        for record in named:
            if checked.setdefault(f"{record.path} {record.sha256} {record.size}", record) is not record:
                continue
            try:
                read_artifact(self.store, self.run, record)
                self.found.artifacts += 1
            except CorruptLedger as error:
                self._problem(error.path, error.problem)
        known = {record.path for record in named}
        files = self._list(FILES, lambda name: f"{self.run.prefix}/{FILES}/{name}" in known)
        self._strange(self.run.prefix, [name for name in self.store.list(self.run.prefix) if name not in (SEG, CKPT, FILES)])
        if not self.found.segments and (files or self.checkpoints or self.found.notes):
            self._problem(f"{self.store.root}/{self.run.prefix}/seg", "it holds no segment although the run's folder is not empty")

    def _fetched(self, seqs: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
        """The bytes of each segment; ``None`` for one that was listed and is not there."""

        def fetch(seq: int) -> bytes | None:
            with suppress(Missing):
                return self.store.get(self.run.segment(seq))
            return None

        if self.at_once == 1:
            yield from ((seq, fetch(seq)) for seq in seqs)
            return
        with ThreadPoolExecutor(self.at_once) as pool:
            for start in range(0, len(seqs), _BATCH):
                batch = seqs[start : start + _BATCH]
                yield from zip(batch, pool.map(fetch, batch), strict=True)

    def _segment(self, seq: int, data: bytes | None) -> list[Entry]:
        self.found.segments += 1
        path = self._path(seq)
        if data is None:
            self._gone(seq, seq)
            return []
        try:
            header, lines = unpack_lines(path, data, self.keys)
            entries = [Entry(seq, header.epoch, record_of(path, line), line) for line in lines]
        except CorruptLedger as error:
            self._problem(path, error.problem)
            self._tear()
            return []
        except UnsupportedLedger as error:
            self.found.unsupported = self.found.unsupported or error
            self._tear()
            return []
        for fault in (*self._misplaced(header, seq), *self._unlinked(header)):
            self._problem(path, fault)
        self.before, self.torn = header, False
        if self.compaction is not None:
            self.compaction.add(entries)
        self.found.records += len(entries)
        self.found.epochs = max(self.found.epochs, header.epoch)
        if header.kind is Kind.END:
            self.found.ends.append(header)
            if True not in self.checkpoints.get(seq, ()):
                self.found.notes.append(
                    f"{self.store.root}/{self.run.checkpoint(seq, end=True)}: not there, so readers begin at an earlier one"
                )
        return entries

    def _misplaced(self, header: Header, seq: int) -> Iterator[str]:
        if header.run != self.run.prefix:
            yield f"it belongs to the run {header.run!r}"
        if header.seq != seq:
            yield f"its sequence number is {header.seq}, its place is {seq}"

    def _unlinked(self, header: Header) -> Iterator[str]:
        """Faults of the step from the segment before; none can be told if that one is gone or unreadable, which is said of it."""
        if header.ckpt_seq is not None and self.digests.get(header.ckpt_seq, "") not in (None, header.ckpt_sha256):
            yield f"it names checkpoint {header.ckpt_seq}, which is gone or another one"
        if not self.torn:
            yield from faults_between(self.before, header)

    def _gone(self, first: int, last: int) -> None:
        which = "it is" if first == last else f"it and all up to segment {last} are"
        self._problem(self._path(first), f"{which} gone although later segments are there (deleted, or expired by a lifecycle rule)")
        self._tear()

    def _tear(self) -> None:
        self.torn, self.compaction = True, None

    def _list(self, folder: str, known: Callable[[str], bool]) -> list[str]:
        """The names in one of the run's folders; those that do not belong there are noted."""
        names = self.store.list(f"{self.run.prefix}/{folder}")
        self._strange(f"{self.run.prefix}/{folder}", [name for name in names if not known(name)])
        return names

    def _strange(self, folder: str, names: Sequence[str]) -> None:
        self.found.notes += [f"{self.store.root}/{folder}/{name}: nothing in the ledger names it" for name in names]

    def _path(self, seq: int) -> str:
        return f"{self.store.root}/{self.run.segment(seq)}"

    def _problem(self, path: str, what: str) -> None:
        self.found.problems.append(Problem(path, what))
