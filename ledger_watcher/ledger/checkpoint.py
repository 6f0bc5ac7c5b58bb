"""Checkpoints: the records of a chain up to one segment, without those that later ones made void.

A checkpoint is derived and never needed: it saves a late reader the segments before it, and it is what an epoch stands on when those
have expired. It holds records as they stand in the chain, each with its place, in their order; folding them gives the same state as
folding the whole chain up to there. The same chain makes the same bytes, whoever writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ledger_watcher import codec
from ledger_watcher.errors import CorruptLedger
from ledger_watcher.ledger.keys import NO_KEYS, Keyring
from ledger_watcher.ledger.segments import FORMAT_VERSION, Entry, Header, header_of, record_of, seal, unseal
from ledger_watcher.records import (
    Artifact,
    AttemptFinished,
    AttemptStarted,
    DbtStarted,
    HookFinished,
    Log,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    Plan,
    Record,
    Unknown,
)

_CHECKPOINT = "checkpoint"


@dataclass(slots=True)
class _NodeLines:
    """What is kept of a node: the newest epoch that touched it."""

    epoch: int
    started: int | None = None
    finished: int | None = None
    ok: bool = False
    others: list[int] = field(default_factory=list)


class Compaction:
    """The entries of a chain so far without those that no longer count, in memory: about as many bytes as they have in the file."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[int, int, bytes]] = {}
        self._next = 0
        self._once: dict[tuple[int, str, str], int] = {}
        self._nodes: dict[str, _NodeLines] = {}
        self._last: dict[int, int] = {}
        self.nbytes = 0

    def add(self, entries: Iterable[Entry]) -> None:
        """Take more of the chain, in its order."""
        for entry in entries:
            at = self._next
            self._next += 1
            line = entry.line or codec.encode(entry.record)
            self._entries[at] = (entry.seq, entry.epoch, line)
            self.nbytes += len(line)
            stays = self._keep(at, entry.epoch, entry.record)
            before = self._last.get(entry.epoch)
            self._last[entry.epoch] = at if stays else -at - 1  # its time is the epoch's last sign of life, whatever it says
            if before is not None and before < 0:
                self._forget(-before - 1)

    def entries(self) -> Iterator[Entry]:
        """What is kept, in its order."""
        for at in sorted(self._entries):
            seq, epoch, line = self._entries[at]
            yield Entry(seq, epoch, codec.decode(line), line)

    def lines(self) -> Iterator[bytes]:
        """The lines of a checkpoint."""
        for at in sorted(self._entries):
            yield b'{"seq":%d,"epoch":%d,"record":%s}' % self._entries[at]

    def _keep(self, at: int, epoch: int, record: Record) -> bool:
        """Whether the entry counts by itself. What it makes void is dropped."""
        match record:
            case AttemptStarted() | DbtStarted() | Plan() | AttemptFinished():
                return self._replace((epoch, record.kind, ""), at)
            case HookFinished():
                return self._replace((epoch, record.kind, record.unique_id), at)
            case Artifact():
                return self._replace((epoch, record.kind, record.name), at)
            case NodeStarted() | NodeProgress() | NodeFinished() | Log():
                return self._node(at, epoch, record)
            case Unknown():
                return True  # a newer version may need it
            case _:
                return False

    def _replace(self, key: tuple[int, str, str], at: int) -> bool:
        self._drop(self._once.get(key))
        self._once[key] = at
        return True

    def _node(self, at: int, epoch: int, record: NodeStarted | NodeProgress | NodeFinished | Log) -> bool:
        node = self._nodes.get(record.unique_id)
        if node is None or node.epoch < epoch:
            for old in (node.started, node.finished, *node.others) if node else ():
                self._drop(old)
            node = self._nodes[record.unique_id] = _NodeLines(epoch)
        if node.epoch > epoch:
            return False
        if isinstance(record, NodeFinished):
            if node.ok and not record.outcome.ok:
                return False
            self._drop(node.finished)
            node.finished, node.ok = at, record.outcome.ok
        elif isinstance(record, NodeStarted):
            if node.started is not None:
                return False
            node.started = at
        else:
            node.others.append(at)
        return True

    def _drop(self, at: int | None) -> None:
        """Forget an entry, unless it is the last of its epoch: then it goes when the next one comes."""
        if at is None:
            return
        epoch = self._entries[at][1]
        if self._last[epoch] == at:
            self._last[epoch] = -at - 1
        else:
            self._forget(at)

    def _forget(self, at: int) -> None:
        self.nbytes -= len(self._entries.pop(at)[2])


def pack_checkpoint(head: Header, compaction: Compaction, keys: Keyring = NO_KEYS) -> tuple[bytes, str]:
    """The bytes of the checkpoint of everything up to the segment ``head``, and its hash."""
    lines = list(compaction.lines())
    first = {
        "kind": _CHECKPOINT,
        "v": FORMAT_VERSION,
        "run": head.run,
        "n": len(lines),
        "head": {**head.to_dict(), "sha256": head.sha256},
    }
    return seal(first, lines, keys)


def unpack_checkpoint(path: str, data: bytes, keys: Keyring = NO_KEYS) -> tuple[Header, list[Entry], str]:
    """The newest segment that a checkpoint covers, its entries, and its own hash, all verified.

    :raises CorruptLedger: truncated, altered, or not a checkpoint.
    :raises UnsupportedLedger: of another format version.
    """
    raw, lines, digest = unseal(path, data, _CHECKPOINT, keys)
    head = raw.get("head")
    if not isinstance(head, dict) or not isinstance(head.get("sha256"), str):
        raise CorruptLedger(path, "its header does not name the segment that it covers")
    header = header_of(path, head, head["sha256"])
    if raw.get("run") != header.run:
        raise CorruptLedger(path, f"it names two runs, {raw.get('run')!r} and {header.run!r}")
    entries = [_entry(path, line) for line in lines]
    places = [(entry.seq, entry.epoch) for entry in entries]
    if places != sorted(places) or (places and (places[-1][0] > header.seq or places[-1][1] > header.epoch)):
        raise CorruptLedger(path, "its records do not stand in the order of the chain")
    return header, entries, digest


def _entry(path: str, line: bytes) -> Entry:
    try:
        seq, epoch, record = codec.placed(line)
    except ValueError as error:
        raise CorruptLedger(path, str(error)) from error
    return Entry(seq, epoch, record_of(path, record), record)
