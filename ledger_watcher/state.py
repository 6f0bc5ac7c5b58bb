"""The state of a run: its records folded together, attempt by attempt and node by node.

The newest attempt's record of a node wins; within one attempt the last one does, except that a success is never downgraded
(run_results.json can be wrong where the events are right: fail-fast, interrupted runs).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from ledger_watcher.records import (
    Artifact,
    AttemptFinished,
    AttemptStarted,
    DbtStarted,
    HookFinished,
    Log,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    Plan,
)

if TYPE_CHECKING:
    from ledger_watcher.ledger.segments import Entry


@dataclass(slots=True)
class Attempt:
    """One epoch: one process of the producer."""

    epoch: int
    started: AttemptStarted | None = None
    dbt: DbtStarted | None = None
    plan: frozenset[str] | None = None
    finished: AttemptFinished | None = None
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    hooks: dict[str, HookFinished] = field(default_factory=dict)
    last_seen: datetime | None = None


@dataclass(slots=True)
class Node:
    """What is known of a node: the newest attempt that touched it."""

    unique_id: str
    epoch: int
    started: NodeStarted | None = None
    finished: NodeFinished | None = None
    batches: list[NodeProgress] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The outcome, or ``running``."""
        return self.finished.outcome.value if self.finished else "running"


@dataclass(slots=True)
class RunState:
    """All attempts and nodes of one run, up to a position of its chain."""

    attempts: dict[int, Attempt] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    ended: bool = False

    @property
    def attempt(self) -> Attempt | None:
        """The newest attempt. May be asked while another thread folds more in."""
        return self.attempts[max(tuple(self.attempts))] if self.attempts else None

    def apply(self, entries: Iterable[Entry]) -> None:
        """Fold more of the chain in, in its order."""
        for entry in entries:
            self._apply(entry)

    def attempt_of(self, epoch: int) -> Attempt:
        """The attempt of an epoch, created if it is new."""
        if epoch not in self.attempts:
            self.attempts[epoch] = Attempt(epoch)
        return self.attempts[epoch]

    def _apply(self, entry: Entry) -> None:  # noqa: C901 - one case per kind, nothing else
        record = entry.record
        attempt = self.attempt_of(entry.epoch)
        attempt.last_seen = record.ts
        match record:
            case AttemptStarted():
                attempt.started = record
                self.ended = False
            case DbtStarted():
                attempt.dbt = record
            case Plan():
                attempt.plan = frozenset(record.unique_ids)
            case NodeStarted():
                node = self._node(record.unique_id, entry.epoch)
                node.started = node.started or record  # microbatch starts once per batch: the first is the node's
            case NodeProgress():
                self._node(record.unique_id, entry.epoch).batches.append(record)
            case Log():
                self._node(record.unique_id, entry.epoch).logs.append(record)
            case NodeFinished():
                node = self._node(record.unique_id, entry.epoch)
                if not (node.finished and node.finished.outcome.ok and not record.outcome.ok):
                    node.finished = record
            case HookFinished():
                attempt.hooks[record.unique_id] = record
            case Artifact():
                attempt.artifacts[record.name] = record
            case AttemptFinished():
                attempt.finished = record
                self.ended = True
            case _:
                pass  # heartbeats count as last_seen; unknown kinds are for newer readers

    def _node(self, unique_id: str, epoch: int) -> Node:
        node = self.nodes.get(unique_id)
        if node is None or node.epoch < epoch:
            node = self.nodes[unique_id] = Node(unique_id, epoch)
        return node if node.epoch == epoch else Node(unique_id, epoch)  # an older epoch says nothing about a newer one
