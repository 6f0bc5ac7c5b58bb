"""Opening a finished run of 10,000 nodes: through its checkpoint, and by reading the whole chain."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.ledger._places import Counted
from benchmarks.ledger._runs import NODES, RUN, write_run
from benchmarks.ledger._table import Row, quantile
from ledger_watcher.ledger import RunFollower
from ledger_watcher.ledger.checkpoint import unpack_checkpoint
from ledger_watcher.ledger.segments import unseal
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore

TITLE = "Opening a finished run of 10,000 nodes (40,000 records, 2,000 segments, a folder)"
SEGMENTS = 2_000
_MEBIBYTE = 1024 * 1024
_TIMES = {"checkpoint": 7, "whole": 3}


def measure() -> list[Row]:
    """Each way in processes of its own: one for the times, one for the memory, one for tracemalloc."""
    with tempfile.TemporaryDirectory(prefix="ledger-watcher-bench-") as folder:
        write_run(LocalStore(folder), segments=SEGMENTS)
        rows = []
        for way, title in (("checkpoint", "through the checkpoint"), ("whole", "the whole chain")):
            found = _child(folder, way, "times")
            rows += [
                Row(what=f"{title}: requests", value=found["requests"], unit="requests", most=2 if way == "checkpoint" else None),
                Row(what=f"{title}: CPU, best", value=min(found["cpu"]), unit="s", most=0.5 if way == "checkpoint" else None),
                Row(what=f"{title}: CPU, median", value=quantile(found["cpu"], 0.5), unit="s"),
                Row(what=f"{title}: wall, best", value=min(found["wall"]), unit="s"),
                Row(what=f"{title}: wall, median", value=quantile(found["wall"], 0.5), unit="s"),
                Row(what=f"{title}: growth of the process (peak RSS)", value=_child(folder, way, "rss")["rss"], unit="MiB"),
            ]
            traced = _child(folder, way, "traced")
            rows += [
                Row(what=f"{title}: peak of Python's memory", value=traced["peak"], unit="MiB"),
                Row(what=f"{title}: kept by the state", value=traced["kept"], unit="MiB"),
            ]
        return rows + [Row(what=f"of it: {name}, CPU, best", value=value, unit="s") for name, value in _child(folder, "", "steps").items()]


def _child(folder: str, way: str, what: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", __name__, folder, way, what], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _main(folder: str, way: str, what: str) -> dict[str, Any]:
    store = Counted(LocalStore(folder))
    if what == "steps":
        return _steps(store)
    whole = way == "whole"
    if what == "rss":
        before = _memory("VmRSS")
        state = RunFollower(store, RUN, whole=whole).snapshot()
        assert len(state.nodes) == NODES  # noqa: S101 - else there is nothing to measure
        return {"rss": _memory("VmHWM") - before}
    if what == "traced":
        tracemalloc.start()
        state = RunFollower(store, RUN, whole=whole).snapshot()
        kept, peak = tracemalloc.get_traced_memory()
        assert len(state.nodes) == NODES  # noqa: S101 - as above
        return {"kept": kept / _MEBIBYTE, "peak": peak / _MEBIBYTE}
    times = []
    for _ in range(_TIMES[way]):
        store.calls = 0
        wall, cpu = time.perf_counter(), time.process_time()
        state = RunFollower(store, RUN, whole=whole).snapshot()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
        del state  # which takes a while, too, and is nobody's wait
    return {"requests": store.calls, "wall": [wall for wall, _ in times], "cpu": [cpu for _, cpu in times]}


def _memory(name: str) -> float:
    """A figure of this process in MiB. getrusage's peak would be that of the parent, if it is higher."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


def _steps(store: Counted) -> dict[str, float]:
    """Where the time of the checkpoint goes."""
    name = store.list(f"{RUN.prefix}/ckpt")[-1]
    best = dict.fromkeys(("request", "hash and lines", "records", "state"), float("inf"))
    for _ in range(5):
        at = [time.process_time()]
        data = store.get(f"{RUN.prefix}/ckpt/{name}")
        at.append(time.process_time())
        unseal(name, data, "checkpoint")
        at.append(time.process_time())
        _, entries, _ = unpack_checkpoint(name, data)
        at.append(time.process_time())
        RunState().apply(entries)
        at.append(time.process_time())
        spent = [after - before for before, after in pairwise(at)]
        spent[2] -= spent[1]  # unpack_checkpoint does it again
        best = {key: min(seconds, now) for (key, seconds), now in zip(best.items(), spent, strict=True)}
    return best


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_main(*sys.argv[1:])))
