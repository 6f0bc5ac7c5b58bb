"""What the project says of its nodes, as the documentation of their tasks: short, for Airflow hands all of it around with every task."""

from __future__ import annotations

from collections.abc import Iterable

from ledger_watcher.project import NodeView

BUDGET = 10_000
"""Bytes of documentation of a whole project up to which its tasks have it without being asked."""
_TEXT = 400
_COLUMNS = 10
_COMPILED = frozenset({"model", "snapshot", "test"})


def documents(nodes: Iterable[NodeView], wanted: bool | None) -> dict[str, str]:
    """The Markdown of each node that is described; of none if that is not wanted, or if nobody said so and it is too much.

    :param wanted: ``None``: as long as all of it fits into :data:`BUDGET`.
    """
    if wanted is False:
        return {}
    found = {node.unique_id: document(node) for node in nodes if node.description.strip() or node.columns}
    too_much = wanted is None and sum(len(text.encode()) for text in found.values()) > BUDGET
    return {} if too_much else found


def document(node: NodeView) -> str:
    """Description, columns, tags and file of a node, and where dbt puts its compiled SQL, from the project's folder."""
    parts = [shortened(node.description.strip(), _TEXT)]
    if node.columns:
        rows = [f"| `{name}` | {text.replace('|', '/')} |" for name, text in list(node.columns.items())[:_COLUMNS]]
        parts.append("\n".join(["| column | |", "|---|---|", *rows]))
    if node.tags:
        parts.append(f"Tags: {', '.join(node.tags)}")
    if node.path:
        compiled = f", compiled `target/compiled/{node.package}/{node.path}`" if node.resource_type in _COMPILED else ""
        parts.append(f"`{node.path}`{compiled}")
    return "\n\n".join(part for part in parts if part)


def shortened(text: str, limit: int) -> str:
    """At most so many characters, cut at a word."""
    return text if len(text) <= limit else f"{text[: limit - 2].rsplit(' ', 1)[0]} …"
