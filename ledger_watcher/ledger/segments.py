"""One segment: its bytes, its header, its hash.

A segment is JSON lines: a header, then ``n`` records. Its first bytes are ``{"sha256":"<64 hex digits>",`` and the hash is that of
every byte after them, the rest of the header included; ``prev`` in the header is the hash of the segment before. So each byte of
a chain but those of its newest object is covered by the next object, and that one's by itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from ledger_watcher import codec
from ledger_watcher.errors import CorruptLedger, UnsupportedLedger
from ledger_watcher.records import Record

FORMAT_VERSION = 1
GENESIS = "0" * 64
"""``prev`` of segment 0."""

_HEAD = b'{"sha256":"'
_TAIL = b'",'
_BODY_AT = len(_HEAD) + 64 + len(_TAIL)


class Kind(str, Enum):
    """What a segment is: the first of an epoch, more of it, or its end (the commit point)."""

    FENCE = "fence"
    DATA = "data"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of a segment, checked on reading."""

    run: str
    seq: int
    epoch: int
    writer: str
    kind: Kind
    prev: str
    n: int
    ts: datetime
    sha256: str = ""


def pack(header: Header, records: list[bytes]) -> tuple[bytes, str]:
    """The bytes of a segment and its hash. ``records`` are encoded lines without newline; ``header.n`` is ignored and set."""
    line: dict[str, Any] = {
        "kind": "segment",
        "v": FORMAT_VERSION,
        "type": header.kind.value,
        "run": header.run,
        "seq": header.seq,
        "epoch": header.epoch,
        "writer": header.writer,
        "prev": header.prev,
        "n": len(records),
        "ts": header.ts,
    }
    covered = b"\n".join((codec.dumps(line)[1:], *records, b""))
    digest = hashlib.sha256(covered).hexdigest()
    return b"".join((_HEAD, digest.encode(), _TAIL, covered)), digest


def unpack(path: str, data: bytes) -> tuple[Header, list[Record]]:
    """Header and records of a segment, its own hash verified.

    :raises CorruptLedger: truncated, altered, or not a segment.
    :raises UnsupportedLedger: of another format version.
    """
    covered = data[_BODY_AT:]
    claimed = data[len(_HEAD) : len(_HEAD) + 64]
    if not data.startswith(_HEAD) or data[len(_HEAD) + 64 : _BODY_AT] != _TAIL:
        _refuse_other_version(path, data)
        raise CorruptLedger(path, "it does not begin like a segment")
    digest = hashlib.sha256(covered).hexdigest()
    if digest.encode() != claimed:
        raise CorruptLedger(
            path,
            f"its content hashes to {digest[:12]}..., its header says {claimed[:12].decode('ascii', 'replace')}... (truncated or altered)",
        )
    first, *lines = covered.split(b"\n")
    header = _header(path, b"{" + first, digest)
    if not lines or lines[-1] != b"" or len(lines) - 1 != header.n:
        raise CorruptLedger(path, f"it holds {max(0, len(lines) - 1)} records, its header says {header.n}")
    try:
        return header, [codec.decode(line) for line in lines[:-1]]
    except ValueError as error:
        raise CorruptLedger(path, str(error)) from error


def _header(path: str, line: bytes, digest: str) -> Header:
    try:
        raw = codec.loads(line)
    except ValueError as error:
        raise CorruptLedger(path, f"its header is {error}") from error
    if not isinstance(raw, dict) or raw.get("kind") != "segment":
        raise CorruptLedger(path, "its first line is not a segment header")
    if type(raw.get("v")) is not int or raw["v"] != FORMAT_VERSION:  # true and 1.0 are equal to 1
        raise UnsupportedLedger(path, raw.get("v"), FORMAT_VERSION)
    try:
        return Header(
            run=_typed(raw, "run", str),
            seq=_typed(raw, "seq", int),
            epoch=_typed(raw, "epoch", int),
            writer=_typed(raw, "writer", str),
            kind=Kind(_typed(raw, "type", str)),
            prev=_typed(raw, "prev", str),
            n=_typed(raw, "n", int),
            ts=codec.time_of(_typed(raw, "ts", str)),
            sha256=digest,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptLedger(path, f"its header has a wrong or missing field: {error}") from error


def _typed(raw: dict[str, Any], name: str, kind: type) -> Any:  # noqa: ANN401
    value = raw[name]
    if type(value) is not kind:
        raise TypeError(f"{name} is {value!r}")
    return value


def _refuse_other_version(path: str, data: bytes) -> None:
    """A later format may look different altogether; what still has a ``v`` in its first line is named as such."""
    try:
        raw = codec.loads(data.split(b"\n", 1)[0])
    except ValueError:
        return
    if isinstance(raw, dict) and "v" in raw and raw["v"] != FORMAT_VERSION:
        raise UnsupportedLedger(path, raw["v"], FORMAT_VERSION)
