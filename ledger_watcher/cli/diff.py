"""``ledger-watcher diff``: two runs compared, node by node. docs/cli.md has the keys of its JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from ledger_watcher.cli import _shape
from ledger_watcher.cli._common import LedgerCommand, Target, ledger_options, locate, say, say_grid, say_json
from ledger_watcher.cli._runs import Reading, Wanted, choose
from ledger_watcher.records import utcnow
from ledger_watcher.report.compare import NEW, REMOVED, SAME, STATUS, Change, changes, total_seconds
from ledger_watcher.report.grid import Cell, Column, Grid
from ledger_watcher.report.text import clock, duration, inert
from ledger_watcher.report.view import counts, counts_text, node_rows, run_seconds, run_status, word

_COLUMNS = (
    Column("change"),
    Column("status", wraps=12),
    Column("type"),
    Column("node", wraps=20),
    Column("before", right=True),
    Column("after", right=True),
    Column("slower by", right=True),
    Column("rows", right=True),
    Column("failures", right=True),
)
_KINDS = (SAME, STATUS, NEW, REMOVED)
_WORDS = {SAME: "", STATUS: "status", NEW: "new", REMOVED: "removed"}


@click.command(cls=LedgerCommand, name="diff")
@ledger_options
@click.argument("run_a")
@click.argument("run_b")
@click.option("--dag-id", help="The runs' DAG, if several have runs of these names.")
@click.option("--group", help="Full task group path, where a DAG run has several ledgers; '' is the top of the DAG.")
@click.option("--map-index", type=int, help="Map index, where a DAG run has several ledgers.")
@click.option("--deployment", help="The deployment's name.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object (shape: docs/cli.md).")
def diff(ledger: str, run_a: str, run_b: str, storage_options: tuple[str, ...], *, as_json: bool, **named: Any) -> None:
    """Compare two runs in LEDGER, RUN_A (before) and RUN_B (after), given by their run ids.

    Each node with its status, its seconds before and after, and its rows and failures if they are others; what got slower by most comes
    first. Nodes of one run only are new or removed. Of a run with several attempts the newest result of each node counts.

    Exit codes: 0 whatever differs, 3 a run could not be read to its end (no such run, denied, out of reach, corrupt), 2 is a mistake in the
    options.
    """
    target = locate(ledger, storage_options)
    if target.run is not None:
        raise click.UsageError("LEDGER is the folder of one run: give the ledger's root, of which RUN_A and RUN_B are runs.")
    before, after = (_read(target, Wanted(run_id=run_id, **named)) for run_id in (run_a, run_b))
    found = changes(before.state, after.state)
    if as_json:
        say_json(_object(target, before, after, found))
    else:
        _print(before, after, found)


def _read(target: Target, wanted: Wanted) -> Reading:
    """A run to its end: half a run would compare as if nodes were removed."""
    reading, _ = choose(target.store, wanted)
    reading.advance()
    if reading.problem is not None:
        raise reading.problem
    return reading


def _print(before: Reading, after: Reading, found: list[Change]) -> None:
    now = utcnow()
    for title, reading in (("before", before), ("after ", after)):
        status = run_status(reading.state, now)
        say(inert(f"{title}  {reading.run}: {status}, started {clock(reading.started_at)}, took {duration(run_seconds(reading.state))}"))
    say()
    if found:
        say_grid(Grid(_COLUMNS, [_cells(change) for change in found]))
        say()
    for title, reading in (("before", before), ("after ", after)):
        rows = node_rows(reading.state)
        say(f"{title}  {_nodes(len(rows))}" + (f": {counts_text(counts(rows))}" if rows else ""))
    kinds = Counter(change.kind for change in found)
    parts = [(STATUS, "with another status"), (NEW, "new"), (REMOVED, "removed")]
    say(
        "nodes   " + (", ".join(f"{kinds[kind]} {text}" for kind, text in parts if kinds[kind]) or "the same in both, with the same status")
    )
    old, new = total_seconds(found)
    say(f"seconds {old:.2f} before, {new:.2f} after, {_signed(new - old)} (all nodes added up)")


def _nodes(number: int) -> str:
    return f"{number} node{'' if number == 1 else 's'}"


def _cells(change: Change) -> list[Cell | str]:
    before, after = change.seconds
    return [
        _WORDS[change.kind],
        Cell(_status(change), change.row.state),
        change.row.resource_type,
        change.row.name,
        "" if before is None else f"{before:.2f}",
        "" if after is None else f"{after:.2f}",
        "" if change.slower is None else _signed(change.slower),
        _changed(change, "rows_affected"),
        _changed(change, "failures"),
    ]


def _status(change: Change) -> str:
    states = [word(row.state) for row in (change.before, change.after) if row is not None]
    return " -> ".join(states) if change.kind == STATUS else states[-1]


def _signed(seconds: float) -> str:
    """With its sign, so that a column of them reads at a glance; what rounds to nothing has none."""
    return f"{seconds:+.2f}" if abs(seconds) >= 0.005 else "0.00"  # noqa: PLR2004 - half of the last digit


def _changed(change: Change, name: str) -> str:
    before, after = change.number(name)
    return "" if before == after else f"{_number(before)} -> {_number(after)}"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _object(target: Target, before: Reading, after: Reading, found: list[Change]) -> dict[str, Any]:
    now = utcnow()
    run_a, run_b = _shape.ledger(target.store.root, [before, after], 2, now)["runs"]
    kinds = Counter(change.kind for change in found)
    old, new = total_seconds(found)
    return {
        "version": _shape.VERSION,
        "a": run_a,
        "b": run_b,
        "totals": {
            "nodes": {kind: kinds[kind] for kind in _KINDS},
            "seconds_a": old,
            "seconds_b": new,
            "seconds_difference": new - old,
        },
        "nodes": [_node(change) for change in found],
    }


def _node(change: Change) -> dict[str, Any]:
    pairs = {
        "state": (change.before and change.before.state, change.after and change.after.state),
        "seconds": change.seconds,
        "rows_affected": change.number("rows_affected"),
        "failures": change.number("failures"),
    }
    return {
        "unique_id": change.unique_id,
        "name": change.row.name,
        "resource_type": change.row.resource_type,
        "change": change.kind,
        "seconds_difference": change.slower,
        **{f"{name}_{side}": pair[at] for name, pair in pairs.items() for at, side in enumerate("ab")},
    }
