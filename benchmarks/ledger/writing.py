"""What an append costs dbt's thread, and how fast records become durable."""

from __future__ import annotations

import time
from dataclasses import replace

from benchmarks.ledger._places import Place, places
from benchmarks.ledger._runs import RUN, finished, of_node, started
from benchmarks.ledger._table import Row
from ledger_watcher.ledger import LedgerWriter

TITLE = "Writing"
_NODES = 5_000


def measure() -> list[Row]:
    """20,000 records at once, best of three."""
    rows = []
    for name in ("local", "s3"):
        with places(name) as (place,):
            found = [_once(place, number) for number in range(3)]
        rate, cpu = max(rate for rate, _ in found), min(cpu for _, cpu in found)
        rows += [
            Row(what=f"{place.name}: from the first append to the durable end", value=rate, unit="records/s"),
            Row(what=f"{place.name}: CPU of an append in the caller's thread", value=cpu, unit="µs"),
        ]
    return rows


def _once(place: Place, number: int) -> tuple[float, float]:
    records = [record for node in range(_NODES) for record in of_node(node)]
    writer = LedgerWriter(place.open(), replace(RUN, run_id=f"writing-{number}"))
    writer.open(started())
    begin, cpu = time.perf_counter(), time.thread_time()
    for record in records:
        writer.append(record)
    cpu = time.thread_time() - cpu
    writer.close(finished())
    return len(records) / (time.perf_counter() - begin), cpu / len(records) * 1e6
