"""One segment: its bytes, its header, its hash.

A segment is JSON lines: a header, then ``n`` records. Its first bytes are ``{"sha256":"<64 hex digits>",`` and the hash is that of
every byte after them, the rest of the header included; ``prev`` in the header is the hash of the segment before. So each byte of
a chain but those of its newest object is covered by the next object, and that one's by itself. Checkpoints are sealed alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from ledger_watcher import codec
from ledger_watcher.errors import CorruptLedger, UnsupportedLedger
from ledger_watcher.ledger.keys import NO_KEYS, Keyring
from ledger_watcher.records import Record

FORMAT_VERSION = 1
GENESIS = "0" * 64
"""``prev`` of segment 0."""

_SEGMENT = "segment"
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
    """The first line of a segment, checked on reading. ``ckpt_seq`` and ``ckpt_sha256`` name a checkpoint that is durable, or neither does."""

    run: str
    seq: int
    epoch: int
    writer: str
    kind: Kind
    prev: str
    n: int
    ts: datetime
    ckpt_seq: int | None = None
    ckpt_sha256: str | None = None
    sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The header as it is written, without its hash."""
        line: dict[str, Any] = {
            "kind": _SEGMENT,
            "v": FORMAT_VERSION,
            "type": self.kind.value,
            "run": self.run,
            "seq": self.seq,
            "epoch": self.epoch,
            "writer": self.writer,
            "prev": self.prev,
            "n": self.n,
            "ts": self.ts,
        }
        if self.ckpt_seq is not None:
            line |= {"ckpt_seq": self.ckpt_seq, "ckpt_sha256": self.ckpt_sha256}
        return line


@dataclass(frozen=True, slots=True)
class Entry:
    """A record, where it stands, and the line that it was read from (empty if it was not read)."""

    seq: int
    epoch: int
    record: Record
    line: bytes = b""


def pack(header: Header, records: list[bytes], keys: Keyring = NO_KEYS) -> tuple[bytes, str]:
    """The bytes of a segment and its hash. ``records`` are encoded lines without newline; ``header.n`` is ignored and set."""
    return seal({**header.to_dict(), "n": len(records)}, records, keys)


def unpack(path: str, data: bytes) -> tuple[Header, list[Record]]:
    """Header and records of a segment, its own hash verified.

    :raises CorruptLedger: truncated, altered, or not a segment.
    :raises UnsupportedLedger: of another format version.
    """
    header, lines = unpack_lines(path, data)
    return header, [record_of(path, line) for line in lines]


def unpack_lines(path: str, data: bytes, keys: Keyring = NO_KEYS) -> tuple[Header, list[bytes]]:
    """As :func:`unpack`, the records as they stand: a checkpoint takes lines over, fields that this version does not know included."""
    raw, lines, digest = unseal(path, data, _SEGMENT, keys)
    return header_of(path, raw, digest), lines


def record_of(path: str, line: bytes) -> Record:
    """The record of a line.

    :raises CorruptLedger: it is none.
    """
    try:
        return codec.decode(line)
    except ValueError as error:
        raise CorruptLedger(path, str(error)) from error


def seal(first: dict[str, Any], lines: list[bytes], keys: Keyring = NO_KEYS) -> tuple[bytes, str]:
    """An object of JSON lines, ``first`` being its header, with its hash in front, and that hash. With a key, its header ends with a mac."""
    covered = b"\n".join((codec.dumps(first)[1:], *lines, b""))
    if keys:
        covered = b"\n".join((codec.dumps({**first, "mac": keys.mac(covered)})[1:], *lines, b""))
    digest = hashlib.sha256(covered).hexdigest()
    return b"".join((_HEAD, digest.encode(), _TAIL, covered)), digest


def unseal(path: str, data: bytes, kind: str, keys: Keyring = NO_KEYS) -> tuple[dict[str, Any], list[bytes], str]:
    """Header, lines and hash of an object of that ``kind``, the hash and the number of lines verified; with a key, the mac too.

    :raises CorruptLedger: truncated, altered, or something else.
    :raises UnsupportedLedger: of another format version.
    """
    covered = data[_BODY_AT:]
    claimed = data[len(_HEAD) : len(_HEAD) + 64]
    if not data.startswith(_HEAD) or data[len(_HEAD) + 64 : _BODY_AT] != _TAIL:
        _refuse_other_version(path, data)
        raise CorruptLedger(path, f"it does not begin like a {kind}")
    digest = hashlib.sha256(covered).hexdigest()
    if digest.encode() != claimed:
        raise CorruptLedger(
            path,
            f"its content hashes to {digest[:12]}..., its header says {claimed[:12].decode('ascii', 'replace')}... (truncated or altered)",
        )
    first, *lines = covered.split(b"\n")
    try:
        raw = codec.loads(b"{" + first)
    except ValueError as error:
        raise CorruptLedger(path, f"its header is {error}") from error
    if not isinstance(raw, dict) or raw.get("kind") != kind:
        raise CorruptLedger(path, f"its first line is not a {kind} header")
    if type(raw.get("v")) is not int or raw["v"] != FORMAT_VERSION:  # true and 1.0 are equal to 1
        raise UnsupportedLedger(path, raw.get("v"), FORMAT_VERSION)
    if not lines or lines[-1] != b"" or len(lines) - 1 != raw.get("n"):
        raise CorruptLedger(path, f"it holds {max(0, len(lines) - 1)} records, its header says {raw.get('n')}")
    keys.check(path, covered)
    return raw, lines[:-1], digest


def header_of(path: str, raw: dict[str, Any], digest: str) -> Header:
    """The segment header that ``raw`` is.

    :raises CorruptLedger: a field is missing or of a wrong type.
    """
    try:
        ckpt = raw.get("ckpt_seq") is not None
        return Header(
            run=typed(raw, "run", str),
            seq=typed(raw, "seq", int),
            epoch=typed(raw, "epoch", int),
            writer=typed(raw, "writer", str),
            kind=Kind(typed(raw, "type", str)),
            prev=typed(raw, "prev", str),
            n=typed(raw, "n", int),
            ts=codec.time_of(typed(raw, "ts", str)),
            ckpt_seq=typed(raw, "ckpt_seq", int) if ckpt else None,
            ckpt_sha256=typed(raw, "ckpt_sha256", str) if ckpt else None,
            sha256=digest,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptLedger(path, f"its header has a wrong or missing field: {error}") from error


def typed(raw: dict[str, Any], name: str, kind: type) -> Any:  # noqa: ANN401
    """A field of a header.

    :raises KeyError: it is missing.
    :raises TypeError: it is of another type; ``true`` is no number.
    """
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
