"""``ledger-watcher ls``: the runs under a root."""

from __future__ import annotations

import sys
from datetime import datetime

import click

from ledger_watcher.cli import _shape
from ledger_watcher.cli._common import EXIT_ERROR, LedgerCommand, ledger_options, locate, say, say_error, say_grid, say_json, say_note
from ledger_watcher.cli._runs import Reading, Wanted, find_runs, newest_first, read_all
from ledger_watcher.errors import CorruptLedger, Denied, LedgerWatcherError, UnsupportedLedger
from ledger_watcher.records import utcnow
from ledger_watcher.report.grid import Cell, Column, Grid
from ledger_watcher.report.text import age, duration
from ledger_watcher.report.view import counts, counts_text, node_rows, run_seconds, run_status
from ledger_watcher.storage import LocalStore, Store

_COLUMNS = (
    Column("deployment"),
    Column("dag", wraps=8),
    Column("run", wraps=18),
    Column("group", wraps=5),
    Column("map", right=True),
    Column("status", wraps=12),
    Column("age", right=True),
    Column("took", right=True),
    Column("attempts", right=True),
    Column("nodes", wraps=10),
)


@click.command(cls=LedgerCommand, name="ls")
@ledger_options
@click.option("--dag-id", help="Only this DAG.")
@click.option("--deployment", help="Only this deployment.")
@click.option("--limit", default=20, show_default=True, metavar="N", type=click.IntRange(min=0), help="The newest N; 0 is all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object (shape: docs/cli.md).")
@click.option("--uri", "uris", is_flag=True, help="Only the folders of the runs, one per line: each can be given to `show`.")
def ls(  # noqa: PLR0913 - click gives one parameter per option
    ledger: str, storage_options: tuple[str, ...], dag_id: str | None, deployment: str | None, limit: int, *, as_json: bool, uris: bool
) -> None:
    """List the runs in LEDGER, a folder or a URI such as s3://bucket/prefix, newest first.

    A run is success or failed once its newest attempt has ended; running while records arrive; silent when none arrived for a
    minute, for reasons that the ledger cannot know. Age counts from the start of the first attempt, what it took is the time of all
    attempts together. An empty ledger is no error (exit code 0). Runs that cannot be read are listed as such, with exit code 3.

    LEDGER may be left out if LEDGER_WATCHER_LEDGER is set.
    """
    target = locate(ledger, storage_options)
    wanted = Wanted(deployment=deployment, dag_id=dag_id)
    if target.run is not None and wanted.given:
        raise click.UsageError("LEDGER is the folder of one run: --dag-id and --deployment do not go with it.")
    keys = [target.run] if target.run is not None else find_runs(target.store, wanted)
    readings = newest_first(target.store, keys)
    shown = _newest(readings, limit)
    if not uris:
        shown = read_all(shown)
    _print(target.store, shown, len(readings), as_json=as_json, uris=uris)
    _end(shown, len(readings))


def _newest(readings: list[Reading], limit: int) -> list[Reading]:
    """The first ``limit``, and every run whose age cannot be told: one that cannot be read must not fall off the end."""
    return [reading for at, reading in enumerate(readings) if not limit or at < limit or reading.started_at is None]


def _print(store: Store, shown: list[Reading], total: int, *, as_json: bool, uris: bool) -> None:
    now = utcnow()
    if as_json:
        say_json(_shape.ledger(store.root, shown, total, now))
    elif not shown:
        hint = "" if isinstance(store, LocalStore) else " (a mistyped prefix looks the same)"
        say_note(f"No runs under {store.root}{hint}.")
    elif uris:
        for reading in shown:
            say(reading.uri)
    else:
        several = any(len(reading.state.attempts) > 1 for reading in shown)
        say_grid(Grid(_COLUMNS, [_row(reading, now, several=several) for reading in shown]))
        if len(shown) < total:
            say_note(f"{len(shown)} of {total} runs; --limit 0 lists all.")


def _end(shown: list[Reading], total: int) -> None:
    problems = [reading.problem for reading in shown if reading.problem is not None]
    if problems:
        say_error(f"{len(problems)} of {total} runs could not be read to the end: {problems[0]}")
        sys.exit(EXIT_ERROR)


def _row(reading: Reading, now: datetime, *, several: bool) -> list[Cell | str]:
    run, state = reading.run, reading.state
    status = run_status(state, now)
    return [
        run.deployment if run.deployment != "default" else "",
        run.dag_id,
        run.run_id,
        run.group,
        str(run.map_index) if run.map_index >= 0 else "",
        Cell(str(status), status.word) if reading.problem is None else Cell(_named(reading.problem), "failed"),
        age(reading.started_at, now),
        duration(run_seconds(state)),
        str(len(state.attempts)) if several else "",
        counts_text(counts(node_rows(state))),
    ]


def _named(problem: LedgerWatcherError) -> str:
    names: tuple[tuple[type[LedgerWatcherError], str], ...] = (
        (UnsupportedLedger, "newer format"),
        (CorruptLedger, "corrupt"),
        (Denied, "denied"),
    )
    return next((name for kind, name in names if isinstance(problem, kind)), "not readable")
