"""``ledger-watcher verify``: check that nothing in a run was altered or is gone."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

import click

from ledger_watcher.cli._common import EXIT_ERROR, LedgerCommand, Target, locate, say, say_error, say_note
from ledger_watcher.cli._runs import Wanted, find_runs, missing, patiently
from ledger_watcher.cli._select import run_options, select
from ledger_watcher.errors import LedgerWatcherError, RunNotFound
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.ledger.verify import Problem, Verification
from ledger_watcher.ledger.verify import verify as check
from ledger_watcher.report.text import inert
from ledger_watcher.storage import Store

EXIT_PROBLEMS = 1
"""Exit code when something in a ledger is wrong."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Patient:
    """A store whose requests are tried again when it is throttled."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.root = store.root

    def get(self, key: str) -> bytes:
        return patiently(lambda: self._store.get(key))

    def list(self, prefix: str) -> list[str]:
        return patiently(lambda: self._store.list(prefix))

    def create(self, key: str, data: bytes) -> None:
        self._store.create(key, data)


def _hashes(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    hashes = tuple(value.strip().lower() for value in values)
    for value in hashes:
        if not _SHA256.fullmatch(value):
            raise click.BadParameter(f"{inert(value)!r} is not a SHA-256 in 64 hexadecimal digits.")
    return hashes


@click.command(cls=LedgerCommand, name="verify")
@run_options
@click.option("--all", "everything", is_flag=True, help="Every run that fits the other options, instead of the newest one.")
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    metavar="SHA256",
    callback=_hashes,
    help="The run must hold an end segment of this hash. Repeatable, such as one for each attempt.",
)
def verify(ledger: str, storage_options: tuple[str, ...], *, everything: bool, anchors: tuple[str, ...], **named: Any) -> None:
    """Check a run in LEDGER: read every segment and every artifact that a record names, and tell what is altered or gone.

    Each segment's own hash, its place, its link to the segment before, its epoch and writer, and every record are checked; then each
    artifact's hash and size. Objects that nothing names are noted on standard error.

    Whoever can write to the storage can take away the newest segments, or write all of them anew: the ledger alone cannot show that.
    `ledger-watcher run` prints the hash that it ended with ("Ledger ended with ..."), into the log of the producer's task; given as
    --anchor it does: nothing up to that end was altered.

    LEDGER is a root or the folder of one run, as `ls --uri` prints it; it may be left out if LEDGER_WATCHER_LEDGER is set.

    Exit codes: 0 all is well (a run that has not ended may be), 1 something is altered, gone or not anchored, 3 it could not be looked at
    (no such run, denied, out of reach, of a newer format); 2 is a mistake in the options.
    """
    if everything and anchors:
        raise click.UsageError("An anchor belongs to one run: --anchor and --all do not go together.")
    target = locate(ledger, storage_options)
    codes = [_verify(target.store, run, anchors) for run in _chosen(target, Wanted(**named), everything=everything)]
    sys.exit(EXIT_PROBLEMS if EXIT_PROBLEMS in codes else max(codes))


def _chosen(target: Target, wanted: Wanted, *, everything: bool) -> Iterable[RunKey]:
    if not everything:
        return [select(target, wanted).run]
    if target.run is not None:
        raise click.UsageError("LEDGER is the folder of one run: --all does not go with it.")
    runs = find_runs(target.store, wanted)
    if not runs:
        raise RunNotFound(f"No run under {target.store.root} fits, so there is nothing to verify; see `ledger-watcher ls`.")
    return runs


def _verify(store: Store, run: RunKey, anchors: tuple[str, ...]) -> int:
    """Check one run, print what was found, and return its exit code."""
    try:
        found = check(_Patient(store), run)
        if not found.segments and not found.problems:
            raise missing(store, run)
    except LedgerWatcherError as error:
        say_error(error)
        return EXIT_ERROR
    uri = f"{store.root.rstrip('/')}/{run.prefix}"
    problems = [*found.problems, *_not_anchored(uri, found, anchors)]
    say(f"{_word(found, len(problems))}  {inert(_named(run))}: {_summary(found)}")
    for problem in problems:
        say(f"  {inert(problem)}")
    for end in (found.end_of(sha256) for sha256 in anchors):
        if end is not None and not problems and found.unsupported is None:
            say(f"  anchored: segment {end.seq} is the end of epoch {end.epoch}, nothing up to it was altered")
    for note in found.notes:
        say_note(f"Note: {note}")
    if found.unsupported is not None:
        say_error(found.unsupported)
    return EXIT_PROBLEMS if problems else EXIT_ERROR if found.unsupported else 0


def _word(found: Verification, problems: int) -> str:
    if problems:
        return f"{problems} problem{'' if problems == 1 else 's'}"
    return "not verified" if found.unsupported else "ok"


def _not_anchored(uri: str, found: Verification, anchors: tuple[str, ...]) -> list[Problem]:
    missed = [sha256 for sha256 in anchors if found.end_of(sha256) is None]
    return [
        Problem(uri, f"no end segment has the hash {sha256}: it was taken away or written anew, or is another run's") for sha256 in missed
    ]


def _named(run: RunKey) -> str:
    return str(run) if run.deployment == "default" else f"{run.deployment}: {run}"


def _summary(found: Verification) -> str:
    numbers = ((found.segments, "segment"), (found.records, "record"), (found.epochs, "epoch"), (found.artifacts, "artifact"))
    parts = [f"{number} {name}{'' if number == 1 else 's'}" for number, name in numbers if number or name != "artifact"]
    if found.last is None:
        return ", ".join((*parts, "the newest segment is not readable"))
    return ", ".join((*parts, "ended" if found.ended else "not ended", f"last segment {found.last.seq} {found.last.sha256}"))
