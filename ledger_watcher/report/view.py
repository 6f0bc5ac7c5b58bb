"""A run's state in the words that people are shown.

The ledger knows what was written to it, no more. A run is ``success`` or ``failed`` once its newest attempt has ended, by its exit
code and by its nodes; before that it is ``running`` while records arrive and ``silent`` when none arrived for :data:`SILENCE`
seconds. Silence may be a killed process, a storage out of reach, or two clocks that differ: the ledger cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ledger_watcher.records import EndedBy, NodeFinished, NodeStarted, Outcome
from ledger_watcher.report.text import age
from ledger_watcher.state import Attempt, Node, RunState

SILENCE = 60.0
"""Seconds without a record after which a run that has not ended is called silent: twelve heartbeats."""

RUNNING = "running"
UNFINISHED = "unfinished"
"""Started, and its attempt is over without a record of its end."""
WAITING = "waiting"
"""Planned by the newest attempt, not begun."""
NOT_RUN = "not_run"
"""Planned, never begun, and no attempt is under way that plans it."""

NODE_STATES: tuple[str, ...] = (*(outcome.value for outcome in Outcome), UNFINISHED, RUNNING, WAITING, NOT_RUN)


@dataclass(frozen=True, slots=True)
class Status:
    """``word`` is one of success, failed, running, silent, superseded, unknown; ``detail`` says why, for people."""

    word: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.word} ({self.detail})" if self.detail else self.word


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One node as it is shown. ``node`` is absent for one that was planned and never begun."""

    unique_id: str
    name: str
    resource_type: str
    state: str
    attempt: int | None = None
    started_at: datetime | None = None
    node: Node | None = None

    @property
    def begun(self) -> NodeStarted | None:
        """The record of its start."""
        return self.node.started if self.node else None

    @property
    def finished(self) -> NodeFinished | None:
        """The record of its end."""
        return self.node.finished if self.node else None

    def seconds(self, now: datetime | None = None) -> float | None:
        """How long it took by dbt's clock, or how long it has run until ``now``."""
        if self.finished is not None:
            return self.finished.execution_time
        if now is None or self.started_at is None or self.state != RUNNING:
            return None
        return max(0.0, (now - self.started_at).total_seconds())


def attempt_status(state: RunState, attempt: Attempt, now: datetime) -> Status:
    """What became of one attempt."""
    end = attempt.finished
    if end is not None:
        code = None if end.exit_code is None else f"exit {end.exit_code}"
        if end.ended_by is EndedBy.EXIT and end.exit_code == 0:
            return Status("success", "ledger incomplete" if end.incomplete else "")
        by = None if end.ended_by is EndedBy.EXIT else end.ended_by.value
        return Status("failed", ", ".join(part for part in (by, code, "will retry" if end.will_retry else None) if part))
    if attempt is not state.attempt:
        return Status("superseded", "another attempt took over, its end is not recorded")
    seen = f"last seen {age(attempt.last_seen, now)} ago"
    silent = attempt.last_seen is not None and (now - attempt.last_seen).total_seconds() > SILENCE
    return Status("silent" if silent else RUNNING, seen)


def run_status(state: RunState, now: datetime) -> Status:
    """What the ledger knows of the run: its newest attempt, and the nodes that stand failed from earlier ones."""
    if state.attempt is None:
        return Status("unknown")
    status = attempt_status(state, state.attempt, now)
    failed = sum(1 for node in state.nodes.values() if node.finished and node.finished.outcome is Outcome.FAILED)
    if status.word == "success" and failed:
        return Status("failed", f"exit 0, but {failed} failed in an earlier attempt")
    return status


def started_at(state: RunState) -> datetime | None:
    """When the first attempt began."""
    first = state.attempts[min(state.attempts)] if state.attempts else None
    return first.started.ts if first and first.started else None


def last_seen(state: RunState) -> datetime | None:
    """The time of the newest record, by the producer's clock."""
    return max((attempt.last_seen for attempt in state.attempts.values() if attempt.last_seen), default=None)


