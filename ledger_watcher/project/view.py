"""The nodes of a dbt project, as little of them as a DAG needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ledger_watcher.project.selection import Selection

BUILDABLE = frozenset({"model", "seed", "snapshot"})
"""Resource types that get a task of their own."""

SOURCES = frozenset({"source"})
"""Resource types that get a task of their own if that is asked for."""

TESTS = frozenset({"test", "unit_test"})
"""Resource types that check others."""

EXPOSURES = frozenset({"exposure"})
"""Resource types that use what dbt builds; they are end points of the graph if that is asked for."""

WITHOUT_TASK = frozenset({"function"})
"""Resource types that dbt builds too but that get no task (yet): what lies below them waits for what lies above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node of the manifest. ``parents`` are its ``depends_on.nodes``; ``owner`` is the only node that a test is about.

    ``relation`` is what a model, seed or snapshot becomes in the warehouse, as dbt writes it, empty if it becomes none; ``operator_kwargs`` are what
    the project's ``meta`` says of its task (see :func:`~ledger_watcher.project.manifest.parse_manifest`). ``freshness``: a source of which ``dbt source freshness`` tells something.

    ``team`` is who owns it (``meta.owner``, else the owner of its dbt group); ``columns`` are the first described ones with their descriptions; ``meta``
    is the node's own over that of its config.
    """

    unique_id: str
    name: str
    resource_type: str
    package: str = ""
    parents: tuple[str, ...] = ()
    materialized: str = ""
    path: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str | None = None
    relation: str = ""
    operator_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    freshness: bool = False
    team: str = ""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def ephemeral(self) -> bool:
        """dbt builds nothing for this model: its SQL goes into its children's."""
        return self.materialized == "ephemeral"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectView:
    """The enabled nodes of a project by unique_id, in a fixed order, and where they came from.

    ``selected`` are the unique_ids of those that are to be drawn, all if that is ``None``; the others only say what lies between those.
    ``selection`` is what dbt is told so that it selects the same. ``default_selector`` is the YAML selector that dbt takes where it is told nothing
    (``default: true``), empty if there is none; it may be a condition (Jinja) whether that is so.
    """

    project: str
    manifest_sha256: str
    nodes: Mapping[str, NodeView] = field(default_factory=dict)
    selected: frozenset[str] | None = None
    selection: Selection = field(default_factory=Selection)
    default_selector: str = ""

    def of_type(self, types: frozenset[str]) -> list[NodeView]:
        """The selected nodes of these resource types, sorted by unique_id."""
        chosen = self.selected
        return [node for uid, node in self.nodes.items() if node.resource_type in types and (chosen is None or uid in chosen)]


def without_unused_sources(view: ProjectView) -> ProjectView:
    """The same without the sources that no model, snapshot, test or the like of it reads."""
    used = {parent for node in view.nodes.values() if node.resource_type not in EXPOSURES for parent in node.parents}
    kept = {uid: node for uid, node in view.nodes.items() if node.resource_type not in SOURCES or uid in used}
    return replace(view, nodes=kept)


NODE_FIELDS = tuple(f.name for f in fields(NodeView))
"""What is known of a node, in the order of the rows of :func:`pack_view`."""
_EMPTY = {f.name: f.default for f in fields(NodeView)}


def pack_view(view: ProjectView) -> dict[str, Any]:
    """The view as plain data, for its cache file."""
    rows = [[getattr(node, name) for name in NODE_FIELDS] for node in view.nodes.values()]
    head = {"project": view.project, "manifest_sha256": view.manifest_sha256, "default_selector": view.default_selector}
    return {**head, "fields": NODE_FIELDS, "nodes": rows}


def unpack_view(data: Mapping[str, Any], *, exactly: bool = True) -> ProjectView:
    """The view of :func:`pack_view`'s data.

    :param exactly: ``False``: what another version of this package wrote, too: fields that it did not know are empty, those that are not known
        here are passed over.
    :raises ValueError: written by another version of this package (or LookupError).
    """
    told = tuple(data["fields"])
    if exactly and told != NODE_FIELDS:
        raise ValueError("other fields")
    known = [(i, name) for i, name in enumerate(told) if name in NODE_FIELDS]
    tuples = [i for i, name in known if isinstance(_EMPTY[name], tuple)]
    nodes: dict[str, NodeView] = {}
    for row in data["nodes"]:
        for i in tuples:
            row[i] = tuple(row[i])
        node = NodeView(**(dict(zip(NODE_FIELDS, row, strict=True)) if told == NODE_FIELDS else {name: row[i] for i, name in known}))
        nodes[node.unique_id] = node
    default = data["default_selector"] if exactly else data.get("default_selector", "")
    return ProjectView(project=data["project"], manifest_sha256=data["manifest_sha256"], nodes=nodes, default_selector=default)
