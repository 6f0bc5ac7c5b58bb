"""``ledger-watcher verify``: check that nothing in a run was altered or is gone."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import click

from ledger_watcher.cli._common import EXIT_ERROR, LedgerCommand, Target, locate, say, say_error, say_json, say_note
from ledger_watcher.cli._patient import PatientStore
from ledger_watcher.cli._runs import Wanted, find_runs, missing
from ledger_watcher.cli._select import run_options, select
from ledger_watcher.errors import LedgerWatcherError, RunNotFound
from ledger_watcher.ledger.keys import KEY, KEY_FILE, Keyring
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.ledger.segments import Header
from ledger_watcher.ledger.verify import Problem, Verification
from ledger_watcher.ledger.verify import verify as check
from ledger_watcher.report.text import inert
from ledger_watcher.storage import Store

EXIT_PROBLEMS = 1
"""Exit code when something in a ledger is wrong."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ALWAYS = ("segment", "record", "epoch")
"""What is counted in the summary even if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """How to check, and how to tell."""

    anchors: tuple[str, ...]
    keys: Keyring
    allow_expired: bool
    as_json: bool


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
@click.option("--allow-expired", is_flag=True, help="Segments that are gone at the beginning of a run are no problem (a lifecycle rule).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object (shape: docs/cli.md).")
def verify(ledger: str, storage_options: tuple[str, ...], *, everything: bool, anchors: tuple[str, ...], **named: Any) -> None:
    """Check a run in LEDGER: read every segment, checkpoint and artifact that a record names, and tell what is altered or gone.

    Each segment's own hash, its place, its link to the segment before, its epoch and writer, and every record are checked; each
    checkpoint against the segments that it stands for; each artifact's hash and size. Objects that nothing names are noted on standard
    error. If segments at the beginning are gone and a checkpoint stands for them, the run is "expired": a problem unless
    --allow-expired is given, since whoever deletes the oldest segments leaves the same.

    Whoever can write to the storage can take away the newest segments, or write all of them anew: the ledger alone cannot show that.
    `ledger-watcher run` prints the hash that it ended with ("Ledger ended with ..."), into the log of the producer's task; given as
    --anchor it does: nothing up to that end was altered. With the producer's key in LEDGER_WATCHER_HMAC_KEY (or in the file that
    LEDGER_WATCHER_HMAC_KEY_FILE names) it is also checked that each segment and checkpoint was written by somebody who has the key.

    LEDGER is a root or the folder of one run, as `ls --uri` prints it; it may be left out if LEDGER_WATCHER_LEDGER is set.

    Exit codes: 0 all is well (a run that has not ended may be), 1 something is altered, gone, expired or not anchored, 3 it could not be
    looked at (no such run, denied, out of reach, of a newer format); 2 is a mistake in the options.
    """
    if everything and anchors:
        raise click.UsageError("An anchor belongs to one run: --anchor and --all do not go together.")
    how = _How(anchors=anchors, keys=Keyring.from_env(), allow_expired=named.pop("allow_expired"), as_json=named.pop("as_json"))
    target = locate(ledger, storage_options)
    results = [_verify(target.store, run, how) for run in _chosen(target, Wanted(**named), everything=everything)]
    if how.as_json:
        say_json({"version": 1, "ledger": target.store.root, "runs": [shape for _, shape in results if shape is not None]})
    codes = [code for code, _ in results]
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


def _verify(store: Store, run: RunKey, how: _How) -> tuple[int, dict[str, Any] | None]:
    """Check one run, print what was found, and return its exit code and its JSON."""
    try:
        found = check(PatientStore(store), run, keys=how.keys)
        if not found.segments and not found.problems:
            raise missing(store, run)
    except LedgerWatcherError as error:
        say_error(error)
        return EXIT_ERROR, None
    uri = f"{store.root.rstrip('/')}/{run.prefix}"
    problems = [*found.problems, *_not_anchored(uri, found, how.anchors)]
    expired = bool(found.expired) and not how.allow_expired
    code = EXIT_PROBLEMS if problems or expired else EXIT_ERROR if found.unsupported else 0
    if not how.as_json:
        _say(found, problems, how)
    for note in found.notes:
        say_note(f"Note: {note}")
    if found.unsupported is not None:
        say_error(found.unsupported)
    return code, _json(uri, found, problems, how)


def _say(found: Verification, problems: list[Problem], how: _How) -> None:
    say(f"{_word(found, len(problems))}  {inert(_named(found.run))}: {_summary(found, how)}")
    if found.expired:
        say(f"  {_expired(found)}{'' if how.allow_expired else '; --allow-expired if a lifecycle rule did that'}")
    for problem in problems:
        say(f"  {inert(problem)}")
    for end in (found.end_of(sha256) for sha256 in how.anchors):
        if end is not None and not problems and found.unsupported is None:
            what = f"nothing from segment {found.expired} to there" if found.expired else "nothing up to it"
            say(f"  anchored: segment {end.seq} is the end of epoch {end.epoch}, {what} was altered")


def _expired(found: Verification) -> str:
    gone = "segment 0 is" if found.expired == 1 else f"segments 0 to {found.expired - 1} are"
    return f"expired: {gone} gone, a checkpoint stands for {'it' if found.expired == 1 else 'them'}"


def _word(found: Verification, problems: int) -> str:
    if problems:
        return f"{problems} problem{'' if problems == 1 else 's'}"
    return "not verified" if found.unsupported else "expired" if found.expired else "ok"


def _not_anchored(uri: str, found: Verification, anchors: tuple[str, ...]) -> list[Problem]:
    missed = [sha256 for sha256 in anchors if found.end_of(sha256) is None]
    return [
        Problem(uri, f"no end segment has the hash {sha256}: it was taken away or written anew, or is another run's") for sha256 in missed
    ]


def _named(run: RunKey) -> str:
    return str(run) if run.deployment == "default" else f"{run.deployment}: {run}"


def _summary(found: Verification, how: _How) -> str:
    numbers = {
        "segment": found.segments,
        "record": found.records,
        "epoch": found.epochs,
        "artifact": found.artifacts,
        "checkpoint": found.checkpoints,
    }
    parts = [f"{number} {name}{'' if number == 1 else 's'}" for name, number in numbers.items() if number or name in _ALWAYS]
    parts += [f"macs checked with {KEY if KEY in os.environ else KEY_FILE}"] if how.keys else []
    if found.last is None:
        return ", ".join((*parts, "the newest segment is not readable"))
    return ", ".join((*parts, "ended" if found.ended else "not ended", f"last segment {found.last.seq} {found.last.sha256}"))


def _json(uri: str, found: Verification, problems: list[Problem], how: _How) -> dict[str, Any]:
    """``state``: ok, problems, expired (no problems but that), unsupported. ``expired``: so many segments are gone at the beginning.

    ``last`` is the newest segment (``null`` if it is not readable), ``ends`` are all ends: what to keep as anchors. ``anchored`` are the
    given anchors that hold. ``macs_checked``: there was a key.
    """
    sound = not problems and found.unsupported is None
    state = "problems" if problems else "unsupported" if found.unsupported else "expired" if found.expired else "ok"
    return {
        "uri": uri,
        **{name: getattr(found.run, name) for name in ("deployment", "dag_id", "run_id", "group", "map_index")},
        "state": state,
        **{name: getattr(found, name) for name in ("segments", "records", "epochs", "artifacts", "checkpoints", "expired", "ended")},
        "macs_checked": bool(how.keys),
        "last": found.last and _place(found.last),
        "ends": [_place(end) for end in found.ends],
        "anchored": [sha256 for sha256 in how.anchors if sound and found.end_of(sha256) is not None],
        "problems": [{"path": problem.path, "what": problem.what} for problem in problems],
        "notes": found.notes,
    }


def _place(header: Header) -> dict[str, Any]:
    return {"seq": header.seq, "epoch": header.epoch, "sha256": header.sha256}
