"""Checking a whole run: every segment, every link between two of them, every artifact that a record names.

Unlike a reader, which stops at the first object that is wrong, this names all of them. What it proves: each segment holds its own
hash and that of the segment before, so a chain without problems was not altered anywhere, unless everything from the altered place
to the newest segment was written anew or taken away. Only a hash kept elsewhere, an anchor, shows that: nothing up to an ``end``
segment of that hash was altered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ledger_watcher.errors import CorruptLedger, Missing, UnsupportedLedger
from ledger_watcher.ledger.layout import RunKey, segment_name
from ledger_watcher.ledger.segments import GENESIS, Header, Kind, unpack
from ledger_watcher.records import Artifact, Record

if TYPE_CHECKING:
    from ledger_watcher.storage import Store

_AT_ONCE = 8
_BATCH = 64
"""Segments that are held in memory at a time."""
_SEGMENT = re.compile(r"[0-9]{10,}\.jsonl")
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
    """What was found. ``last`` is the newest segment if that one is sound; ``unsupported`` names one of a newer format."""

    run: RunKey
    segments: int = 0
    records: int = 0
    epochs: int = 0
    artifacts: int = 0
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


def verify(store: Store, run: RunKey, *, at_once: int = _AT_ONCE) -> Verification:
    """Read and check everything in the run's folder. A run without any segment has ``segments`` 0, and problems only if files are left.

    :param at_once: requests under way at the same time; 1 uses no threads.
    :raises StorageError: denied, or out of reach: then nothing is known.
    """
    found = Verification(run)
    check = _Check(store, found, at_once)
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
    """One pass over a run. ``before`` is the segment before, ``None`` at the beginning; ``torn``: it is not known."""

    def __init__(self, store: Store, found: Verification, at_once: int) -> None:
        self.store = store
        self.at_once = at_once
        self.run = found.run
        self.found = found
        self.before: Header | None = None
        self.torn = False

    def chain(self) -> list[Artifact]:
        """Every segment that is listed, in order. Returns the artifacts that their records name."""
        folder = f"{self.run.prefix}/seg"
        listed = {name: _seq(name) for name in self.store.list(folder)}
        self._strange(folder, [name for name, seq in listed.items() if seq is None])
        named: list[Artifact] = []
        following = 0
        for seq, data in self._fetched(sorted(seq for seq in listed.values() if seq is not None)):
            if seq > following:
                self._gone(following, seq - 1)
            following = seq + 1
            named += [record for record in self._segment(seq, data) if isinstance(record, Artifact)]
        self.found.last = None if self.torn else self.before
        return named

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
        folder = f"{self.run.prefix}/files"
        known = {record.path for record in named}
        files = self.store.list(folder)
        self._strange(folder, [name for name in files if f"{folder}/{name}" not in known])
        self._strange(self.run.prefix, [name for name in self.store.list(self.run.prefix) if name not in ("seg", "files")])
        if not self.found.segments and (files or self.found.notes):
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

    def _segment(self, seq: int, data: bytes | None) -> list[Record]:
        self.found.segments += 1
        path = self._path(seq)
        if data is None:
            self._gone(seq, seq)
            return []
        try:
            header, records = unpack(path, data)
        except CorruptLedger as error:
            self._problem(path, error.problem)
            self.torn = True
            return []
        except UnsupportedLedger as error:
            self.found.unsupported = self.found.unsupported or error
            self.torn = True
            return []
        for fault in (*self._misplaced(header, seq), *self._unlinked(header)):
            self._problem(path, fault)
        self.before, self.torn = header, False
        self.found.records += len(records)
        self.found.epochs = max(self.found.epochs, header.epoch)
        if header.kind is Kind.END:
            self.found.ends.append(header)
        return records

    def _misplaced(self, header: Header, seq: int) -> Iterator[str]:
        if header.run != self.run.prefix:
            yield f"it belongs to the run {header.run!r}"
        if header.seq != seq:
            yield f"its sequence number is {header.seq}, its place is {seq}"

    def _unlinked(self, header: Header) -> Iterator[str]:
        """Faults of the step from the segment before; none can be told if that one is gone or unreadable, which is said of it."""
        if self.torn:
            return
        before = self.before
        if header.prev != (before.sha256 if before else GENESIS):
            other = f"segment {before.seq}" if before else "the beginning of a chain"
            yield f"it does not follow from {other}: its prev is {header.prev[:12]}... (one of the two was altered or exchanged)"
        epoch = before.epoch if before else 0
        if header.kind is Kind.FENCE:
            fits = header.epoch == epoch + 1
        else:
            fits = before is not None and before.kind is not Kind.END and header.epoch == epoch
        if not fits:
            yield f"a {header.kind.value} segment of epoch {header.epoch} cannot stand here"
        if header.kind is not Kind.FENCE and before is not None and header.writer != before.writer:
            yield f"its writer {header.writer!r} never claimed this epoch"

    def _gone(self, first: int, last: int) -> None:
        which = "it is" if first == last else f"it and all up to segment {last} are"
        self._problem(self._path(first), f"{which} gone although later segments are there (deleted, or expired by a lifecycle rule)")
        self.torn = True

    def _strange(self, folder: str, names: Sequence[str]) -> None:
        self.found.notes += [f"{self.store.root}/{folder}/{name}: nothing in the ledger names it" for name in names]

    def _path(self, seq: int) -> str:
        return f"{self.store.root}/{self.run.segment(seq)}"

    def _problem(self, path: str, what: str) -> None:
        self.found.problems.append(Problem(path, what))


def _seq(name: str) -> int | None:
    """The number of a segment's file, ``None`` if it is not the name of one."""
    seq = int(name.removesuffix(".jsonl")) if _SEGMENT.fullmatch(name) else None
    return seq if seq is not None and segment_name(seq) == name else None
