"""What the terraform files say, read by python-hcl2: blocks, and the tables of policies with their variables filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hcl2

TERRAFORM = Path(__file__).parents[2] / "deploy" / "terraform"
_OPTIONS = hcl2.SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
_REFERENCE = re.compile(r"\$\{([a-z_.]+)\}")


def blocks(folder: Path, kind: str) -> dict[str, Any]:
    """All blocks of a kind (resource, variable, locals, ...) in a folder's files; of those with labels, by their labels with a dot in between."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.tf")):
        with path.open() as file:
            for block in hcl2.load(file, serialization_options=_OPTIONS).get(kind, []):
                found |= _named(block, {"resource": 2, "data": 2, "locals": 0}.get(kind, 1))
    return found


def _named(block: Mapping[str, Any], labels: int) -> dict[str, Any]:
    if labels <= 1:
        return dict(block)
    return {f"{first}.{second}": body for first, inner in block.items() for second, body in inner.items()}


def filled(value: Any, names: Mapping[str, Any]) -> Any:  # noqa: ANN401 -- as deep as it is
    """The value with each ``${name}`` replaced; one that is alone in a text may be anything, a list for example.

    :raises KeyError: a reference that is not among the names.
    """
    if isinstance(value, dict):
        return {key.strip('"'): filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, names) for inner in value]
    if not isinstance(value, str):
        return value
    if alone := _REFERENCE.fullmatch(value):
        return names[alone[1]]
    return _REFERENCE.sub(lambda found: str(names[found[1]]), value)
