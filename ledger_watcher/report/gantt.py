"""A small Gantt chart for a terminal: a line per thread of dbt, as wide as it is told to be."""

from __future__ import annotations

from datetime import datetime
from itertools import cycle

from ledger_watcher.report.bars import Bar, node_bars, with_lanes
from ledger_watcher.report.text import duration
from ledger_watcher.report.view import RUNNING, last_seen, word
from ledger_watcher.state import RunState

_MARKS = {"failed": "x", "warn": "!", "running": ">", "unfinished": "?", "cancelled": "/"}
_PLAIN, _BLOCKS = "=-", "█▓"
_MOST_LANES = 16


def gantt_lines(state: RunState, *, width: int = 72, blocks: bool = False) -> list[str]:
    """The newest attempt that ran something, from its first node to its last; nothing where there is nothing to compare.

    Nodes that follow each other have other fillings in turn, so that their ends can be seen; what did not succeed has a letter.

    :param width: columns of the chart itself.
    :param blocks: fill with block characters, which the output must be able to show.
    """
    every = [bar for bars in node_bars(state).values() for bar in bars if bar.end is None or bar.end > bar.start]
    newest = max((bar.attempt for bar in every), default=0)
    bars, lanes = with_lanes(bar for bar in every if bar.attempt == newest)
    seen = last_seen(state)
    if len(bars) < 2 or seen is None:  # noqa: PLR2004 - one node alone is no chart
        return []
    start = bars[0].start
    span = max(((bar.end or max(seen, bar.start)) - start).total_seconds() for bar in bars) or 0.001
    drawn = [_lane([bar for bar in bars if bar.lane == lane], start, span, width, seen, blocks=blocks) for lane in range(len(lanes))]
    digits = len(str(len(lanes)))
    several = f" of attempt {newest}" if len(state.attempts) > 1 else ""
    more = [f"  and {len(drawn) - _MOST_LANES} more threads"] if len(drawn) > _MOST_LANES else []
    return [
        f"timeline{several}: {duration(span)} from the first node on, a column is {duration(span / width)}{_legend(bars)}",
        *(f"  {number:>{digits}} {text}".rstrip() for number, text in enumerate(drawn[:_MOST_LANES], 1)),
        *more,
    ]


def _lane(bars: list[Bar], start: datetime, span: float, width: int, seen: datetime, *, blocks: bool) -> str:
    columns = [" "] * width
    filling = cycle(_BLOCKS if blocks else _PLAIN)
    for bar in bars:
        first = min(width - 1, int((bar.start - start).total_seconds() / span * width))
        last = round(((bar.end or max(seen, bar.start)) - start).total_seconds() / span * width)
        fill = next(filling)
        columns[first : max(first + 1, last)] = (_MARKS.get(bar.state, fill)) * (max(first + 1, last) - first)
    return "".join(columns[:width])


def _legend(bars: list[Bar]) -> str:
    states = {bar.state for bar in bars}
    parts = [f"{mark} {word(state) if state != RUNNING else 'still running'}" for state, mark in _MARKS.items() if state in states]
    return f" ({', '.join(parts)})" if parts else ""
