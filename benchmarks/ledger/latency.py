"""Seconds from an append to a follower that has it."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

from benchmarks.ledger._places import Place, places
from benchmarks.ledger._runs import RUN, finished, of_node, started
from benchmarks.ledger._table import Row, quantile
from ledger_watcher.ledger import LedgerWriter, RunFollower
from ledger_watcher.records import NodeFinished

TITLE = "From append to visible (commit interval 0.5 s)"
_NODES = 60


def measure() -> list[Row]:
    """Nodes that finish at random, about three a second."""
    rows = []
    for name in ("local", "s3"):
        with places(name) as (place,):
            for interval in (1.0, 0.1):
                found = _once(place, interval)
                rows += [
                    Row(what=f"{place.name}, a poll every {interval:g} s: p{share}", value=quantile(found, share / 100), unit="s")
                    for share in (50, 95)
                ]
    return rows


def _once(place: Place, interval: float) -> list[float]:
    run = replace(RUN, run_id=f"latency-{interval}")
    appended: dict[str, float] = {}
    visible: dict[str, float] = {}
    writer = LedgerWriter(place.open(), run)
    writer.open(started())

    def follow() -> None:
        for entries in RunFollower(place.open(), run).follow(interval=interval, stop=lambda: len(visible) == _NODES):
            now = time.perf_counter()
            visible.update({entry.record.unique_id: now for entry in entries if isinstance(entry.record, NodeFinished)})

    follower = threading.Thread(target=follow)
    follower.start()
    for number in range(_NODES):
        time.sleep(random.expovariate(3))
        record = of_node(number)[-1]
        assert isinstance(record, NodeFinished)  # noqa: S101 - so says of_node
        appended[record.unique_id] = time.perf_counter()
        writer.append(record)
    writer.close(finished())
    follower.join()
    return [visible[unique_id] - begin for unique_id, begin in appended.items()]
