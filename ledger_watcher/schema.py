"""A line of a ledger as JSON Schema, made of the dataclasses that the code reads and writes.

It says what a reader of this version accepts: a required field is there, an optional one may be absent or null, more fields may be
there, and a record of another kind is read as long as it has its time. What a schema cannot say (hashes, the order of segments) is in
docs/format.md.
"""

from __future__ import annotations

from typing import Any

from ledger_watcher import codec
from ledger_watcher.ledger.segments import FORMAT_VERSION, Header

_HEADER_KIND = "segment"
_HASHES = ("sha256", "prev")
_AS_WRITTEN = {"kind": "type"}
"""Fields of :class:`Header` that have another name in the file, where ``kind`` tells lines apart."""


def line_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of one line: the header of a segment, a record of a known kind, or one of an unknown kind."""
    definitions = codec.schemas((Header,))
    definitions[Header.__name__] = _header(definitions[Header.__name__])
    records, shared = codec.record_schemas()
    lines = {Header.__name__: definitions[Header.__name__], **records}
    lines["UnknownRecord"] = _unknown([line["properties"]["kind"]["const"] for line in lines.values()])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ledger-watcher:v{FORMAT_VERSION}:line",
        "title": f"A line of a ledger, format version {FORMAT_VERSION}",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in lines],
        "$defs": {**definitions, **shared, **lines},
    }


def _header(schema: dict[str, Any]) -> dict[str, Any]:
    own = {_AS_WRITTEN.get(name, name): {**value} for name, value in schema["properties"].items()}
    for name in _HASHES:
        own[name] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    properties = {"sha256": own.pop("sha256"), "kind": {"const": _HEADER_KIND}, "v": {"const": FORMAT_VERSION}, **own}
    return {**schema, "properties": properties, "required": list(properties)}


def _unknown(known: list[str]) -> dict[str, Any]:
    return {
        "title": "UnknownRecord",
        "description": "A record of a kind that this version does not know: to be passed over.",
        "type": "object",
        "properties": {"kind": {"type": "string", "not": {"enum": known}}, "ts": {"type": "string", "format": "date-time"}},
        "required": ["kind", "ts"],
    }
