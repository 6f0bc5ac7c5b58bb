"""Records survive their lines; lines that are no records are ValueErrors and nothing else."""

from __future__ import annotations

import dataclasses
import json
import types
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger_watcher import codec
from ledger_watcher.records import (
    KINDS,
    AttemptFinished,
    AttemptStarted,
    EndedBy,
    Heartbeat,
    Log,
    NodeFinished,
    Outcome,
    Plan,
    Record,
    Unknown,
)

NOW = datetime(2026, 7, 31, 10, 0, 0, 123456, tzinfo=timezone.utc)
TEXT = st.text()  # without lone surrogates, as hypothesis has it
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=8,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    datetime: st.datetimes(timezones=st.just(timezone.utc)),
    Any: JSON,
    types.NoneType: st.none(),
}


def values(hint: object) -> st.SearchStrategy[Any]:
    """Values of a field, by its annotation."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(values, args))
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    return SCALARS[hint]


def records_of(kind: type[Record]) -> st.SearchStrategy[Record]:
    """Any record of a kind: a new field is covered as soon as it is there."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{field.name: values(hints[field.name]) for field in dataclasses.fields(kind)})


ANY_RECORD = st.one_of(*map(records_of, KINDS))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@settings(max_examples=40)  # of each kind
@given(data=st.data())
def test_every_kind_survives_its_line(kind: type[Record], data: st.DataObject) -> None:
    """What is written is what is read; an empty dict is the only value that may come back as None."""
    record = data.draw(records_of(kind))
    expected = dataclasses.replace(record, adapter_response=record.adapter_response or None) if isinstance(record, NodeFinished) else record
    assert codec.decode(codec.encode(record)) == expected


@given(record=ANY_RECORD)
def test_a_line_is_one_json_object_with_kind_first_and_nothing_empty_that_a_reader_does_not_need(record: Record) -> None:
    """Optional fields that are None or empty are left out; required ones are always there, so that the line can be read."""
    line = codec.encode(record)
    written = json.loads(line)
    assert b"\n" not in line
    assert next(iter(written.items())) == ("kind", record.kind)
    required = {f.name for f in dataclasses.fields(record) if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    assert required <= written.keys()
    assert [name for name, value in written.items() if value in (None, [], {}) and name not in required] == []


@pytest.mark.parametrize(
    "record",
    [
        Plan(ts=NOW, unique_ids=(), source="ls"),
        AttemptFinished(ts=NOW, exit_code=None, ended_by=EndedBy.LOST),
        AttemptStarted(ts=NOW, attempt=1, command=(), invocation="i", producer_started_at=NOW),
        Log(ts=NOW, unique_id="model.a.b", lines=()),
    ],
    ids=lambda record: record.kind,
)
def test_required_fields_may_be_empty(record: Record) -> None:
    """A plan of nothing and an attempt without an exit code are facts, and readable."""
    assert codec.decode(codec.encode(record)) == record


@given(
    record=st.sampled_from([0, 1]).flatmap(lambda n: records_of((Heartbeat, NodeFinished)[n])), more=st.dictionaries(TEXT, JSON, max_size=3)
)
def test_unknown_fields_are_ignored(record: Record, more: dict[str, Any]) -> None:
    """A newer writer may say more than this reader understands."""
    own = json.loads(codec.encode(record))
    line = json.dumps({**own, **{f"x-{name}": value for name, value in more.items()}}).encode()
    assert codec.decode(line) == codec.decode(codec.encode(record))


@given(kind=TEXT.filter(lambda text: text not in {cls.kind for cls in KINDS}), more=st.dictionaries(TEXT, JSON, max_size=3))
def test_unknown_kinds_are_kept_and_written_back_unchanged(kind: str, more: dict[str, Any]) -> None:
    """A record of a newer version passes through this one."""
    original = {"kind": kind, "ts": "2026-07-31T10:00:00.123456Z", **{f"x-{name}": value for name, value in more.items()}}
    record = codec.decode(json.dumps(original).encode())
    assert isinstance(record, Unknown)
    assert (record.original_kind, record.ts) == (kind, NOW)
    assert json.loads(codec.encode(record)) == original
    assert codec.decode(codec.encode(record)) == record


def test_an_unknown_record_made_by_hand_is_readable() -> None:
    """Its time is written although ``data`` does not hold it."""
    again = codec.decode(codec.encode(Unknown(ts=NOW, original_kind="rested", data={"for": 3})))
    assert again == Unknown(ts=NOW, original_kind="rested", data={"for": 3, "ts": "2026-07-31T10:00:00.123456Z"})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"heartbeat"',
        b"{}",
        b'{"kind":1,"ts":"2026-07-31T10:00:00Z"}',
        b'{"kind":"heartbeat"}',
        b'{"kind":"heartbeat","ts":1}',
        b'{"kind":"heartbeat","ts":"yesterday"}',
        b'{"kind":"heartbeat","ts":"2026-07-31T10:00:00Z"} trailing',
        b'{"kind":"node_started","ts":"2026-07-31T10:00:00Z","unique_id":5}',
        b'{"kind":"node_finished","ts":"2026-07-31T10:00:00Z","unique_id":"a","status":"x","outcome":"wonderful"}',
        b'{"kind":"plan","ts":"2026-07-31T10:00:00Z","unique_ids":"abc","source":"ls"}',
        b'{"kind":"log","ts":"2026-07-31T10:00:00Z","unique_id":"a","lines":["a"],"dropped":1.5}',
        b'{"kind":"heartbeat\xff","ts":"2026-07-31T10:00:00Z"}',
        b'{"kind":"from_the_future"}',
        b'{"kind":"from_the_future","ts":"soon"}',
        b'{"kind":"from_the_future","ts":{}}',
        b'{"kind":"deep","ts":"2026-07-31T10:00:00Z","a":' + b"[" * 100_000,
    ],
)
def test_what_is_no_record_is_a_value_error(line: bytes) -> None:
    """Each of these lines is refused, whatever is wrong with it."""
    with pytest.raises(ValueError, match=r"not (a ledger record|a time)"):
        codec.decode(line)


