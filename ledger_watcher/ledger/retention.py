"""Deleting whole runs that are older than a bound.

In an order in which whatever is left, if it is interrupted or an attempt claims the run meanwhile, is either sound or named by ``verify``,
and found again by the next :func:`plan`: all segments but the newest, from the first on (a chain whose beginning has expired, which its
checkpoint stands for), the checkpoints, the files, and last the newest segment, which tells the run's age. Only what was listed at first
is deleted; each step looks first whether something new is there, and stops if so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ledger_watcher.errors import Missing
from ledger_watcher.ledger.layout import CKPT, FILES, SEG, RunKey, checkpoints_in, segments_in
from ledger_watcher.ledger.segments import Header, Kind, unpack_lines

if TYPE_CHECKING:
    from ledger_watcher.storage import Store

SILENT = timedelta(days=1)
"""A run without an end is taken for live while its newest record is younger, whatever bound is asked for: a writer may wait for a storage
that is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """A run, what there is of it, and whether it may go. ``kept`` says why not; ``young``: only because of its age."""

    run: RunKey
    segments: tuple[int, ...]
    checkpoints: tuple[tuple[int, bool], ...]
    newest: Header | None
    kept: str | None = None
    young: bool = False
    files: tuple[str, ...] = ()

    @property
    def keys(self) -> list[str]:
        """Its objects in the order in which they are deleted."""
        return [key for step in self.steps() for key in step]

    def steps(self) -> Iterator[list[str]]:
        """Its objects, step by step."""
        yield [self.run.segment(seq) for seq in self.segments[:-1]]
        yield [self.run.checkpoint(seq, end=end) for seq, end in self.checkpoints]
        yield [f"{self.run.prefix}/{FILES}/{name}" for name in self.files]
        yield [self.run.segment(seq) for seq in self.segments[-1:]]


def look(store: Store, run: RunKey, now: datetime, older_than: timedelta, *, claimed: bool = False) -> Expiry:
    """Whether a run may be deleted: two lists and one get, and one list more if so.

    Its age is that of its newest segment, by the clock of who wrote it. It is kept if it is younger than ``older_than``; if it has no end
    and is younger than :data:`SILENT`; or if an attempt has perhaps begun to claim it, which is to be seen only by a checkpoint of the
    newest segment that is not that of an end. Such a one is left also by a writer that died just then: ``claimed`` deletes those, too.

    :raises CorruptLedger: the newest segment cannot be read, so the run's age is unknown.
    :raises StorageError: denied, or out of reach.
    """
    segments = segments_in(store.list(f"{run.prefix}/{SEG}"))
    checkpoints = checkpoints_in(store.list(f"{run.prefix}/{CKPT}"))
    found = Expiry(run=run, segments=tuple(segments), checkpoints=tuple(checkpoints), newest=None)
    if not segments:
        return replace(found, kept="it has no segment")
    key = run.segment(segments[-1])
    try:
        newest, _ = unpack_lines(f"{store.root}/{key}", store.get(key))
    except Missing:
        return replace(found, kept="it is being deleted")
    found = replace(found, newest=newest)
    age = now - newest.ts
    if age < older_than:
        return replace(found, kept="young", young=True)
    if newest.kind is not Kind.END and age < SILENT:
        return replace(found, kept="it may be live: it has no end and wrote less than a day ago")
    if not claimed and _being_claimed(found):
        return replace(found, kept="an attempt may be claiming it, or died when it was about to")
    return replace(found, files=tuple(store.list(f"{run.prefix}/{FILES}")))


def delete(store: Store, expiry: Expiry, deleted: Callable[[str], object]) -> bool:
    """Delete a run that may go; ``deleted`` is told each key that is gone. ``False``: an attempt claimed it meanwhile, and the rest stays.

    :raises StorageError: denied, or out of reach; what is left is named by ``verify`` and may be deleted later.
    """
    if expiry.kept is not None:
        raise ValueError(f"{expiry.run} is kept: {expiry.kept}")  # a mistake in this package, not a user's
    for keys in expiry.steps():
        if keys and _claimed_since(store, expiry):
            return False
        for key in keys:
            store.delete(key)
            deleted(key)
    return True


def _being_claimed(expiry: Expiry) -> bool:
    newest = expiry.checkpoints[-1] if expiry.checkpoints else None
    return newest is not None and not newest[1] and newest[0] >= expiry.segments[-1]


def _claimed_since(store: Store, expiry: Expiry) -> bool:
    segments = segments_in(store.list(f"{expiry.run.prefix}/{SEG}"))
    checkpoints = checkpoints_in(store.list(f"{expiry.run.prefix}/{CKPT}"))
    return not set(segments) <= set(expiry.segments) or not set(checkpoints) <= set(expiry.checkpoints)
