"""What dbt really built, as the ledger tells it: the source of asset events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ledger_watcher.project import BUILDABLE
from ledger_watcher.records import NodeFinished, Outcome
from ledger_watcher.state import Attempt, RunState

_BUILT = frozenset({Outcome.SUCCESS, Outcome.WARN})
"""Not ``noop`` and ``reused``: there is nothing new in the warehouse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One relation that dbt made: ``finished_at`` (RFC 3339) tells one build of a node from the next, also when it is carried over."""

    unique_id: str
    relation: str
    finished_at: str
    extra: Mapping[str, Any]

    @property
    def key(self) -> tuple[object, object]:
        """The build, as :func:`key_of` finds it in an event."""
        return self.unique_id, self.finished_at

    @property
    def told(self) -> dict[str, Any]:
        """What goes through an event of the triggerer, as JSON."""
        return {"relation": self.relation, "extra": dict(self.extra)}


def key_of(extra: Mapping[str, Any] | None) -> tuple[object, object]:
    """The build that the ``extra`` of an asset event is about."""
    told = extra or {}
    return told.get("unique_id"), told.get("finished_at")


def built_of(state: RunState, unique_ids: Iterable[str], ledger: str) -> list[Built]:
    """The models, seeds and snapshots among ``unique_ids`` that the newest attempt which touched them built, or carried over.

    ``extra`` has ``unique_id``, ``finished_at``, ``rows`` (as the warehouse told dbt), ``seconds``, dbt's ``invocation_id`` and ``ledger``, the URI of the
    run's folder; what is not known is left out. A node without a relation in the warehouse is left out, too.

    :param ledger: URI of the run's folder.
    """
    found = []
    for unique_id in unique_ids:
        node = state.nodes.get(unique_id)
        record = node.finished if node is not None else None
        if (
            node is None
            or record is None
            or record.outcome not in _BUILT
            or unique_id.split(".")[0] not in BUILDABLE
            or not record.relation
        ):
            continue
        finished_at = (record.finished_at or record.ts).isoformat()
        dbt = _builder(record, node.epoch, state).dbt
        extra = {
            "unique_id": unique_id,
            "finished_at": finished_at,
            "rows": record.rows_affected,
            "seconds": record.execution_time,
            "invocation_id": dbt.invocation_id if dbt is not None else None,
            "ledger": ledger,
        }
        known = {name: value for name, value in extra.items() if value is not None}
        found.append(Built(unique_id=unique_id, relation=record.relation, finished_at=finished_at, extra=known))
    return found


def _builder(record: NodeFinished, epoch: int, state: RunState) -> Attempt:
    """The attempt that built a node: for a success that was carried over, the last one that began before it was finished."""
    attempt = state.attempts[epoch]
    if record.source != "carried_over" or record.finished_at is None:
        return attempt
    before = (one for one in state.attempts.values() if one.started is not None and one.started.ts <= record.finished_at)
    return max(before, key=lambda one: one.epoch, default=attempt)
