"""``ledger-watcher report``: a run as one HTML file."""

from __future__ import annotations

import sys
from typing import Any

import click

from ledger_watcher.cli._common import EXIT_ERROR, LedgerCommand, Target, is_run_folder, locate, say_error, say_note, write_file
from ledger_watcher.cli._runs import Reading, Wanted, missing, patiently
from ledger_watcher.cli._select import entries, run_options, select
from ledger_watcher.errors import LedgerWatcherError
from ledger_watcher.ledger.verify import read_artifact
from ledger_watcher.report.bars import History
from ledger_watcher.report.edges import known_edges
from ledger_watcher.report.page import render
from ledger_watcher.report.source import Source
from ledger_watcher.report.timeline import timeline_data


@click.command(cls=LedgerCommand, name="report")
@run_options
@click.option(
    "-o", "--output", metavar="FILE", default="-", help="The HTML file, which appears whole or not at all; default: standard output."
)
@click.option("--against", metavar="RUN", help="Compare with this run, given by its run id or its folder.")
def report(ledger: str, storage_options: tuple[str, ...], *, output: str, against: str | None, **named: Any) -> None:
    """Write a run in LEDGER as one HTML file: a timeline of its nodes on dbt's threads, with all that the ledger knows of each.

    The file needs no network and holds names, messages and log lines of the run: share it as you would share those. Without options it is
    the newest run. Edges and the critical path come from the manifest that the run stored; a run under way, or one that was killed, may have
    none, which the page then says. --against adds what got slower, faster, or has another status; without a DAG of its own, RUN is one of
    the same DAG, group and map index.

    LEDGER is a root or the folder of one run, as `ls --uri` prints it; it may be left out if LEDGER_WATCHER_LEDGER is set.

    Exit codes: 0 written, whatever became of the run; 3 not written, or only up to an error in the ledger (the page says so); 2 is a mistake in
    the options.
    """
    if output == "-" and sys.stdout.isatty():
        raise click.UsageError("The report is a page for a browser: give a file with -o report.html.")
    target = locate(ledger, storage_options)
    reading = select(target, Wanted(**named), whole=True)
    source, problem = _source(reading)
    other = None if against is None else _whole(_other(target, reading, against, storage_options))
    page = render(timeline_data(source, against=other)).encode()
    if output == "-":
        click.echo(page, nl=False)
    else:
        write_file(output, page)
        say_note(f"Wrote {output}: {len(page) / 1e6:.2f} MB. Open it in a browser.")
    if problem is not None:
        say_error(f"This is only what stands before an error: {problem}")
        sys.exit(EXIT_ERROR)


def _source(reading: Reading) -> tuple[Source, LedgerWatcherError | None]:
    """The run, and what stopped the reading of it, if anything did.

    :raises LedgerWatcherError: there is nothing to show.
    """
    history, problem = History(), None
    try:
        for entry in entries(reading):
            history.apply((entry,))
    except LedgerWatcherError as error:
        if not reading.state.attempts:
            raise
        problem = error
    notes = [f"This is only what stands before an error: {problem}"] if problem else []
    if reading.follower.expired:
        notes.append(f"The first {reading.follower.expired} segments of this run are gone: earlier attempts may be missing.")
    parents, why = known_edges(reading.state, lambda one: patiently(lambda: read_artifact(reading.store, reading.run, one)))
    return Source(run=reading.run, state=reading.state, history=history, parents=parents, notes=[*notes, *why]), problem


def _other(target: Target, reading: Reading, against: str, storage_options: tuple[str, ...]) -> Reading:
    if is_run_folder(against):
        return select(locate(against, storage_options), Wanted())
    run = reading.run
    wanted = Wanted(deployment=run.deployment, dag_id=run.dag_id, run_id=against, group=run.group, map_index=run.map_index)
    return select(Target(target.store, None), wanted)


def _whole(reading: Reading) -> Source:
    """A run to its end: half a run would compare as if nodes were removed."""
    reading.advance()
    if reading.problem is not None:
        raise reading.problem
    if not reading.state.attempts:
        raise missing(reading.store, reading.run)
    return Source(run=reading.run, state=reading.state)
