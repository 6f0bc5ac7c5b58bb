"""``ledger-watcher gc``: delete runs that are older than a bound."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import click

from ledger_watcher.cli._common import EXIT_ERROR, LedgerCommand, Target, ledger_options, locate, say_error, say_grid, say_json, say_note
from ledger_watcher.cli._patient import PatientStore
from ledger_watcher.cli._runs import Wanted, find_runs
from ledger_watcher.errors import LedgerWatcherError
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.ledger.retention import Expiry, delete, look
from ledger_watcher.records import utcnow
from ledger_watcher.report.grid import Cell, Column, Grid
from ledger_watcher.report.text import age as shown_age
from ledger_watcher.storage import Store

_AT_ONCE = 8
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_COLUMNS = (
    Column("deployment"),
    Column("dag", wraps=8),
    Column("run", wraps=18),
    Column("group", wraps=5),
    Column("map", right=True),
    Column("age", right=True),
    Column("objects", right=True),
    Column("what", wraps=16),
)
_COLOURS = {"deleted": "success", "kept": "skipped", "problem": "failed", "stopped": "warn"}
_WORDS = {"deleted": "deleted", "would_delete": "would be deleted", "kept": "kept", "stopped": "stopped", "problem": "not deleted"}


@dataclass(slots=True)
class _Outcome:
    """What was done to a run: ``deleted``, ``would_delete``, ``kept``, ``stopped`` (an attempt claimed it meanwhile) or ``problem``."""

    run: RunKey
    expiry: Expiry | None = None
    what: str = "kept"
    why: str | None = None
    gone: int = 0

    @property
    def objects(self) -> int | None:
        """How many there were to delete, ``None`` if it was not to be deleted."""
        return len(self.expiry.keys) if self.expiry is not None and self.expiry.kept is None else None

    @property
    def written_at(self) -> datetime | None:
        """The time of its newest segment."""
        return self.expiry.newest.ts if self.expiry is not None and self.expiry.newest is not None else None


def _bound(_ctx: click.Context, _param: click.Parameter, value: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,5})([hdw])", value.strip())
    if not found:
        raise click.BadParameter("it is a number with h (hours), d (days) or w (weeks), such as 90d.")
    return int(found[1]) * _UNITS[found[2]]


@click.command(cls=LedgerCommand, name="gc")
@ledger_options
@click.option("--older-than", required=True, metavar="AGE", callback=_bound, help="The age that a run must have, such as 90d, 12w or 36h.")
@click.option("--dag-id", help="Only this DAG.")
@click.option("--deployment", help="Only this deployment.")
@click.option("--confirm", is_flag=True, help="Delete. Without it, nothing is changed and what would be done is shown.")
@click.option("--claimed", is_flag=True, help="Delete also runs that an attempt may be claiming; when no producer can be running.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object (shape: docs/cli.md).")
def gc(  # noqa: PLR0913 - click gives one parameter per option
    ledger: str,
    storage_options: tuple[str, ...],
    older_than: timedelta,
    dag_id: str | None,
    deployment: str | None,
    *,
    confirm: bool,
    claimed: bool,
    as_json: bool,
) -> None:
    """Delete the runs in LEDGER that are older than a bound, whole runs only. Shows what it would do unless --confirm is given.

    A run's age is the time since its newest segment was written. A run that may be live is kept: one without an end that wrote within
    the last day, one that an attempt is perhaps about to claim. So is one whose age cannot be read. Runs that are younger are counted
    only. If it is interrupted, what is left of a run is found again the next time.

    It needs the permission to delete, which a producer should not have. LEDGER may be left out if LEDGER_WATCHER_LEDGER is set.

    Exit codes: 0 done, or nothing to do; 3 a run could not be read or not be deleted to its end (standard error says why); 2 is a
    mistake in the options.
    """
    target = locate(ledger, storage_options)
    wanted = Wanted(deployment=deployment, dag_id=dag_id)
    now = utcnow()
    store = PatientStore(target.store)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = list(pool.map(lambda run: _look(store, run, now, older_than, claimed=claimed), _runs(target, wanted)))
        outcomes.sort(key=lambda each: (each.written_at is None, each.written_at or now))
        if confirm:
            list(pool.map(lambda each: _delete(store, each), outcomes))
    shown = [each for each in outcomes if each.expiry is None or not each.expiry.young]
    young = len(outcomes) - len(shown)
    if as_json:
        say_json(_json(target.store, shown, young, now, confirm=confirm))
    else:
        _print(shown, young, now, confirm=confirm)
    problems = [each for each in shown if each.what == "problem"]
    if problems:
        say_error(f"{len(problems)} of {len(outcomes)} runs: {problems[0].why}")
        sys.exit(EXIT_ERROR)


def _runs(target: Target, wanted: Wanted) -> list[RunKey]:
    if target.run is None:
        return find_runs(target.store, wanted)
    if wanted.given:
        raise click.UsageError("LEDGER is the folder of one run: --dag-id and --deployment do not go with it.")
    return [target.run]


def _look(store: Store, run: RunKey, now: datetime, older_than: timedelta, *, claimed: bool) -> _Outcome:
    try:
        expiry = look(store, run, now, older_than, claimed=claimed)
    except LedgerWatcherError as error:
        return _Outcome(run, what="problem", why=str(error))
    return _Outcome(run, expiry, "kept" if expiry.kept else "would_delete", expiry.kept)


def _delete(store: Store, outcome: _Outcome) -> None:
    if outcome.expiry is None or outcome.what != "would_delete":
        return

    def count(_key: str) -> None:
        outcome.gone += 1

    try:
        done = delete(store, outcome.expiry, count)
    except LedgerWatcherError as error:
        outcome.what, outcome.why = "problem", str(error)
        return
    outcome.what = "deleted" if done else "stopped"
    outcome.why = None if done else f"an attempt claimed it meanwhile, {outcome.gone} of its {outcome.objects} old objects are gone"


def _print(shown: list[_Outcome], young: int, now: datetime, *, confirm: bool) -> None:
    if shown:
        say_grid(Grid(_COLUMNS, [_row(each, now) for each in shown]))
    due = [each for each in shown if each.objects is not None]
    parts = [f"{sum(1 for each in due if each.what in ('deleted', 'would_delete'))} runs {'deleted' if confirm else 'would be deleted'}"]
    parts.append(f"{sum(1 for each in shown if each.what not in ('deleted', 'would_delete'))} kept")
    parts.append(f"{young} younger")
    hint = "" if confirm or not due else "; --confirm deletes them"
    say_note(f"{', '.join(parts)}{hint}.")


def _row(outcome: _Outcome, now: datetime) -> list[Cell | str]:
    run = outcome.run
    what = _WORDS[outcome.what] if outcome.what == "problem" or not outcome.why else f"{_WORDS[outcome.what]}: {outcome.why}"
    return [
        run.deployment if run.deployment != "default" else "",
        run.dag_id,
        run.run_id,
        run.group,
        str(run.map_index) if run.map_index >= 0 else "",
        shown_age(outcome.written_at, now),
        "" if outcome.objects is None else str(outcome.objects),
        Cell(what, _COLOURS.get(outcome.what, "")),
    ]


def _json(store: Store, shown: list[_Outcome], young: int, now: datetime, *, confirm: bool) -> dict[str, Any]:
    """``objects`` counts what there is to delete (``null``: it is kept), ``deleted_objects`` what is gone; ``age`` is in seconds."""
    return {
        "version": 1,
        "ledger": store.root,
        "confirmed": confirm,
        "younger": young,
        "runs": [
            {
                "uri": f"{store.root.rstrip('/')}/{each.run.prefix}",
                **{name: getattr(each.run, name) for name in ("deployment", "dag_id", "run_id", "group", "map_index")},
                "last_written_at": each.written_at and each.written_at.isoformat().replace("+00:00", "Z"),
                "age": each.written_at and (now - each.written_at).total_seconds(),
                "objects": each.objects,
                "deleted_objects": each.gone,
                "action": each.what,
                "reason": each.why,
            }
            for each in shown
        ],
    }
