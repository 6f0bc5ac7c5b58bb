"""A line of a ledger as JSON Schema, made of the dataclasses that the code reads and writes.

It says what a reader of this version accepts: a required field is there, an optional one may be absent or null, more fields may be
there, and a record of another kind is read as long as it has its time. What a schema cannot say (hashes, the order of segments) is in
docs/format.md.
"""

from __future__ import annotations

from typing import Any

from ledger_watcher import codec
from ledger_watcher.ledger.segments import FORMAT_VERSION, Header

_HEADER_KIND, _CHECKPOINT_KIND = "segment", "checkpoint"
_HASH = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_HASHES = ("sha256", "prev")
_OPTIONAL = ("ckpt_seq", "ckpt_sha256", "mac")
_AS_WRITTEN = {"kind": "type"}
"""Fields of :class:`Header` that have another name in the file, where ``kind`` tells lines apart."""


def line_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of one line: a header of a segment or checkpoint, a record, known or not, or a checkpoint's line around one."""
    definitions = codec.schemas((Header,))
    definitions[Header.__name__] = _header(definitions[Header.__name__])
    records, shared = codec.record_schemas()
    lines = {Header.__name__: definitions[Header.__name__], "CheckpointHeader": _checkpoint_header(), **records}
    lines["UnknownRecord"] = _unknown([line["properties"]["kind"]["const"] for line in lines.values()])
    lines["CheckpointLine"] = _checkpoint_line([*records, "UnknownRecord"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ledger-watcher:v{FORMAT_VERSION}:line",
        "title": f"A line of a ledger, format version {FORMAT_VERSION}",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in lines],
        "$defs": {**definitions, **shared, **lines},
    }


def _header(schema: dict[str, Any]) -> dict[str, Any]:
    own = {_AS_WRITTEN.get(name, name): {**value} for name, value in schema["properties"].items()}
    own |= dict.fromkeys(_HASHES, _HASH)
    own["ckpt_sha256"] = {"anyOf": [_HASH, {"type": "null"}], "default": None}
    properties = {"sha256": own.pop("sha256"), "kind": {"const": _HEADER_KIND}, "v": {"const": FORMAT_VERSION}, **own, "mac": _HASH}
    return {**schema, "properties": properties, "required": [name for name in properties if name not in _OPTIONAL]}


def _checkpoint_header() -> dict[str, Any]:
    properties = {
        "sha256": _HASH,
        "kind": {"const": _CHECKPOINT_KIND},
        "v": {"const": FORMAT_VERSION},
        "run": {"type": "string"},
        "n": {"type": "integer"},
        "head": {"$ref": f"#/$defs/{Header.__name__}"},
        "mac": _HASH,
    }
    return {
        "title": "CheckpointHeader",
        "description": "The first line of a checkpoint. `head` is the header of the newest segment that it covers, with its hash.",
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in _OPTIONAL],
    }


def _checkpoint_line(records: list[str]) -> dict[str, Any]:
    properties = {
        "seq": {"type": "integer"},
        "epoch": {"type": "integer"},
        "record": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in records]},
    }
    return {
        "title": "CheckpointLine",
        "description": "A record in a checkpoint, with the segment and the epoch that it stands in.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _unknown(known: list[str]) -> dict[str, Any]:
    return {
        "title": "UnknownRecord",
        "description": "A record of a kind that this version does not know: to be passed over.",
        "type": "object",
        "properties": {"kind": {"type": "string", "not": {"enum": known}}, "ts": {"type": "string", "format": "date-time"}},
        "required": ["kind", "ts"],
    }
