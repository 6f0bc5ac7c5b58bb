"""``ledger-watcher export``: a run for other tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from ledger_watcher.cli._common import LedgerCommand, Target, locate, say_note, write_file
from ledger_watcher.cli._runs import Reading, Wanted, find_runs, missing, newest_first, patiently, read_all
from ledger_watcher.cli._select import entries, run_options, select
from ledger_watcher.errors import RunNotFound
from ledger_watcher.ledger.segments import Entry
from ledger_watcher.ledger.verify import read_artifact
from ledger_watcher.report.export import COLUMNS, csv_text, identity, json_line
from ledger_watcher.report.parquet import parquet_bytes
from ledger_watcher.report.run_results import synthesised
from ledger_watcher.report.text import inert_lines
from ledger_watcher.report.view import node_rows
from ledger_watcher.state import RunState

_ARTIFACT = "run_results.json"
_COLUMNS = ", ".join(COLUMNS)


@click.command(
    cls=LedgerCommand,
    name="export",
    epilog=f"Columns of the csv, which stay as they are (new ones come at the end): {_COLUMNS}.",
)
@run_options
@click.option("--all", "everything", is_flag=True, help="parquet: every run that fits the other options, instead of the newest one.")
@click.option("--to", "form", required=True, type=click.Choice(["jsonl", "csv", "parquet", "run_results"]), help="What to make of the run.")
@click.option(
    "-o", "--output", metavar="FILE", default="-", help="Where to; default: standard output. The file appears whole or not at all."
)
@click.option(
    "--spreadsheet-safe", is_flag=True, help="csv: an apostrophe before text that a spreadsheet would take for a formula (= + - @)."
)
def export(
    ledger: str, storage_options: tuple[str, ...], *, form: str, output: str, everything: bool, spreadsheet_safe: bool, **named: Any
) -> None:
    """Write a run in LEDGER in a form that other tools read. Without options it is the newest run.

    jsonl: every record as it stands in the ledger, a line each, with seq, epoch and the run's identity; nothing is lost.
    csv: a row per node; characters that are not printable are written as escapes.
    parquet: a row per node, with types (docs/sql.md); it needs pip install 'ledger-watcher[parquet]'.
    run_results: dbt's run_results.json of the newest attempt as it was stored, its hash checked; if that attempt stored none, one is made of
    the records, which standard error then says.

    LEDGER is a root or the folder of one run, as `ls --uri` prints it; it may be left out if LEDGER_WATCHER_LEDGER is set.

    Exit codes: 0 written, 3 not written (no such run, denied, out of reach, corrupt; `tail --json` prints what stands before a damaged
    segment), 2 is a mistake in the options.
    """
    if spreadsheet_safe and form != "csv":
        raise click.UsageError("--spreadsheet-safe goes with --to csv only.")
    if everything and form != "parquet":
        raise click.UsageError("--all goes with --to parquet only.")
    if form == "parquet" and output == "-" and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing for a terminal: give a file with -o nodes.parquet.")
    target = locate(ledger, storage_options)
    if form == "parquet":
        readings = _all(target, Wanted(**named)) if everything else _whole([select(target, Wanted(**named))])
        _write(output, parquet_bytes((reading.run, node_rows(reading.state)) for reading in readings))
        return
    reading = select(target, Wanted(**named), whole=form == "jsonl")
    found = list(entries(reading))
    if form == "jsonl":
        data = _jsonl(reading, found)
    elif form == "csv":
        data = csv_text(reading.run, node_rows(reading.state), spreadsheet_safe=spreadsheet_safe).encode("utf-8", "backslashreplace")
    else:
        data = _run_results(reading)
    _write(output, data)


def _all(target: Target, wanted: Wanted) -> list[Reading]:
    """Every run that fits, oldest first."""
    if target.run is not None:
        raise click.UsageError("LEDGER is the folder of one run: --all does not go with it.")
    runs = find_runs(target.store, wanted)
    if not runs:
        raise RunNotFound(f"No run under {target.store.root} fits, so there is nothing to export; see `ledger-watcher ls`.")
    return _whole(newest_first(target.store, runs)[::-1])


def _whole(readings: Sequence[Reading]) -> list[Reading]:
    """Each to its end: half a run would look as if that were all.

    :raises LedgerWatcherError: one cannot be read.
    """
    found = read_all(readings)
    for reading in found:
        if reading.problem is not None:
            raise reading.problem
        if not reading.state.attempts:
            raise missing(reading.store, reading.run)
    return found


def _jsonl(reading: Reading, found: Sequence[Entry]) -> bytes:
    names = identity(reading.run)
    return "".join(f"{json_line(entry, names)}\n" for entry in found).encode()


def _run_results(reading: Reading) -> bytes:
    state = reading.state
    newest = state.attempt
    stored = newest.artifacts.get(_ARTIFACT) if newest else None
    if newest is None or stored is None:
        say_note(f"The newest attempt of {reading.run} stored no {_ARTIFACT}: this one is made of the records{_left_out(state)}.")
        return json.dumps(synthesised(state), indent=2, ensure_ascii=True).encode() + b"\n"
    data = patiently(lambda: read_artifact(reading.store, reading.run, stored))
    missed = sum(1 for node in state.nodes.values() if node.epoch < newest.epoch)
    if missed:
        say_note(f"It is that of attempt {newest.epoch}: {missed} nodes of earlier attempts are not in it (--to csv and jsonl have them).")
    return data


def _left_out(state: RunState) -> str:
    missed = sum(1 for row in node_rows(state) if row.finished is None)
    return f", without {missed} node{'' if missed == 1 else 's'} that did not end" if missed else ""


def _write(output: str, data: bytes) -> None:
    if output != "-":
        write_file(output, data)
    elif sys.stdout.isatty():
        click.echo("\n".join(inert_lines(data.decode("utf-8", "backslashreplace"))))
    else:
        click.echo(data, nl=False)