def decode_or_value_error(line: bytes) -> None:
    """Anything but a record or a ValueError fails the test."""
    try:
        record = codec.decode(line)
    except ValueError:
        return
    assert isinstance(record, Record)


@given(line=st.binary())
@example(line=b'{"kind":"\\ud800","ts":"2026-07-31T10:00:00Z"}')
@example(line=b'{"kind":"x","ts":"9999-12-31T23:59:59-23:59"}')
def test_random_bytes_raise_nothing_but_value_errors(line: bytes) -> None:
    """What decode() raises is always the one thing its callers expect."""
    decode_or_value_error(line)


@given(record=ANY_RECORD, data=st.data())
def test_mutated_lines_raise_nothing_but_value_errors(record: Record, data: st.DataObject) -> None:
    """A record's line with bytes replaced, removed or inserted is a record or a ValueError."""
    line = bytearray(codec.encode(record))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(line) - 1)))
        line[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    decode_or_value_error(bytes(line))


@given(record=ANY_RECORD, data=st.data())
def test_fields_of_other_types_raise_nothing_but_value_errors(record: Record, data: st.DataObject) -> None:
    """A line that is fine JSON with some field holding anything is a record or a ValueError."""
    written = json.loads(codec.encode(record))
    written[data.draw(st.sampled_from(sorted(written)))] = data.draw(JSON)
    decode_or_value_error(json.dumps(written).encode())


class Query:
    """An object such as adapters put into their responses."""

    def __str__(self) -> str:
        return "query \ud800 17"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("bad \ud800 bytes", "bad \\ud800 bytes"),
        ({"key \udcff": ["\udcff"]}, {"key \\udcff": ["\\udcff"]}),
        ({("a", "b"): 1, None: 2}, {"('a', 'b')": 1, "None": 2}),
        (Query(), "query \\ud800 17"),
        ([Query(), 1, True, None, 1.5, ("x",)], ["query \\ud800 17", 1, True, None, 1.5, ["x"]]),
        ({"o": Outcome.WARN, "q": Query(), "t": NOW}, {"o": "warn", "q": "query \\ud800 17", "t": "2026-07-31T10:00:00.123456Z"}),
        (2**80, 2**80),
        (float("nan"), None),
        (Decimal("1.50"), "1.50"),
        (timedelta(seconds=90), "PT90S"),
    ],
)
def test_encoding_never_fails_for_what_an_adapter_or_a_process_hands_over(value: object, written: object) -> None:
    """The writer's append() may not raise: surrogates are escaped, what is no data becomes its text."""
    record = NodeFinished(ts=NOW, unique_id="model.a.b", outcome=Outcome.FAILED, status="error", adapter_response={"r": value})
    assert json.loads(codec.encode(record))["adapter_response"] == {"r": written}


def test_a_message_with_lone_surrogates_is_readable_again() -> None:
    """Output of a subprocess that is not UTF-8 reaches the ledger escaped, and the line can be read."""
    record = codec.decode(codec.encode(Log(ts=NOW, unique_id="model.a.\udce9", lines=("caf\udce9",))))
    assert record == Log(ts=NOW, unique_id="model.a.\\udce9", lines=("caf\\udce9",))


@given(raw=st.binary() | st.text(st.characters()))
def test_loads_raises_nothing_but_value_errors(raw: bytes | str) -> None:
    """JSON of others is read by the same rule; what is JSON equals what the standard library reads."""
    try:
        value = codec.loads(raw)
    except ValueError:
        return
    assert value == json.loads(raw)


@given(text=TEXT | JSON)
def test_time_of_raises_nothing_but_value_errors(text: object) -> None:
    """A time, or a ValueError that shows what was no time."""
    try:
        time = codec.time_of(text)
    except ValueError as error:
        assert str(error).startswith("not a time: ")  # noqa: PT017 - either way is right here
        return
    assert isinstance(time, datetime)


def test_a_time_without_a_zone_is_refused() -> None:
    """It would be another time in every place that reads it, and cannot be compared with the others."""
    line = b'{"kind":"heartbeat","ts":"2026-01-01T00:00:00"}'
    with pytest.raises(ValueError, match="without a zone"):
        codec.decode(line)
    with pytest.raises(ValueError, match="without a zone"):
        codec.decode(line.replace(b"heartbeat", b"from_the_future"))
    assert codec.decode(line.replace(b'00"', b'00+01:00"')).ts.utcoffset() is not None
