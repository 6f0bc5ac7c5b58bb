"""A segment is what was packed, or it is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_watcher import codec
from ledger_watcher.errors import CorruptLedger, UnsupportedLedger
from ledger_watcher.ledger.segments import GENESIS, Header, Kind, pack, unpack
from ledger_watcher.records import Heartbeat, Log, Record

NOW = datetime(2026, 7, 31, 10, 0, 0, 123456, tzinfo=timezone.utc)
HEADER = Header(run="v1/x", seq=3, epoch=2, writer="w", kind=Kind.DATA, prev="a" * 64, n=0, ts=NOW)
PATH = "s3://b/v1/x/seg/0000000003.jsonl"
SMALL = [Heartbeat(ts=NOW)]


def packed(records: list[Record], header: Header = HEADER) -> bytes:
    """The bytes of a segment."""
    return pack(header, [codec.encode(record) for record in records])[0]


def with_hash(line: str, *records: str) -> bytes:
    """A segment with a right hash over whatever it says; ``line`` is the header without its hash."""
    covered = "".join(f"{part}\n" for part in (line, *records)).encode()
    return b'{"sha256":"' + hashlib.sha256(covered).hexdigest().encode() + b'",' + covered


@given(
    run=st.text(),
    seq=st.integers(0, 10**10),
    epoch=st.integers(1, 10**6),
    writer=st.text(),
    kind=st.sampled_from(Kind),
    texts=st.lists(st.lists(st.text(), max_size=3), max_size=5),
)
def test_what_is_packed_is_unpacked(run: str, seq: int, epoch: int, writer: str, kind: Kind, texts: list[list[str]]) -> None:
    """Header and records come back, with the hash that pack() returned and the number of records."""
    records = [Log(ts=NOW, unique_id="model.a.b", lines=tuple(lines)) for lines in texts]
    header = Header(run=run, seq=seq, epoch=epoch, writer=writer, kind=kind, prev=GENESIS, n=-1, ts=NOW)
    data, digest = pack(header, [codec.encode(record) for record in records])
    assert unpack(PATH, data) == (replace(header, n=len(records), sha256=digest), records)


def test_the_bytes_are_those_of_the_format() -> None:
    """A reader in another language can rely on this: JSON lines, the hash first and over all that follows it."""
    data = packed([*SMALL, *SMALL])
    header, *records = data.decode().split("\n")
    assert list(json.loads(header)) == ["sha256", "kind", "v", "type", "run", "seq", "epoch", "writer", "prev", "n", "ts"]
    assert json.loads(header) | {"sha256": None} == {
        "sha256": None,
        "kind": "segment",
        "v": 1,
        "type": "data",
        "run": "v1/x",
        "seq": 3,
        "epoch": 2,
        "writer": "w",
        "prev": "a" * 64,
        "n": 2,
        "ts": "2026-07-31T10:00:00.123456Z",
    }
    assert records == ['{"kind":"heartbeat","ts":"2026-07-31T10:00:00.123456Z"}'] * 2 + [""]
    assert json.loads(header)["sha256"] == hashlib.sha256(data[77:]).hexdigest()


def test_every_flip_of_a_byte_is_noticed() -> None:
    """Each byte of a segment, each of the other 255 values: never read as if nothing had happened."""
    data = packed(SMALL)
    for at in range(len(data)):
        for flip in range(1, 256):
            altered = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            with pytest.raises((CorruptLedger, UnsupportedLedger)):
                unpack(PATH, altered)


def test_every_truncation_and_extension_is_noticed() -> None:
    """A half-copied object is refused at whatever byte it ends, and so is one with something behind it."""
    data = packed(SMALL)
    for end in range(len(data)):
        with pytest.raises(CorruptLedger):
            unpack(PATH, data[:end])
    for more in (b"\n", b" ", b"\x00", data, data.split(b"\n")[1] + b"\n"):
        with pytest.raises(CorruptLedger):
            unpack(PATH, data + more)
        with pytest.raises(CorruptLedger):
            unpack(PATH, more + data)


@given(st.binary())
def test_random_bytes_are_refused(data: bytes) -> None:
    """Nothing but the two errors that name the object."""
    with pytest.raises((CorruptLedger, UnsupportedLedger)):
        unpack(PATH, data)


@pytest.mark.parametrize("error", [CorruptLedger], ids=["corrupt"])
def test_the_error_names_the_object_and_what_to_do(error: type[CorruptLedger]) -> None:
    """Somebody reads this at night: which object, what is wrong with it, what now."""
    with pytest.raises(error, match=r"truncated or altered") as caught:
        unpack(PATH, packed(SMALL)[:-3])
    assert caught.value.path == PATH
    assert str(caught.value).startswith(f"{PATH} is corrupt: ")
    assert "restore the object" in str(caught.value)


LINE = json.dumps({"kind": "segment", "v": 1, "type": "data", "run": "r", "seq": 1, "epoch": 1, "writer": "w", "prev": GENESIS, "n": 0})[
    1:-1
]
TS = ',"ts":"2026-07-31T10:00:00Z"}'


def test_the_hand_made_header_of_these_tests_is_read() -> None:
    """Otherwise the refusals below would show nothing."""
    header, records = unpack(PATH, with_hash(LINE + TS))
    assert (header.run, header.seq, records) == ("r", 1, [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kind": "segment"', '"kind": "heartbeat"'),
        ('"type": "data"', '"type": "other"'),
        ('"type": "data"', '"type": 1'),
        ('"seq": 1', '"seq": "1"'),
        ('"seq": 1', '"seq": true'),
        ('"epoch": 1', '"epoch": 1.0'),
        ('"n": 0', '"n": 1'),
        ('"n": 0', '"n": -1'),
        ('"n": 0', '"n": null'),
        ('"run": "r"', '"run": null'),
        ('"writer": "w", ', ""),
        ('"prev"', '"before"'),
    ],
)
def test_a_header_with_a_right_hash_and_wrong_fields_is_refused(old: str, new: str) -> None:
    """A writer with a bug is found out too: each field is checked."""
    assert old in LINE
    with pytest.raises(CorruptLedger):
        unpack(PATH, with_hash(LINE.replace(old, new) + TS))


@pytest.mark.parametrize("line", ["", "}", "]", '"a":1', "null", LINE + "}", LINE + ',"ts":5}', LINE + ',"ts":"then"}'])
def test_a_first_line_that_is_no_header_is_refused(line: str) -> None:
    """A right hash does not make a segment."""
    with pytest.raises((CorruptLedger, UnsupportedLedger)):
        unpack(PATH, with_hash(line))


@pytest.mark.parametrize(
    "record", ["", "{", "[]", '{"kind":"heartbeat"}', '{"kind":"log","ts":"2026-07-31T10:00:00Z","unique_id":1,"lines":[]}']
)
def test_a_record_that_is_none_is_refused(record: str) -> None:
    """The records of a segment are decoded with it, and a bad one makes the object corrupt."""
    with pytest.raises(CorruptLedger):
        unpack(PATH, with_hash(LINE.replace('"n": 0', '"n": 1') + TS, record))


def test_a_last_line_without_its_end_is_refused() -> None:
    """With a right hash and a right count, a line more that breaks off in the middle is still not passed over."""
    line = (LINE.replace('"n": 0', '"n": 1') + TS).encode()
    covered = line + b'\n{"kind":"heartbeat","ts":"2026-07-31T10:00:00Z"}\n{"kind":"hea'
    with pytest.raises(CorruptLedger, match="holds 1 records"):
        unpack(PATH, b'{"sha256":"' + hashlib.sha256(covered).hexdigest().encode() + b'",' + covered)


def test_records_of_unknown_kinds_and_unknown_header_fields_are_accepted() -> None:
    """What a newer version adds within format 1 does not stop an older reader."""
    line = LINE.replace('"n": 0', '"n": 1') + ',"compressed":false' + TS
    _, [record] = unpack(PATH, with_hash(line, '{"kind":"rested","ts":"2026-07-31T10:00:00Z"}'))
    assert record.original_kind == "rested"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "data",
    [
        with_hash(LINE.replace('"v": 1', '"v": 2') + TS),
        with_hash(LINE.replace('"v": 1', '"v": 2') + TS, "anything", "at all"),
        b'{"kind":"segment","v":2,"layout":"quite another"}\n{"kind":"heartbeat"}\n',
        b'{"v":2}',
        b'{"blake3":"00","v":"2.1"}\nrest',
    ],
)
def test_another_version_is_named_with_what_to_do(data: bytes) -> None:
    """A later format, whatever it looks like, is not called corrupt: the reader is to be upgraded."""
    with pytest.raises(
        UnsupportedLedger, match=r"ledger format version '?2.*reads version 1.*Upgrade ledger-watcher.*pip install -U"
    ) as caught:
        unpack(PATH, data)
    assert caught.value.path == PATH
