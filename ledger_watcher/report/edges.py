"""The edges of a run's nodes, from the manifest that it stored beside its ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ledger_watcher import codec
from ledger_watcher.errors import LedgerWatcherError
from ledger_watcher.project.edges import parents_of
from ledger_watcher.records import Artifact
from ledger_watcher.state import RunState

Edges: TypeAlias = "Mapping[str, Sequence[str]] | None"

_MANIFEST = "manifest.json"


def manifest_of(state: RunState) -> Artifact | None:
    """The newest manifest that the run has stored."""
    attempts = sorted(state.attempts.items(), reverse=True)
    return next((attempt.artifacts[_MANIFEST] for _, attempt in attempts if _MANIFEST in attempt.artifacts), None)


def known_edges(state: RunState, read: Callable[[Artifact], bytes]) -> tuple[Edges, list[str]]:
    """The parents of each node as the newest manifest has them, and why they are not known.

    :param read: gives the bytes of an artifact.
    """
    stored = manifest_of(state)
    if stored is None:
        return None, ["The run has stored no manifest (dbt has not ended yet, or was killed): edges and critical path are not known."]
    try:
        return parents_of(codec.loads(read(stored))), []
    except (LedgerWatcherError, ValueError, AttributeError) as error:
        return None, [f"The manifest that the run stored cannot be read, so edges and critical path are not known: {error}"]