def attempt_seconds(attempt: Attempt, now: datetime | None = None) -> float | None:
    """From its start to its end, else to ``now`` if that is given, else to its last record."""
    end = attempt.finished.ts if attempt.finished else now or attempt.last_seen
    if attempt.started is None or end is None:
        return None
    return max(0.0, (end - attempt.started.ts).total_seconds())


def run_seconds(state: RunState) -> float | None:
    """The time of all attempts together: what lies between them (a retry's delay, a clear days later) is not work."""
    parts = [seconds for attempt in state.attempts.values() if (seconds := attempt_seconds(attempt)) is not None]
    return sum(parts) if parts else None


def finished_at(ended: NodeFinished | None) -> datetime | None:
    """When a node ended: dbt's time, or that of the record (dbt gives skipped nodes no time)."""
    return (ended.finished_at or ended.ts) if ended else None


def node_rows(state: RunState, expected: Sequence[str] | None = None) -> list[NodeRow]:
    """Every node that was expected, planned or seen: in the order of ``expected``, then as they began, then those not begun."""
    planned = {unique_id for attempt in state.attempts.values() for unique_id in attempt.plan or ()}
    order = dict.fromkeys((*(expected or ()), *state.nodes, *sorted(planned)))
    newest = state.attempt
    live = newest is None or newest.finished is None
    coming = set(expected or ()) | (newest.plan or set() if newest else set())
    rows = []
    for unique_id in order:
        node = state.nodes.get(unique_id)
        if node is None:
            unseen = WAITING if live and unique_id in coming else NOT_RUN
            rows.append(NodeRow(unique_id=unique_id, name=name_of(unique_id), resource_type=type_of(unique_id), state=unseen))
        else:
            rows.append(_seen(state, node))
    return rows


def counts(rows: Iterable[NodeRow]) -> dict[str, int]:
    """How many nodes are in each of :data:`NODE_STATES`, zeros included."""
    result = dict.fromkeys(NODE_STATES, 0)
    for row in rows:
        result[row.state] += 1
    return result


def counts_text(found: dict[str, int]) -> str:
    """``10 success, 1 failed, 2 skipped``: what is not zero."""
    return ", ".join(f"{number} {word(name)}" for name, number in found.items() if number)


def word(state: str) -> str:
    """A state as it is printed."""
    return state.replace("_", " ")


def name_of(unique_id: str) -> str:
    """dbt's name within a unique_id: ``model.shop.orders`` is ``orders``; a generic test loses its hash, a version stays."""
    kind, _, rest = unique_id.partition(".")
    name = rest.partition(".")[2] or rest or kind
    stem, _, digest = name.rpartition(".")
    return stem if kind == "test" and stem and len(digest) == 10 else name  # noqa: PLR2004 - length of dbt's test hash


def shown_name(unique_id: str, recorded: str | None) -> str:
    """The name that dbt gave, with the version of the model, which dbt leaves out: ``orders.v2``."""
    whole = name_of(unique_id)
    return whole if not recorded or whole.startswith(f"{recorded}.v") else recorded


def type_of(unique_id: str) -> str:
    """The resource type that a unique_id begins with."""
    return unique_id.partition(".")[0]


def _seen(state: RunState, node: Node) -> NodeRow:
    begun, ended = node.started, node.finished
    attempt = state.attempts[node.epoch]
    over = attempt.finished is not None or attempt is not state.attempt
    return NodeRow(
        unique_id=node.unique_id,
        name=shown_name(node.unique_id, (ended.name if ended else None) or (begun.name if begun else None)),
        resource_type=(ended and ended.resource_type) or (begun and begun.resource_type) or type_of(node.unique_id),
        state=ended.outcome.value if ended else UNFINISHED if over else RUNNING,
        attempt=node.epoch,
        started_at=(begun and (begun.started_at or begun.ts)) or (ended and ended.started_at) or None,
        node=node,
    )
