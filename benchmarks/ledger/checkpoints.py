"""How large checkpoints are, and how much of what is written they are, in a run of an hour."""

from __future__ import annotations

from benchmarks.ledger._places import Counted
from benchmarks.ledger._runs import write_run
from benchmarks.ledger._table import Row
from ledger_watcher.storage import open_store

TITLE = "Checkpoints of a run of 10,000 nodes over an hour (7,200 commits)"
SEGMENTS = 7_200
_MEBIBYTE = 1024 * 1024


def measure() -> list[Row]:
    """The whole run, in memory."""
    store = Counted(open_store("memory://ledger-watcher-bench"))
    write_run(store, segments=SEGMENTS)
    chain, checkpoints = store.created["seg"], store.created["ckpt"]
    return [
        Row(what="segments", value=len(chain), unit="objects"),
        Row(what="all segments", value=sum(chain) / _MEBIBYTE, unit="MiB"),
        Row(what="checkpoints", value=len(checkpoints), unit="objects"),
        Row(what="the first checkpoint", value=checkpoints[0] / _MEBIBYTE, unit="MiB"),
        Row(what="the last checkpoint", value=checkpoints[-1] / _MEBIBYTE, unit="MiB"),
        Row(what="all checkpoints", value=sum(checkpoints) / _MEBIBYTE, unit="MiB"),
        Row(what="all checkpoints, in relation to the segments", value=sum(checkpoints) / sum(chain), unit="times"),
    ]
