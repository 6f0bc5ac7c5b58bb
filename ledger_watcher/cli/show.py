"""``ledger-watcher show``: one run, or one node of it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from datetime import datetime

import click

from ledger_watcher import codec
from ledger_watcher.cli import _shape
from ledger_watcher.cli._common import EXIT_ERROR, LedgerCommand, locate, say, say_error, say_grid, say_json
from ledger_watcher.cli._runs import Reading, Wanted, missing
from ledger_watcher.cli._select import run_options, say_expired, select
from ledger_watcher.errors import ConfigError
from ledger_watcher.records import Outcome, utcnow
from ledger_watcher.report.gantt import gantt_lines
from ledger_watcher.report.grid import Cell, Column, Grid
from ledger_watcher.report.text import clock, duration, first_line, inert, inert_lines
from ledger_watcher.report.view import (
    NodeRow,
    attempt_seconds,
    attempt_status,
    counts,
    counts_text,
    finished_at,
    last_seen,
    name_of,
    node_rows,
    run_seconds,
    run_status,
    word,
)
from ledger_watcher.state import RunState

_ATTEMPTS = (
    Column("attempt", right=True),
    Column("status", wraps=12),
    Column("started"),
    Column("took", right=True),
    Column("dbt"),
    Column("command", wraps=20),
)
_NODES = (
    Column("status"),
    Column("type"),
    Column("node", wraps=20),
    Column("attempt", right=True),
    Column("started"),
    Column("seconds", right=True),
    Column("rows", right=True),
    Column("failures", right=True),
    Column("message", wraps=20),
)


@click.command(cls=LedgerCommand, name="show")
@run_options
@click.argument("node", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object (shape: docs/cli.md).")
def show(
    ledger: str, node: str | None, storage_options: tuple[str, ...], *, as_json: bool, map_index: int | None, **named: str | None
) -> None:
    """Show a run in LEDGER: its attempts and nodes; or everything about one NODE (unique_id, or name), with its log.

    LEDGER is a folder or a URI such as s3://bucket/prefix; of its runs the newest is shown, or the one that the options name. It may
    also be the folder of one run, as `ls --uri` prints it; without any argument it is that of LEDGER_WATCHER_LEDGER. Times are in UTC.
    The exit code is 0 whatever became of the run.
    """
    reading = select(locate(ledger, storage_options), Wanted(map_index=map_index, **named))
    reading.advance()
    say_expired(reading)
    _show(reading, node, as_json=as_json)


def _show(reading: Reading, node: str | None, *, as_json: bool) -> None:
    if not reading.state.attempts:
        raise reading.problem or missing(reading.store, reading.run)
    now = utcnow()
    rows = node_rows(reading.state)
    if node is not None:
        rows = [_find(rows, node)]
    if as_json:
        say_json(_shape.run(reading, rows, now, full=node is not None))
    elif node is not None:
        _show_node(rows[0], reading.state)
    else:
        _show_run(reading, rows, now)
    if reading.problem is not None:
        say_error(f"This is only what stands before an error: {reading.problem}")
        sys.exit(EXIT_ERROR)


def _find(rows: Sequence[NodeRow], wanted: str) -> NodeRow:
    """The node of that unique_id, else of that name.

    :raises ConfigError: none, or several.
    """
    found = [row for row in rows if row.unique_id == wanted] or [row for row in rows if wanted in (row.name, name_of(row.unique_id))]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{len(found)} nodes have the name {wanted!r}; give the unique_id: {'; '.join(row.unique_id for row in found)}.")
    like = difflib.get_close_matches(wanted, [row.name for row in rows], n=5, cutoff=0.5)
    hint = f" Did you mean {' or '.join(like)}?" if like else " `show` without a node lists them."
    raise ConfigError(f"The run has no node {wanted!r}.{hint}")


def _show_run(reading: Reading, rows: Sequence[NodeRow], now: datetime) -> None:
    state = reading.state
    say(inert(f"{reading.run}: {run_status(state, now)}"))
    say(inert(reading.uri))
    say(f"started {clock(reading.started_at)}, last seen {clock(last_seen(state))}, took {duration(run_seconds(state))}")
    say()
    attempts = [attempt for _, attempt in sorted(state.attempts.items())]
    statuses = [attempt_status(state, attempt, now) for attempt in attempts]
    say_grid(
        Grid(
            _ATTEMPTS,
            [
                (
                    str(attempt.epoch),
                    Cell(str(status), status.word),
                    clock(attempt.started.ts if attempt.started else None),
                    duration(attempt_seconds(attempt)),
                    (attempt.dbt and attempt.dbt.dbt_version) or "",
                    " ".join(attempt.started.command) if attempt.started else "",
                )
                for attempt, status in zip(attempts, statuses, strict=True)
            ],
        )
    )
    for attempt in attempts:
        _show_remarks(attempt.epoch, state)
    say()
    if not rows:
        say("No nodes." if state.attempt is not None and state.attempt.finished is not None else "No nodes yet.")
        return
    say(f"{len(rows)} node{'' if len(rows) == 1 else 's'}: {counts_text(counts(rows))}")
    say_grid(Grid(_NODES, [_node_cells(row, state) for row in rows]))
    chart = gantt_lines(state, blocks=(sys.stdout.encoding or "").lower().startswith("utf"))
    if chart:
        say("\n".join(("", *chart)))


def _show_remarks(epoch: int, state: RunState) -> None:
    """What went wrong with an attempt as a whole."""
    attempt = state.attempts[epoch]
    for hook in attempt.hooks.values():
        if not hook.outcome.ok:
            say(f"attempt {epoch}: hook {inert(hook.unique_id)} {hook.outcome.value}: {first_line(hook.message)}")
    end = attempt.finished
    for title, text in (("message", end and end.message), ("the ledger is incomplete", end and end.incomplete)):
        lines = inert_lines(text) if text else []
        if lines:
            say("\n    ".join([f"attempt {epoch}: {title}: {lines[0]}", *lines[1:]]))


def _node_cells(row: NodeRow, state: RunState) -> list[Cell | str]:
    ended = row.finished
    seconds = _seconds(row, state)
    return [
        Cell(word(row.state), row.state),
        row.resource_type,
        row.name,
        str(row.attempt) if row.attempt is not None and len(state.attempts) > 1 else "",
        clock(row.started_at, date=False),
        "" if seconds is None else f"{seconds:.2f}",
        _number(ended.rows_affected if ended else None),
        _number(ended.failures if ended else None),
        _message(row),
    ]


def _seconds(row: NodeRow, state: RunState) -> float | None:
    """A running node is counted up to the newest record: how long it runs by then is known, whether it still does is not."""
    return row.seconds(last_seen(state))


def _message(row: NodeRow) -> str:
    ended = row.finished
    if ended is None:
        return ""
    chosen = f"{ended.by_choice}: " if ended.by_choice else ""
    if ended.outcome is Outcome.SKIPPED and ended.skip_cause:
        return f"{chosen}because of {', '.join(name_of(cause) for cause in ended.skip_cause)}"
    return f"{chosen}{first_line(ended.message)}"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _show_node(row: NodeRow, state: RunState) -> None:
    say(inert(f"{row.name}: {word(row.state)}"))
    for title, value in _facts(row, state):
        if value:
            say(f"  {title:<15} {inert(value)}")
    _section("message", inert_lines(row.finished.message) if row.finished and row.finished.message else [])
    logs = row.node.logs if row.node else []
    dropped = sum(log.dropped for log in logs)
    lines = [part for log in logs for line in log.lines for part in inert_lines(line)]
    _section("log", [*lines, f"({dropped} lines were not kept)"] if dropped else lines)


def _facts(row: NodeRow, state: RunState) -> list[tuple[str, str]]:
    begun, ended = row.begun, row.finished
    seconds = _seconds(row, state)
    batches = row.node.batches if row.node else []
    return [
        ("unique_id", row.unique_id),
        ("type", row.resource_type),
        ("materialized", (ended and ended.materialized) or (begun and begun.materialized) or ""),
        ("relation", (ended and ended.relation) or (begun and begun.relation) or ""),
        ("attempt", _number(row.attempt)),
        ("dbt status", ended.status if ended else ""),
        ("started", clock(row.started_at)),
        ("finished", clock(finished_at(ended))),
        ("seconds", "" if seconds is None else f"{seconds:.3f}"),
        ("rows affected", _number(ended.rows_affected if ended else None)),
        ("failures", _number(ended.failures if ended else None)),
        ("query id", (ended and ended.query_id) or ""),
        ("by choice", (ended and ended.by_choice) or ""),
        ("skipped for", ", ".join(ended.skip_cause) if ended else ""),
        ("thread", (ended and ended.thread) or (begun and begun.thread) or ""),
        ("adapter", codec.dumps(ended.adapter_response).decode("utf-8", "replace") if ended and ended.adapter_response else ""),
        ("known from", ended.source if ended else ""),
        *((f"batch {batch.index}/{batch.total}", f"{batch.status} {duration(batch.execution_time)}".strip()) for batch in batches),
    ]


def _section(title: str, lines: Sequence[str]) -> None:
    if lines:
        say()
        say("\n".join((title, *(f"  {line}" for line in lines))))
