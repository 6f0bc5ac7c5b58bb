"""``ledger-watcher export``: a run for other tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from ledger_watcher.cli._common import LedgerCommand, locate, say_note, write_file
from ledger_watcher.cli._runs import Reading, Wanted, patiently
from ledger_watcher.cli._select import entries, run_options, select
from ledger_watcher.ledger.segments import Entry
from ledger_watcher.ledger.verify import read_artifact
from ledger_watcher.report.export import COLUMNS, csv_text, identity, json_line
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
@click.option("--to", "form", required=True, type=click.Choice(["jsonl", "csv", "run_results"]), help="What to make of the run.")
@click.option(
    "-o", "--output", metavar="FILE", default="-", help="Where to; default: standard output. The file appears whole or not at all."
)
@click.option(
    "--spreadsheet-safe", is_flag=True, help="csv: an apostrophe before text that a spreadsheet would take for a formula (= + - @)."
)
def export(ledger: str, storage_options: tuple[str, ...], *, form: str, output: str, spreadsheet_safe: bool, **named: Any) -> None:
    """Write a run in LEDGER in a form that other tools read. Without options it is the newest run.

    jsonl: every record as it stands in the ledger, a line each, with seq, epoch and the run's identity; nothing is lost.
    csv: a row per node; characters that are not printable are written as escapes.
    run_results: dbt's run_results.json of the newest attempt as it was stored, its hash checked; if that attempt stored none, one is made of
    the records, which standard error then says.

    LEDGER is a root or the folder of one run, as `ls --uri` prints it; it may be left out if LEDGER_WATCHER_LEDGER is set.

    Exit codes: 0 written, 3 not written (no such run, denied, out of reach, corrupt; `tail --json` prints what stands before a damaged
    segment), 2 is a mistake in the options.
    """
    if spreadsheet_safe and form != "csv":
        raise click.UsageError("--spreadsheet-safe goes with --to csv only.")
    target = locate(ledger, storage_options)
    reading = select(target, Wanted(**named), whole=form == "jsonl")
    found = list(entries(reading))
    if form == "jsonl":
        data = _jsonl(reading, found)
    elif form == "csv":
        data = csv_text(reading.run, node_rows(reading.state), spreadsheet_safe=spreadsheet_safe).encode("utf-8", "backslashreplace")
    else:
        data = _run_results(reading)
    _write(output, data)


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
