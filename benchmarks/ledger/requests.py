"""Requests per operation, as the server counts them."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.ledger._places import KINDS, Place, places
from benchmarks.ledger._runs import RUN, finished, of_node, started
from benchmarks.ledger._table import Row
from ledger_watcher import codec
from ledger_watcher.ledger import ChainReader, Kind, RunFollower
from ledger_watcher.ledger.chain import ChainWriter

TITLE = "Requests per operation"
_AFTER = 3
"""Segments behind the newest checkpoint of the run under way, and of the chain that is claimed."""


def measure() -> list[Row]:
    """Every operation on every storage. On GCS, the first miss of a process is one more (is there such a bucket?): it is made before."""
    rows = []
    for name in KINDS:
        with places(name) as (place,):
            rows += _of(place)
    return rows


def _of(place: Place) -> list[Row]:
    store = place.open()
    fresh, ended, under_way = (replace(RUN, run_id=f"{number}") for number in range(3))
    store.create("warm/up", b"x")
    ChainReader(store, replace(RUN, run_id="absent")).poll()
    seen = place.requests()

    def row(what: str, most: float | None = None, *, must: bool = False) -> Row:
        nonlocal seen
        before, seen = seen, place.requests()
        return Row(what=f"{place.name}: {what}", value=seen - before, unit="requests", most=most, must=must)

    store.create("one", b"x" * 1000)
    rows = [row("create", 1, must=True)]
    chain = ChainWriter(store, fresh)
    chain.claim(started())
    rows.append(row("claim of a fresh run"))
    reader = ChainReader(store, fresh)
    reader.poll()
    hit = row("poll hit", 1, must=True)
    reader.poll()
    rows += [hit, row("poll miss", 1, must=True)]

    _write(ChainWriter(store, ended), end=True)
    row("")
    RunFollower(store, ended).snapshot()
    rows.append(row("open a finished run", 2))
    RunFollower(store, fresh).snapshot()
    rows.append(row("open a run of 1 segment, no checkpoint"))

    _write(ChainWriter(store, under_way), end=False)
    row("")
    RunFollower(store, under_way).snapshot()
    rows.append(row(f"open a run under way, {_AFTER} segments behind its checkpoint"))
    ChainWriter(store, under_way).claim(started())
    rows.append(row(f"claim of the same run ({_AFTER} segments to read, checkpoint, fence, probe)"))
    return rows


def _write(chain: ChainWriter, *, end: bool) -> None:
    chain.claim(started())
    chain.checkpoint()
    for number in range(_AFTER):
        chain.stage(Kind.DATA, [codec.encode(record) for record in of_node(number)])
        chain.push()
    if end:
        chain.stage(Kind.END, [codec.encode(finished())])
        chain.push()
        chain.checkpoint(end=True)
