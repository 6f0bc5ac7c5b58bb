"""A run as it happens: a table that is redrawn on a terminal, one line per finished node everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from ledger_watcher.errors import Transient
from ledger_watcher.ledger.follower import RunFollower
from ledger_watcher.records import utcnow
from ledger_watcher.report.eta import Past, Progress, progress
from ledger_watcher.report.grid import Cell, Column, Grid, styled, terminal
from ledger_watcher.report.text import duration, encodable, first_line, inert
from ledger_watcher.report.view import RUNNING, WAITING, NodeRow, attempt_seconds, counts, counts_text, node_rows, run_status, word
from ledger_watcher.state import RunState

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_COLUMNS = (Column("status"), Column("type"), Column("node", wraps=20), Column("seconds", right=True))
_FRAME = 6
"""Lines of a screen that rows cannot have: heading, progress and its bar, the rest's summary, a note, the cursor."""
_BAR = 30
"""Columns of the bar of progress."""

Show = Callable[[RunState, str], None]


def live_table(
    state: RunState,
    expected: Sequence[str] | None = None,
    *,
    now: datetime | None = None,
    max_rows: int | None = None,
    past: Past | None = None,
) -> RenderableType | str:
    """The nodes of a run and a line of progress: a rich renderable, or text where rich is not installed.

    :param expected: unique_ids that are to come, in the order in which to show them; what the ledger says is planned comes in any case.
    :param now: the time that running nodes and the elapsed time are counted to; default: this moment.
    :param max_rows: show no more rows than this: those running, failed or finished last, and a count of the rest.
    :param past: an earlier run, by which the time that is left is estimated; else it is what is done so far.
    """
    now = now or utcnow()
    rows = node_rows(state, expected)
    shown = _most_telling(rows, max_rows)
    grid = Grid(_COLUMNS, [_cells(row, now) for row in shown])
    ids = {row.unique_id for row in shown}
    hidden = counts_text(counts(row for row in rows if row.unique_id not in ids))
    rest = f"and {len(rows) - len(shown)} more: {hidden}" if hidden else ""
    last = progress_line(state, expected, now=now, past=past)
    word = run_status(state, now).word
    far = progress(state, now, expected=expected, past=past)
    left = how_far(far) if word == RUNNING else ""  # of a silent run nobody knows whether it goes on
    try:
        from rich.console import Group  # noqa: PLC0415 - rich is optional
    except ImportError:
        return "\n".join(part for part in (grid.plain(), rest, left, last) if part)
    parts: list[RenderableType] = [grid.rich()] if rows else []
    parts += [styled(Cell(rest, WAITING))] if rest else []
    parts += [styled(Cell(f"{_bar(far)} {left}", RUNNING))] if left else []
    return Group(*parts, styled(Cell(last, word)))


def progress_line(state: RunState, expected: Sequence[str] | None = None, *, now: datetime | None = None, past: Past | None = None) -> str:
    """``running: 7 of 13 nodes done (6 success, 1 failed, 1 running, 5 waiting), 12.3 s``."""
    now = now or utcnow()
    if state.attempt is None:
        return "nothing in the ledger yet"
    rows = node_rows(state, expected)
    far = progress(state, now, expected=expected, past=past)
    number = f" {state.attempt.epoch}" if state.attempt.epoch > 1 else ""
    status = run_status(state, now)
    detail = f"attempt{number} {status}" if number else str(status)
    elapsed = duration(attempt_seconds(state.attempt, now))
    total = f"about {far.total}" if far.guessed else str(far.total)
    return (
        f"{detail}: {far.done} of {total} nodes done ({counts_text(counts(rows))}), {elapsed}"
        if rows
        else f"{detail}: no node yet, {elapsed}"
    )


def how_far(far: Progress) -> str:
    """``54 %, about 9.10 s left (by run-1)``; empty where nobody knows how much is to come."""
    if far.left is None:
        return ""
    return f"{100 * far.done // max(1, far.total)} %, about {duration(far.left)} left (by {inert(far.by)})"


