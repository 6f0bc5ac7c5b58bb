"""Choosing one run by options, and its records in order, for the commands that work on one run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ledger_watcher.cli._common import F, Target, ledger_options, say_note
from ledger_watcher.cli._runs import Reading, Wanted, choose, missing, patiently
from ledger_watcher.ledger.segments import Entry

_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--dag-id", {"help": "The run's DAG."}),
    ("--run-id", {"help": "The run; default: the newest one that fits the other options."}),
    ("--group", {"help": "Full task group path, where a DAG run has several ledgers; '' is the top of the DAG."}),
    ("--map-index", {"type": int, "help": "Map index, where a DAG run has several ledgers."}),
    ("--deployment", {"help": "The deployment's name."}),
)


def run_options(command: F) -> F:
    """LEDGER and the options that choose one of its runs; the command takes the latter as ``**named``, for :class:`Wanted`."""
    for name, attributes in reversed(_OPTIONS):
        command = click.option(name, **attributes)(command)
    return ledger_options(command)


def select(target: Target, wanted: Wanted, *, whole: bool = False) -> Reading:
    """The run that is meant, not read yet: that of LEDGER if it is the folder of one, else the newest that fits.

    :param whole: it will be read from its first segment on.

    :raises RunNotFound: none fits.
    :raises ConfigError: several fit.
    """
    if target.run is not None:
        if wanted.given:
            raise click.UsageError("LEDGER is the folder of one run: options that choose a run do not go with it.")
        return Reading(target.store, target.run, whole)
    reading, unread = choose(target.store, wanted)
    if unread:
        say_note(f"{unread} runs could not be read and are not looked at; one of them may be newer (ledger-watcher ls).")
    return Reading(target.store, reading.run, whole)


def entries(reading: Reading) -> Iterator[Entry]:
    """All records of a run that was not read yet, up to its present end.

    :raises RunNotFound: there is no such run.
    :raises CorruptLedger: a segment is damaged, or is gone and later ones are there. What stands before it was yielded.
    :raises StorageError: denied, or out of reach.
    """
    follower = reading.follower
    while (found := patiently(follower.advance)) is not None:
        yield from found
    patiently(follower.check_gap)
    if not follower.begun:
        raise missing(reading.store, reading.run)
    say_expired(reading)


def say_expired(reading: Reading) -> None:
    """Say that the beginning of the run is gone, if it is."""
    if reading.follower.expired:
        say_note(f"The first {reading.follower.expired} segments of {reading.run} are gone (expired by a lifecycle rule, or deleted).")
