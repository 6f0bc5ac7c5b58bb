"""Records to JSON lines and back. msgspec stays in here, and in :mod:`ledger_watcher.plain`.

A line is one JSON object whose first key is ``kind``. Unknown kinds become :class:`~ledger_watcher.records.Unknown`, unknown
fields are ignored, a known kind with a field of a wrong type is a ``ValueError``: what that means is for the caller to say.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import MISSING, fields
from datetime import datetime
from typing import Any, get_args, get_type_hints

import msgspec

from ledger_watcher import plain
from ledger_watcher.records import KINDS, Record, Unknown


class _Kind(msgspec.Struct):
    kind: str


class _Placed(msgspec.Struct):
    seq: int
    epoch: int
    record: msgspec.Raw


_BY_KIND: dict[str, type[Record]] = {cls.kind: cls for cls in KINDS}
_FIELDS: dict[type[Record], dict[str, bool]] = {
    cls: {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(cls)} for cls in KINDS
}
"""Names of the fields, and whether a reader needs them: those are written even when ``None`` or empty."""
_TIMES: dict[type[Record], tuple[str, ...]] = {
    cls: tuple(name for name, hint in get_type_hints(cls).items() if datetime in (hint, *get_args(hint))) for cls in KINDS
}
"""Names of the fields that are times."""
_kind_decoder = msgspec.json.Decoder(_Kind)
_placed_decoder = msgspec.json.Decoder(_Placed)
_decoders: dict[str, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(cls) for kind, cls in _BY_KIND.items()}


def to_dict(record: Record) -> dict[str, Any]:
    """The record as it is written: ``kind`` first, then every field that is required, or neither ``None`` nor empty."""
    if isinstance(record, Unknown):
        return {"kind": record.original_kind, "ts": record.ts, **record.data}
    names = _FIELDS[type(record)].items()
    values = {name: value for name, required in names if (value := getattr(record, name)) not in (None, (), {}) or required}
    return {"kind": record.kind, **values}


def encode(record: Record) -> bytes:
    """One line, without its newline. It never fails for what a field holds: see :func:`dumps`."""
    return dumps(to_dict(record))


def decode(line: bytes) -> Record:
    """The record of one line.

    :raises ValueError: not JSON, not an object with a ``kind``, or a known kind with a field of a wrong type.
    """
    try:
        kind = _kind_decoder.decode(line).kind
        decoder = _decoders.get(kind)
        if decoder is not None:
            return _zoned(decoder.decode(line))
        data = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a ledger record: {error}") from error
    known = {key: value for key, value in data.items() if key != "kind"}
    return Unknown(ts=time_of(data.get("ts")), original_kind=kind, data=known)


def placed(line: bytes) -> tuple[int, int, bytes]:
    """``seq``, ``epoch`` and the record's own line of a line of a checkpoint.

    :raises ValueError: it is none.
    """
    try:
        found = _placed_decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a line of a checkpoint: {error}") from error
    return found.seq, found.epoch, bytes(found.record)


def _zoned(record: Record) -> Record:
    """The record, if none of its times lacks a zone: such a time is another one in every place that reads it."""
    for name in _TIMES[type(record)]:
        value = getattr(record, name)
        if value is not None and value.tzinfo is None:
            raise ValueError(f"not a ledger record: {record.kind}.{name} is a time without a zone")
    return record


loads = plain.loads
"""Plain data from JSON, see :func:`ledger_watcher.plain.loads`."""


def dumps(value: object) -> bytes:
    """Compact JSON, as :func:`ledger_watcher.plain.dumps` makes it, of a record or of plain data."""
    return plain.dumps(to_dict(value) if isinstance(value, Record) else value)


def time_of(text: object) -> datetime:
    """The time of an RFC 3339 string.

    :raises ValueError: not one.
    """
    try:
        time: datetime = msgspec.convert(text, type=datetime)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a time: {text!r}") from error
    if time.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    return time


def record_schemas() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """JSON Schemas of the lines of every kind of record, and of what they share, both by class name: see :func:`schemas`."""
    shared = schemas(KINDS)
    lines: dict[str, dict[str, Any]] = {}
    for cls in KINDS:
        schema = shared.pop(cls.__name__)
        properties = {"kind": {"const": cls.kind}, **schema["properties"]}
        lines[cls.__name__] = {**schema, "properties": properties, "required": ["kind", *schema["required"]]}
    return lines, shared


def schemas(types: Iterable[type]) -> dict[str, dict[str, Any]]:
    """JSON Schemas of dataclasses and of the enums in them, by class name. They refer to each other as ``#/$defs/<name>``."""
    types = tuple(types)
    _, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    found: dict[str, dict[str, Any]] = loads(dumps(components))  # some defaults are tuples
    for schema in found.values():
        schema["description"] = inspect.cleandoc(schema["description"]).replace("``", "`")
    for cls in types:
        for name, hint in get_type_hints(cls).items():
            if datetime in (hint, *get_args(hint)):  # which msgspec has as a string of any form
                schema = found[cls.__name__]["properties"][name]
                for member in schema.get("anyOf", [schema]):
                    member.update({"format": "date-time"} if member["type"] == "string" else {})
    return found
