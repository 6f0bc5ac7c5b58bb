"""What a timeline is made of: a run, and the run that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.records import Outcome
from ledger_watcher.report.bars import History
from ledger_watcher.report.compare import NEW, REMOVED, STATUS, changes, total_seconds
from ledger_watcher.report.text import inert
from ledger_watcher.report.view import run_seconds, run_status
from ledger_watcher.state import RunState

_LISTED = 10
_LEAST = 0.005
"""A difference in seconds that two digits show."""
_DID_NOTHING = frozenset({Outcome.SKIPPED.value, Outcome.NOOP.value, Outcome.REUSED.value, Outcome.CANCELLED.value})
"""Whose seconds say nothing about the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A run to be shown: its state, and what the state alone does not say.

    ``parents`` is unique_id -> ``depends_on.nodes`` of the manifest; ``None``: not known. ``notes`` are remarks for people.
    """

    run: RunKey
    state: RunState
    history: History | None = None
    parents: Mapping[str, Sequence[str]] | None = None
    notes: Sequence[str] = ()


def against_data(source: Source, other: Source, places: Mapping[str, int], nodes: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    """``against`` of the timeline's data; ``before`` is added to the nodes that the other run has too.

    :param places: unique_id -> place in ``nodes``.
    """
    found = changes(other.state, source.state)
    kinds: dict[str, list[int]] = {NEW: [], STATUS: []}
    timed: list[tuple[float, int]] = []
    for change in found:
        if change.kind == REMOVED:
            continue
        place = places[change.unique_id]
        if change.kind in kinds:
            kinds[change.kind].append(place)
        if change.before is not None:
            before = {"state": change.before.state, "seconds": change.seconds[0], "rows": change.number("rows_affected")[0]}
            nodes[place]["before"] = {name: round(value, 3) if isinstance(value, float) else value for name, value in before.items()}
        ran = {change.before.state if change.before else "", change.row.state}.isdisjoint(_DID_NOTHING)
        if ran and change.slower is not None and abs(change.slower) >= _LEAST:
            timed.append((change.slower, place))
    seconds = run_seconds(other.state)
    return {
        "title": inert(other.run),
        "status": run_status(other.state, now).word,
        "seconds": None if seconds is None else round(seconds, 3),
        "node_seconds": round(total_seconds(found)[0], 3),
        "slower": [place for slower, place in sorted(timed, reverse=True) if slower > 0][:_LISTED],
        "faster": [place for slower, place in sorted(timed) if slower < 0][:_LISTED],
        "changed": sorted(kinds[STATUS], key=lambda place: nodes[place]["state"] != Outcome.FAILED.value),
        "new": kinds[NEW],
        "removed": [inert(change.row.name) for change in found if change.kind == REMOVED],
    }
