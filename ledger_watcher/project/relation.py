"""The name of a relation in a warehouse, as dbt writes it."""

from __future__ import annotations

import re

_PART = re.compile(r'"((?:[^"]|"")*)"|`([^`]*)`|\[([^\]]*)\]|\'([^\']*)\'|([^."`\[\]\']+)')


def relation_parts(relation: str) -> tuple[str, ...]:
    """Its parts without their quotes: ``"shop"."main"."orders"`` (in any warehouse's way of quoting, or not at all) is shop, main, orders.

    :raises ValueError: it is no such name.
    """
    parts, at = [], 0
    while match := _PART.match(relation, at):
        parts.append(next(group for group in match.groups() if group is not None).replace('""', '"').strip())
        at = match.end() + 1
        if match.end() == len(relation) or relation[match.end()] != ".":
            break
    if not all(parts) or at != len(relation) + 1:
        raise ValueError(f"{relation!r} is not the name of a relation")
    return tuple(parts)
