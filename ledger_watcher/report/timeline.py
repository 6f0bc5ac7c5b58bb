"""A run as the data of its timeline: what the report's page draws, and nothing that it would have to work out again.

:func:`timeline_data` returns plain data for JSON. Times are seconds from ``origin``, rounded to milliseconds; nodes are named by their
place in ``nodes``. All text of projects and warehouses is inert (:mod:`ledger_watcher.report.text`). A key that a node has nothing to
say for is absent; all other keys are always there::

    {"version": 1, "made_at", "origin": RFC 3339, "title", "run": identity, "status": {"word", "detail"}, "live": bool,
     "span": seconds from origin to the newest record, "totals": totals, "counts": {state: number}, "notes": [text],
     "lanes": [threads of dbt, as text], "folds": [[start, end]], "attempts": [attempt], "nodes": [node],
     "critical": {"nodes": [place], "seconds", "waited"} or null, "slowest": [place], "against": against or null}

status, counts
    The words of :mod:`ledger_watcher.report.view`. ``live``: more is to come.
totals
    ``seconds`` (all attempts), ``nodes``, ``done``, ``node_seconds`` (all bars added up), ``rows``.
folds
    Long stretches in which no node ran (dbt starts, the delay before a retry): the page draws them narrow.
attempt
    ``attempt``, ``state``, ``detail``, ``start``, ``end``, ``seconds``, ``command``, ``dbt``, ``threads``, ``target``, ``message``, ``incomplete``,
    ``hooks`` (each ``id``, ``state``, ``message``).
node
    ``id``, ``name``, ``type``, ``state``, ``attempt``; ``status`` (dbt's), ``seconds`` (dbt's; of a running node up to the newest record),
    ``rows``, ``failures``, ``query_id``, ``relation``, ``materialized``, ``thread``, ``message``, ``log``, ``log_dropped``,
    ``batches`` ([done, total]), ``because`` (places of what it was skipped for), ``up`` (places of its parents), ``from`` (the attempt
    that built it, if its success was carried over), ``bar`` (start, end or null, lane, attempt) and ``earlier`` (each ``state``,
    ``bar``, ``message``), ``cut`` (true: message or log were shortened, the page would get too big); with ``against``: ``before``
    (``state``, ``seconds``, ``rows``).
critical
    See :mod:`ledger_watcher.report.critical`; of the newest attempt that ran something. ``waited`` is what lies between its nodes.
    ``null`` if the edges are not known.
against
    ``title``, ``status``, ``seconds``, ``node_seconds``, ``slower``, ``faster``, ``changed``, ``new`` (places) and ``removed`` (names).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ledger_watcher.records import Outcome, utcnow
from ledger_watcher.report.bars import Bar, carried, node_bars, with_lanes
from ledger_watcher.report.critical import critical_path
from ledger_watcher.report.page import as_json
from ledger_watcher.report.source import Source, against_data
from ledger_watcher.report.text import first_line, inert, inert_lines
from ledger_watcher.report.view import (
    RUNNING,
    UNFINISHED,
    NodeRow,
    attempt_seconds,
    attempt_status,
    counts,
    last_seen,
    node_rows,
    run_seconds,
    run_status,
)
from ledger_watcher.state import Attempt

VERSION = 1
TEXT_BUDGET = 750_000
"""Characters of messages and logs as the page writes them: of 3,000 nodes it stays below 3 MB."""
_SHORT = 120
_SLOWEST = 10
_FOLD = 0.1
"""A pause is folded when it is longer than this share of the time in which nodes ran."""
_NOT_RUN = frozenset({Outcome.SKIPPED.value})
_TELLING = (Outcome.FAILED.value, UNFINISHED, RUNNING, Outcome.CANCELLED.value, Outcome.WARN.value)
"""Whose messages and logs are kept first."""


def timeline_data(source: Source, *, against: Source | None = None, now: datetime | None = None) -> dict[str, Any]:
    """The data of a run's timeline, in the shape that this module's docstring gives.

    :param against: the run to compare it with.
    :param now: for the word of its status; default: this moment.
    """
    return _Timeline(source, now or utcnow()).data(against)


@dataclass(slots=True)
class _Timeline:
    source: Source
    now: datetime
    rows: list[NodeRow] = field(init=False)
    places: dict[str, int] = field(init=False)
    bars: dict[str, list[Bar]] = field(init=False)
    lanes: list[str] = field(init=False)
    origin: datetime = field(init=False)
    seen: datetime = field(init=False)

    def __post_init__(self) -> None:
        state = self.source.state
        self.rows = node_rows(state)
        self.places = {row.unique_id: place for place, row in enumerate(self.rows)}
        placed, self.lanes = with_lanes(bar for bars in node_bars(state, self.source.history).values() for bar in bars)
        self.bars = {}
        for bar in sorted(placed, key=lambda bar: bar.attempt):
            self.bars.setdefault(bar.unique_id, []).append(bar)
        starts = [attempt.started.ts for attempt in state.attempts.values() if attempt.started]
        self.seen = last_seen(state) or self.now
        self.origin = min([*starts, *(bar.start for bar in placed)], default=self.seen)

    def data(self, against: Source | None) -> dict[str, Any]:
        source, state = self.source, self.source.state
        status = run_status(state, self.now)
        critical = self._critical()
        nodes = [self._node(row) for row in self.rows]
        _with_texts(nodes, [self._texts(row) for row in self.rows])
        span = self._at(max([self.seen, *(bar.end for bars in self.bars.values() for bar in bars if bar.end)]))
        attempts = [self._attempt(attempt) for _, attempt in sorted(state.attempts.items())]
        return {
            "version": VERSION,
            "made_at": _rfc3339(self.now),
            "origin": _rfc3339(self.origin),
            "title": inert(source.run),
            "run": {name: inert(getattr(source.run, name)) for name in ("deployment", "dag_id", "run_id", "group", "map_index")},
            "status": {"word": status.word, "detail": inert(status.detail)},
            "live": state.attempt is not None and state.attempt.finished is None,
            "span": span,
            "totals": self._totals(),
            "counts": counts(self.rows),
            "notes": [inert(note) for note in source.notes],
            "lanes": [inert(lane) for lane in self.lanes],
            "folds": _folds(nodes, span),
            "attempts": attempts,
            "nodes": nodes,
            "critical": critical,
            "slowest": self._slowest(),
            "against": None if against is None else against_data(source, against, self.places, nodes, self.now),
        }

    def _at(self, time: datetime) -> float:
        return round((time - self.origin).total_seconds(), 3)

    def _totals(self) -> dict[str, Any]:
        rows = [row.finished.rows_affected for row in self.rows if row.finished and row.finished.rows_affected is not None]
        bars = [bar for each in self.bars.values() for bar in each]
        return {
            "seconds": _rounded(run_seconds(self.source.state)),
            "nodes": len(self.rows),
            "done": sum(1 for row in self.rows if row.finished is not None),
            "node_seconds": round(sum((self._end(bar) - bar.start).total_seconds() for bar in bars), 3),
            "rows": sum(rows) if rows else None,
        }

    def _end(self, bar: Bar) -> datetime:
        return bar.end or max(bar.start, self.seen)

    def _attempt(self, attempt: Attempt) -> dict[str, Any]:
        status = attempt_status(self.source.state, attempt, self.now)
        started, dbt, end = attempt.started, attempt.dbt, attempt.finished
        bars = [bar for each in self.bars.values() for bar in each if bar.attempt == attempt.epoch]
        over = end.ts if end else max([attempt.last_seen or self.seen, *(bar.end for bar in bars if bar.end)])
        return {
            "attempt": attempt.epoch,
            "state": status.word,
            "detail": inert(status.detail),
            "start": self._at(started.ts if started else min((bar.start for bar in bars), default=over)),
            "end": self._at(over),
            "seconds": _rounded(attempt_seconds(attempt)),
            "command": inert(" ".join(started.command)) if started else None,
            "dbt": inert(dbt.dbt_version) if dbt and dbt.dbt_version else None,
            "threads": dbt.threads if dbt else None,
            "target": inert(dbt.target) if dbt and dbt.target else None,
            "message": _lines(end.message) if end and end.message else None,
            "incomplete": inert(end.incomplete) if end and end.incomplete else None,
            "hooks": [{"id": inert(h.unique_id), "state": h.outcome.value, "message": _lines(h.message)} for h in attempt.hooks.values()],
        }

    def _node(self, row: NodeRow) -> dict[str, Any]:
        begun, ended, bars = row.begun, row.finished, self.bars.get(row.unique_id, [])
        done = {batch.index for batch in bars[-1].node.batches} if bars else set()
        total = max((batch.total for batch in bars[-1].node.batches), default=0) if bars else 0
        facts = {
            "id": inert(row.unique_id),
            "name": inert(row.name),
            "type": inert(row.resource_type),
            "state": row.state,
            "attempt": row.attempt,
            "status": ended and inert(ended.status),
            "seconds": _rounded(row.seconds(self.seen)),
            "rows": ended and ended.rows_affected,
            "failures": ended and ended.failures,
            "query_id": ended and ended.query_id and inert(ended.query_id),
            "relation": _inert((ended.relation if ended else None) or (begun.relation if begun else None)),
            "materialized": _inert((ended.materialized if ended else None) or (begun.materialized if begun else None)),
            "thread": _inert(bars[-1].thread) if bars else None,
            "batches": [len(done), total] if total else None,
            "because": self._known(ended.skip_cause if ended else ()) or None,
            "up": self._known((self.source.parents or {}).get(row.unique_id, ())) or None,
            "from": bars[-1].attempt if bars and row.node and carried(row.node) and bars[-1].attempt != row.attempt else None,
            "bar": self._bar(bars[-1]) if bars else None,
            "earlier": [self._earlier(bar) for bar in bars[:-1]] or None,
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _bar(self, bar: Bar) -> list[float | int | None]:
        return [self._at(bar.start), None if bar.end is None else self._at(bar.end), bar.lane, bar.attempt]

    def _earlier(self, bar: Bar) -> dict[str, Any]:
        ended = bar.node.finished
        return {"state": bar.state, "bar": self._bar(bar), "message": first_line(ended.message)[:_SHORT] if ended else ""}

    def _known(self, unique_ids: Sequence[str]) -> list[int]:
        return [self.places[unique_id] for unique_id in dict.fromkeys(unique_ids) if unique_id in self.places]

    def _texts(self, row: NodeRow) -> tuple[str, list[str], int]:
        """Message, log lines, and how many lines the ledger does not have: of the attempt that ran it, if its success was carried over."""
        bars = self.bars.get(row.unique_id)
        logs = (row.node.logs if row.node else None) or (bars[-1].node.logs if bars else [])
        lines = [part for log in logs for line in log.lines for part in inert_lines(line)]
        return _lines(row.finished.message if row.finished else None), lines, sum(log.dropped for log in logs)

    def _critical(self) -> dict[str, Any] | None:
        ran = [bar for bars in self.bars.values() for bar in bars if bar.state not in _NOT_RUN]
        if self.source.parents is None:
            return None
        newest = max((bar.attempt for bar in ran), default=0)
        spans = {bar.unique_id: (self._at(bar.start), self._at(self._end(bar))) for bar in ran if bar.attempt == newest}
        path = critical_path(spans, self.source.parents)
        seconds = sum(spans[uid][1] - spans[uid][0] for uid in path)
        waited = spans[path[-1]][1] - spans[path[0]][0] - seconds if path else 0.0
        return {"nodes": [self.places[uid] for uid in path], "seconds": round(seconds, 3), "waited": round(max(0.0, waited), 3)}

    def _slowest(self) -> list[int]:
        timed = [(seconds, place) for place, row in enumerate(self.rows) if (seconds := row.seconds(self.seen))]
        return [place for _, place in sorted(timed, key=lambda pair: (-pair[0], pair[1]))[:_SLOWEST]]


def _with_texts(nodes: list[dict[str, Any]], texts: list[tuple[str, list[str], int]]) -> None:
    """Give the nodes their messages and logs, those of failed ones first, until the budget is used up."""
    left = TEXT_BUDGET
    rank = {state: place for place, state in enumerate(_TELLING)}
    for place in sorted(range(len(nodes)), key=lambda place: rank.get(nodes[place]["state"], len(rank))):
        node, (message, log, dropped) = nodes[place], texts[place]
        short = message[:_SHORT]
        size = len(as_json([message, log]))
        if size <= left:
            left -= size
        elif message != short or log:
            message, log = short, []
            node["cut"] = True
        facts = {"message": message, "log": log, "log_dropped": dropped}
        node.update({name: value for name, value in facts.items() if value})


def _folds(nodes: list[dict[str, Any]], span: float) -> list[list[float]]:
    bars = [one["bar"] for node in nodes for one in (node, *node.get("earlier", ())) if "bar" in one]
    busy = sorted((bar[0], span if bar[1] is None else bar[1]) for bar in bars)
    pauses: list[list[float]] = []
    until = 0.0
    for start, end in [*busy, (span, span)] if busy else ():
        if start > until:
            pauses.append([until, start])
        until = max(until, end)
    at_work = until - sum(end - start for start, end in pauses)
    return [pause for pause in pauses if pause[1] - pause[0] > max(1.0, _FOLD * at_work)]


def _lines(text: str | None) -> str:
    return "\n".join(inert_lines(text or ""))


def _inert(text: str | None) -> str | None:
    return inert(text) if text else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _rfc3339(time: datetime) -> str:
    return time.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
