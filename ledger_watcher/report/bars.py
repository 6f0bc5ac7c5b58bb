"""When each node ran, attempt by attempt, and on which of dbt's threads: what a Gantt chart of a run is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ledger_watcher.ledger.segments import Entry
from ledger_watcher.records import NodeFinished
from ledger_watcher.report.view import RUNNING, UNFINISHED, finished_at
from ledger_watcher.state import Attempt, Node, RunState

CARRIED = "carried_over"
_OVERLAP = timedelta(milliseconds=1)
"""Two nodes of one thread may seem to overlap by as much, since their times are rounded."""


@dataclass(slots=True)
class History:
    """Each attempt's own account of the nodes, of which a :class:`RunState` keeps the newest only.

    Fold in every record of the chain: a checkpoint leaves out what later attempts made void.
    """

    states: dict[int, RunState] = field(default_factory=dict)

    def apply(self, entries: Iterable[Entry]) -> None:
        """More of the chain, in its order."""
        for entry in entries:
            self.states.setdefault(entry.epoch, RunState()).apply((entry,))

    def of(self, unique_id: str) -> list[Node]:
        """What the attempts that had it say of a node, oldest first; one that carried its success over did not have it."""
        found = (state.nodes.get(unique_id) for _, state in sorted(self.states.items()))
        return [node for node in found if node is not None and not carried(node)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One node in one attempt. ``end`` is absent while it runs; ``lane`` counts from 0."""

    node: Node
    attempt: int
    state: str
    start: datetime
    end: datetime | None
    thread: str | None
    lane: int = 0

    @property
    def unique_id(self) -> str:
        """The node's."""
        return self.node.unique_id


def carried(node: Node) -> bool:
    """Its record is that of a success of an earlier attempt, recorded again."""
    return node.finished is not None and node.finished.source == CARRIED


def node_bars(state: RunState, history: History | None = None) -> dict[str, list[Bar]]:
    """The bars of each node, oldest first; no bar for a node without any time. A success that was carried over is drawn once, when it ran."""
    found: dict[str, list[Bar]] = {}
    for unique_id, newest in state.nodes.items():
        nodes = (history.of(unique_id) if history is not None else []) or [newest]
        bars = [bar for node in nodes if (bar := _bar(state, node)) is not None]
        if bars:
            found[unique_id] = bars
    return found


def with_lanes(bars: Iterable[Bar]) -> tuple[list[Bar], list[str]]:
    """The bars with their lanes, by start, and the threads that each lane is made of.

    A lane is a thread of dbt: the first by name of each attempt shares lane 0, and so on. Bars of one thread that overlap (a microbatch
    model's; Fusion gives all its threads one name) and bars without a thread take the first lane with room.
    """
    ordered = sorted(bars, key=lambda bar: (bar.start, bar.end or datetime.max.replace(tzinfo=bar.start.tzinfo), bar.unique_id))
    threads: dict[int, set[str]] = {}
    for bar in ordered:
        threads.setdefault(bar.attempt, set()).update({bar.thread} if bar.thread else ())
    lane_of = {(attempt, name): lane for attempt, names in threads.items() for lane, name in enumerate(sorted(names, key=_natural))}
    lanes = _Lanes(max((len(names) for names in threads.values()), default=0))
    placed = [replace(bar, lane=lanes.place(bar, lane_of.get((bar.attempt, bar.thread or "")))) for bar in ordered]
    return placed, [", ".join(sorted(names, key=_natural)) for names in lanes.names]


class _Lanes:
    """Until when each lane is taken."""

    def __init__(self, number: int) -> None:
        self.free_at: list[datetime | None] = [None] * number
        self.names: list[set[str]] = [set() for _ in range(number)]

    def place(self, bar: Bar, wanted: int | None) -> int:
        end = bar.end or bar.start + timedelta(days=3650)
        if bar.end == bar.start:  # no time, no room needed
            return wanted or 0 if self.free_at else self._take(self._new(), bar, end)
        if wanted is not None and self._has_room(wanted, bar):
            return self._take(wanted, bar, end)
        lane = next((lane for lane in range(len(self.free_at)) if self._has_room(lane, bar)), None)
        return self._take(self._new() if lane is None else lane, bar, end)

    def _has_room(self, lane: int, bar: Bar) -> bool:
        until = self.free_at[lane]
        return until is None or bar.start >= until - _OVERLAP

    def _new(self) -> int:
        self.free_at.append(None)
        self.names.append(set())
        return len(self.free_at) - 1

    def _take(self, lane: int, bar: Bar, end: datetime) -> int:
        self.free_at[lane] = end
        self.names[lane].update({bar.thread} if bar.thread else ())
        return lane


def _bar(state: RunState, node: Node) -> Bar | None:
    begun, ended = node.started, node.finished
    if begun is not None:
        start = begun.started_at or begun.ts
    elif ended is not None:
        start = _start_of(ended)
    else:
        return None
    end = finished_at(ended)
    epoch = _ran_in(state, node, start)
    attempt = state.attempts.get(epoch)
    word = ended.outcome.value if ended else RUNNING
    if ended is None and (attempt is None or attempt.finished is not None or attempt is not state.attempt):
        word, end = UNFINISHED, _over(attempt) or start
    return Bar(
        node=node,
        attempt=epoch,
        state=word,
        start=start,
        end=None if end is None else max(start, end),
        thread=(ended and ended.thread) or (begun and begun.thread) or None,
    )


def _start_of(ended: NodeFinished) -> datetime:
    return ended.started_at or (finished_at(ended) or ended.ts) - timedelta(seconds=max(0.0, ended.execution_time or 0.0))


def _ran_in(state: RunState, node: Node, start: datetime) -> int:
    """The attempt that ran it: the newest one that had begun by then, if another one's record is all there is of it."""
    if not carried(node):
        return node.epoch
    before = [epoch for epoch, one in state.attempts.items() if epoch < node.epoch and one.started and one.started.ts <= start]
    return max(before, default=node.epoch)


def _over(attempt: Attempt | None) -> datetime | None:
    return (attempt.finished.ts if attempt.finished else attempt.last_seen) if attempt else None


def _natural(name: str) -> list[tuple[int, str]]:
    """``Thread-2`` before ``Thread-10``."""
    return [(int(part), "") if part.isdecimal() and part.isascii() else (-1, part) for part in re.split(r"([0-9]+)", name)]
