"""The edges of a manifest, whatever is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MANIFEST_KEYS = ("nodes", "sources", "unit_tests", "exposures", "metrics", "semantic_models", "saved_queries", "functions")


def parents_of(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """unique_id -> ``depends_on.nodes`` of everything in a manifest; every field is optional (Fusion leaves many out)."""
    parents: dict[str, list[str]] = {}
    for key in _MANIFEST_KEYS:
        section = manifest.get(key)
        for unique_id, node in section.items() if isinstance(section, Mapping) else ():
            depends = node.get("depends_on") if isinstance(node, Mapping) else None
            nodes = depends.get("nodes") if isinstance(depends, Mapping) else None
            parents[unique_id] = [name for name in nodes if isinstance(name, str)] if isinstance(nodes, list) else []
    return parents
