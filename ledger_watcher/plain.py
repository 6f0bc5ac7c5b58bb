"""Plain data to JSON and back: what a DAG file's parse needs of JSON, without the records of a ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()


def dumps(value: object) -> bytes:
    """Compact JSON. Lone surrogates are escaped, and what is no data becomes its text."""
    try:
        return _encoder.encode(value)
    except (TypeError, UnicodeEncodeError):  # of an adapter's response, or of a process's undecodable output
        return _encoder.encode(_plain(value))


def _plain(value: object) -> Any:  # noqa: ANN401 - whatever JSON can hold
    match value:
        case Enum():
            return _plain(value.value)
        case None | int() | float() | datetime():  # bool is an int
            return value
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case Mapping():
            return {_plain(str(key)): _plain(member) for key, member in value.items()}
        case list() | tuple():
            return [_plain(member) for member in value]
        case _:
            return _plain(str(value))


def loads(raw: bytes | str) -> Any:  # noqa: ANN401 - JSON is any
    """Plain data from JSON.

    :raises ValueError: not JSON.
    """
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
