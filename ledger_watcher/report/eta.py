"""How long a run will still take: by what its nodes took in an earlier run, or by what is done so far.

An estimate, for people: what the nodes that are left took the last time, shared out among as many as ran at once on average. It is never less
than the longest of them. A node that the earlier run did not have counts as the mean of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger_watcher.report.bars import Bar, node_bars
from ledger_watcher.report.view import RUNNING, WAITING, node_rows
from ledger_watcher.state import RunState


@dataclass(frozen=True, slots=True)
class Past:
    """What a run took. ``seconds`` is per unique_id, of the nodes that ran to their end; ``at_once`` is how many of them ran at once, on average.

    ``name`` is for people; ``command`` is the one that its last attempt ran.
    """

    name: str = ""
    command: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    at_once: float = 1.0

    @classmethod
    def of(cls, name: str, state: RunState) -> Past | None:
        """A run's own, ``None`` if no node of it ran to its end."""
        bars = [bar for bars in node_bars(state).values() for bar in bars if bar.end is not None and bar.end > bar.start]
        seconds = {bar.unique_id: _length(bar) for bar in bars}
        busy = _covered(bars)
        return cls(name, _command(state), seconds, max(1.0, sum(seconds.values()) / busy)) if busy else None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. ``left`` is in seconds, ``None`` if nobody can tell. ``by`` says by what it is estimated.

    ``guessed``: the ledger has no plan, so ``total`` counts the nodes that the earlier run of the same command had, too.
    """

    done: int
    total: int
    guessed: bool = False
    left: float | None = None
    by: str = ""


def progress(state: RunState, now: datetime, *, expected: Sequence[str] | None = None, past: Past | None = None) -> Progress:
    """How far the run is and how long it will still take.

    :param past: an earlier run of the same DAG, group and map index.
    """
    rows = node_rows(state, expected)
    done = sum(1 for row in rows if row.finished is not None)
    attempt = state.attempt
    if attempt is None or attempt.finished is not None:
        return Progress(done, len(rows))
    unseen: list[str] = []
    if not expected and attempt.plan is None:
        if past is None or past.command != _command(state):
            return Progress(done, len(rows))  # nobody knows how many nodes are to come
        unseen = [unique_id for unique_id in past.seconds if unique_id not in state.nodes]
    basis, by = (past, past.name) if past is not None else (Past.of("", state), "what is done so far")
    total = len(rows) + len(unseen)
    if basis is None:
        return Progress(done, total, bool(unseen))
    mean = sum(basis.seconds.values()) / len(basis.seconds)
    to_come = [(row.unique_id, row.seconds(now) or 0.0) for row in rows if row.state in (RUNNING, WAITING)]
    left = [max(0.0, basis.seconds.get(name, mean) - gone) for name, gone in [*to_come, *((name, 0.0) for name in unseen)]]
    return Progress(done, total, bool(unseen), max(sum(left) / basis.at_once, *left) if left else 0.0, by)


def _command(state: RunState) -> tuple[str, ...]:
    return state.attempt.started.command if state.attempt and state.attempt.started else ()


def _length(bar: Bar) -> float:
    return ((bar.end or bar.start) - bar.start).total_seconds()


def _covered(bars: Iterable[Bar]) -> float:
    """Seconds in which any of the nodes ran."""
    total = 0.0
    until: datetime | None = None
    for bar in sorted(bars, key=lambda bar: bar.start):
        end = bar.end or bar.start
        start = bar.start if until is None else max(until, bar.start)
        if end > start:
            total += (end - start).total_seconds()
            until = end
    return total
