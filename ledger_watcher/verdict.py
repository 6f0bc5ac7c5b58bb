"""Does every error of a run have a task that shows it? Then whatever ran dbt has done its work, and need not fail as well.

Who runs dbt elsewhere (a pod, another host) does not get the list of nodes that have tasks, which may be long: it gets the hash of that
list. The records of an attempt that ran to its end name every node that dbt was to build, the skipped ones too; if they have that hash,
they are that list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ledger_watcher.records import HookFinished, NodeFinished, Outcome
from ledger_watcher.state import Node, RunState

HANDLED = 1
"""dbt's exit code if it ran to its end and nodes failed (0 success, 2 anything else)."""

_BAD = frozenset({Outcome.FAILED, Outcome.CANCELLED})
_WITH_TASK = ("model.", "seed.", "snapshot.", "source.", "test.", "unit_test.")
"""Sources have records only where their freshness is checked, and a task there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """The errors of the newest attempt: those of nodes that have a task, and the others, hooks among them."""

    shown: tuple[NodeFinished, ...]
    hidden: tuple[NodeFinished | HookFinished, ...]

    @property
    def named(self) -> str:
        """The first five of the hidden ones with their messages."""
        return "; ".join(f"{record.unique_id}: {record.message or record.status}" for record in self.hidden[:5])


def errors_of(state: RunState, tasks: Collection[str]) -> Errors:
    """The errors of the newest attempt of a run, given the unique_ids that have a task."""
    failed = [node.finished for node in _newest(state) if node.finished is not None and node.finished.outcome in _BAD]
    hooks = state.attempt.hooks.values() if state.attempt is not None else ()
    return Errors(
        shown=tuple(record for record in failed if record.unique_id in tasks),
        hidden=(
            *(record for record in failed if record.unique_id not in tasks),
            *(hook for hook in hooks if hook.outcome in _BAD),
        ),
    )


def rendered_hash(unique_ids: Iterable[str]) -> str:
    """SHA-256 (hex) of the unique_ids that have a task, whatever their order."""
    return hashlib.sha256("\n".join(sorted(set(unique_ids))).encode()).hexdigest()


def sources_of(unique_ids: Iterable[str]) -> frozenset[str]:
    """The sources among the unique_ids that have a task: their freshness is checked."""
    return frozenset(name for name in unique_ids if name.startswith("source."))


def recorded_nodes(state: RunState) -> frozenset[str]:
    """The nodes of the newest attempt that would have a task: no ephemeral model, function or hook."""
    return frozenset(
        node.unique_id
        for node in _newest(state)
        if node.finished is not None and node.unique_id.startswith(_WITH_TASK) and not _ephemeral(node)
    )


def _newest(state: RunState) -> list[Node]:
    attempt = state.attempt
    return [node for node in state.nodes.values() if attempt is not None and node.epoch == attempt.epoch]


def _ephemeral(node: Node) -> bool:
    return "ephemeral" in (node.started and node.started.materialized, node.finished and node.finished.materialized)
