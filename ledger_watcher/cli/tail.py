"""``ledger-watcher tail``: a run's records in order, and as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from time import sleep
from typing import Any

import click

from ledger_watcher.cli._common import LedgerCommand, Target, locate, say, say_note
from ledger_watcher.cli._past import past_of
from ledger_watcher.cli._runs import Reading, Wanted
from ledger_watcher.cli._select import entries, run_options, say_expired, select
from ledger_watcher.errors import RunNotFound, Transient
from ledger_watcher.ledger.layout import SEG
from ledger_watcher.ledger.segments import Entry
from ledger_watcher.report import table
from ledger_watcher.report.export import json_line
from ledger_watcher.report.grid import terminal
from ledger_watcher.report.lines import lines_of
from ledger_watcher.report.text import first_line

Show = Callable[[Iterable[Entry]], None]


@click.command(cls=LedgerCommand, name="tail")
@run_options
@click.option("-f", "--follow", is_flag=True, help="Go on until the newest attempt has ended; wait for a run that does not exist yet.")
@click.option("--interval", default=1.0, show_default=True, type=click.FloatRange(min=0.01), help="Seconds between two reads with -f.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines: each record as in the ledger, with its seq and epoch; heartbeats too.")
def tail(ledger: str, storage_options: tuple[str, ...], *, follow: bool, interval: float, as_json: bool, **named: Any) -> None:
    """Print a run's records in LEDGER in their order: when, which node, what happened. Times are in UTC.

    Without options it is the newest run. With -f on a terminal a table of the nodes is shown instead and kept up to date (if rich is
    installed: pip install 'ledger-watcher[rich]'), with what is done and how long it may still take, by the last run of the same DAG and group;
    with --json, or into a pipe or file, lines are printed as they come. A storage out of reach is waited for. Stop it with Ctrl-C.

    LEDGER is a root or the folder of one run, as `ls --uri` prints it; it may be left out if LEDGER_WATCHER_LEDGER is set.

    Exit codes: 0 whatever became of the run, 3 it could not be read to its end (no such run, denied, out of reach, corrupt); 1 after Ctrl-C,
    2 is a mistake in the options.
    """
    target = locate(ledger, storage_options)
    show: Show = _json_lines if as_json else _lines
    if not follow:
        reading = select(target, Wanted(**named), whole=True)
        for entry in entries(reading):
            show((entry,))
        return
    reading = _awaited(target, Wanted(**named), interval)
    if not as_json and terminal(sys.stdout) is not None:
        table.follow(reading.follower, interval=interval, past=past_of(target.store, reading.run))
    else:
        _follow(reading, show, interval)


def _lines(found: Iterable[Entry]) -> None:
    for entry in found:
        for line in lines_of(entry):
            say(line)


def _json_lines(found: Iterable[Entry]) -> None:
    for entry in found:
        say(json_line(entry))


def _awaited(target: Target, wanted: Wanted, interval: float) -> Reading:
    """The run that is meant, as soon as there is one."""
    said = False
    while True:
        try:
            reading = select(target, wanted, whole=True)
            if target.run is None or _begun(reading):
                return reading
            problem = f"{target.run} has not begun"
        except (RunNotFound, Transient) as error:
            problem = first_line(str(error))
        if not said:
            said = True
            say_note(f"Waiting for the run: {problem}")
        sleep(interval)


def _begun(reading: Reading) -> bool:
    return bool(reading.store.list(f"{reading.run.prefix}/{SEG}"))


def _follow(reading: Reading, show: Show, interval: float) -> None:
    """Show records as they come, until the end of the newest attempt."""
    note = ""
    looked = False
    while True:
        try:
            found = reading.follower.advance()
            if found is None and not looked:
                reading.follower.check_gap()
                say_expired(reading)
                looked = True
            note = ""
        except Transient as error:
            found = None
            if not note:
                note = f"Waiting for the storage: {first_line(str(error))}"
                say_note(note)
        if found is not None:
            show(found)
        elif reading.follower.ended and not note:
            return
        else:
            sleep(interval)