def follow(  # noqa: PLR0913 - keywords, each with a default
    follower: RunFollower,
    *,
    expected: Sequence[str] | None = None,
    stop: Callable[[], bool] | None = None,
    attempt: int = 1,
    interval: float = 1.0,
    out: TextIO | None = None,
    past: Past | None = None,
) -> RunState:
    """Show a run until its attempt has ended, or ``stop()`` says so; return the state that was reached.

    On a terminal a table is redrawn in place and left complete at the end; otherwise each finished node is one line. What was in
    the ledger when ``stop()`` said so is still shown. A storage out of reach is waited for.

    :param attempt: the attempt whose end is waited for: the end of an earlier one does not stop it, that of a later one does.
    :param interval: seconds between two reads.
    :param out: where to, standard output by default.
    :param past: see :func:`live_table`.
    :raises LedgerWatcherError: the ledger cannot be read (denied, corrupt, of a newer format).
    """
    state = follower.state
    with _screen(out or sys.stdout, expected, past) as show:
        while True:
            stopping = stop is not None and stop()
            show(state, _read_on(follower))
            if stopping or (state.ended and max(state.attempts) >= attempt):
                return state
            time.sleep(interval)


def _read_on(follower: RunFollower) -> str:
    """Fold in what is new."""
    try:
        follower.snapshot()
    except Transient as error:
        return f"waiting for the storage: {first_line(str(error))}"
    return ""


@contextmanager
def _screen(out: TextIO, expected: Sequence[str] | None, past: Past | None) -> Iterator[Show]:
    console = terminal(out)
    if console is None:
        yield _Lines(out, expected)
    else:
        with _live(console, expected, past) as show:
            yield show


@contextmanager
def _live(console: Console, expected: Sequence[str] | None, past: Past | None) -> Iterator[Show]:
    from rich.console import Group  # noqa: PLC0415 - rich is optional
    from rich.live import Live  # noqa: PLC0415

    final: list[RunState] = []

    def show(state: RunState, note: str) -> None:
        final[:] = [state]
        table = live_table(state, expected, max_rows=max(3, console.height - _FRAME), past=past)
        live.update(Group(table, styled(Cell(note))) if note else table, refresh=True)

    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield show
    finally:  # after Ctrl-C too: the live table was cut to the screen, this one is whole and stays
        if final:
            console.print(live_table(final[0], expected, past=past))


@dataclass(slots=True)
class _Lines:
    """Plain output: a line per attempt, per finished node, and the progress at the end."""

    out: TextIO
    expected: Sequence[str] | None
    seen: set[tuple[str, int]] = field(default_factory=set)
    note: str = ""
    ended: int = 0

    def __call__(self, state: RunState, note: str) -> None:
        for attempt in state.attempts.values():
            if attempt.started is not None and self._new("", attempt.epoch):
                self._say(f"attempt {attempt.epoch}: {' '.join(attempt.started.command)}")
        for row in node_rows(state, self.expected):
            if row.finished is None or row.attempt is None or not self._new(row.unique_id, row.attempt):
                continue
            if row.finished.source != "carried_over":  # its line stands above, from the attempt that built it
                self._say("  ".join((f"{word(row.state):<9}", row.name, *_details(row))))
        if note and note != self.note:
            self._say(note)
        self.note = note
        if state.ended and state.attempt and state.attempt.epoch > self.ended:
            self.ended = state.attempt.epoch
            self._say(progress_line(state, self.expected))

    def _new(self, unique_id: str, epoch: int) -> bool:
        before = len(self.seen)
        self.seen.add((unique_id, epoch))
        return len(self.seen) > before

    def _say(self, line: str) -> None:
        self.out.write(encodable(inert(line), self.out.encoding) + "\n")
        self.out.flush()


def _bar(far: Progress) -> str:
    full = _BAR * far.done // max(1, far.total)
    return "━" * full + "╌" * (_BAR - full)


def _details(row: NodeRow) -> list[str]:
    message = first_line(row.finished.message) if row.finished and row.state != "success" else ""
    return [part for part in (duration(row.seconds()), message) if part]


def _cells(row: NodeRow, now: datetime) -> list[Cell | str]:
    seconds = row.seconds(now)
    return [Cell(word(row.state), row.state), row.resource_type, row.name, "" if seconds is None else f"{seconds:.2f}"]


def _most_telling(rows: list[NodeRow], limit: int | None) -> list[NodeRow]:
    """At most ``limit`` rows, in their order: running and failed ones first, then those that finished last, then what waits."""
    if limit is None or len(rows) <= limit:
        return rows

    def rank(at: int) -> tuple[int, float]:
        row = rows[at]
        if row.state in (RUNNING, "failed"):
            return 0, 0.0
        return (1, -row.finished.ts.timestamp()) if row.finished else (2, float(at))

    return [rows[at] for at in sorted(sorted(range(len(rows)), key=rank)[:limit])]
