"""One run: what it cost, and how late its tasks were."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.airflow._machine import Meter, Usage
from benchmarks.airflow._result import median, quantile
from benchmarks.airflow._runs import DEFAULTS
from benchmarks.airflow._servers import Databases
from benchmarks.scale._project import WAYS, Size
from ledger_watcher.ledger import RunFollower, RunKey
from ledger_watcher.records import NodeFinished
from ledger_watcher.storage import open_store
from scripts.airflow_stack import AirflowStack

_DATABASE = "own"
_PATIENCE = 600.0
"""Seconds after the last node's end after which a run is taken for stuck."""
_POLL = 2.0


@dataclass(slots=True)
class Result:
    """Seconds; ``lags`` are of the tasks, from the end of the last of a task's nodes to the task's end."""

    models: int
    way: str
    triggerers: int
    at: str
    state: str
    usage: Usage
    tasks: int = 0
    wall: float = 0.0
    replay: float = 0.0
    """From the first node's beginning to the last one's end."""
    tail: float | None = None
    """From the last node's end to the end of the run."""
    lags: list[float] = field(default_factory=list)
    statements: int = 0
    late: int = 0
    """Tasks that had not ended when the run was given up."""

    def row(self) -> dict[str, str]:
        """For the table."""
        lags = [f"{value:.1f}" for value in (median(self.lags), quantile(self.lags, 0.95), max(self.lags))] if self.lags else []
        cpu = self.usage.cpu
        triggerers = [value for name, value in cpu.items() if name.startswith("triggerer")]
        return {
            "models": f"{self.models:,}{WAYS[self.way]}",
            "tasks": f"{self.tasks:,}",
            "triggerers": str(self.triggerers),
            "state": self.state + (f", {self.late} tasks open" if self.late else ""),
            "lag s, median / p95 / max": " / ".join(lags),
            "tail s": "" if self.tail is None else f"{self.tail:.1f}",
            "CPU s, triggerers": " + ".join(f"{value:.0f}" for value in triggerers),
            "a task": f"{sum(triggerers) / self.tasks:.2f}" if self.tasks else "",
            "scheduler": f"{cpu.get('scheduler', 0):.0f}",
            "PostgreSQL": f"{cpu.get('postgres', 0):.0f}",
            "SQL a task": f"{self.statements / self.tasks:.0f}" if self.tasks else "",
            "MiB, triggerers": f"{self.usage.memory:.0f}",
            "others' CPU s": f"{self.usage.others:.0f}",
        }


@contextmanager
def airflow(home: Path, places: Databases, triggerers: int) -> Iterator[AirflowStack]:
    """With Airflow's own intervals, and the DAGs of ``home``."""
    folder = home / f"airflow-{triggerers}"
    env = {**DEFAULTS, "LEDGER_WATCHER_CACHE_DIR": str(home / "cache")}
    with AirflowStack(folder, home / "dags", env=env, database_url=places.url(_DATABASE), triggerers=triggerers) as stack:
        yield stack


def measure(stack: AirflowStack, places: Databases, home: Path, size: Size, triggerers: int, *, rate: float) -> Result:
    """Run the DAG of this size once."""
    stack.wait_for_dag(size.dag_id, 300)
    places.reset()
    pids = {**stack.pids(), "postgres": places.server.pid}
    patience = size.models / rate + _PATIENCE
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with Meter(pids, memory=[name for name in pids if name.startswith("triggerer")]) as meter:
        run_id = stack.trigger(size.dag_id)
        state, began, ended = _wait(stack, size.dag_id, run_id, patience)
    result = Result(size.models, size.way, triggerers, at, state, meter.usage, wall=ended - began, statements=places.statements(_DATABASE))
    where = {"d": size.dag_id, "r": run_id}
    rows = stack.sql("select task_id, extract(epoch from end_date)::float8 from task_instance where dag_id = :d and run_id = :r", where)
    ends = dict(rows)
    first, finished = _told(home, size, run_id)
    result.tasks = len(ends)
    result.late = sum(end is None for end in ends.values())
    result.replay = max(finished.values()) - first
    result.tail = ended - max(finished.values()) if state == "success" else None
    due: dict[str, float] = {}
    for uid, task in size.task_of().items():
        due[task] = max(due.get(task, 0.0), finished[uid])
    result.lags = [ends[task] - when for task, when in due.items() if ends[task] is not None]
    return result


def _wait(stack: AirflowStack, dag_id: str, run_id: str, patience: float) -> tuple[str, float, float]:
    """State, beginning and end of a run; of one that does not end, ``stuck`` and the time now."""
    times = "extract(epoch from queued_at)::float8, extract(epoch from end_date)::float8"
    query = f"select state, {times} from dag_run where dag_id = :d and run_id = :r"  # noqa: S608 - ours
    until = time.time() + patience
    while True:
        state, began, ended = stack.sql(query, {"d": dag_id, "r": run_id})[0]
        if state in ("success", "failed"):
            return str(state), began, ended
        if time.time() > until:
            return "stuck", began, time.time()
        time.sleep(_POLL)


def _told(home: Path, size: Size, run_id: str) -> tuple[float, dict[str, float]]:
    """When the first node began, and when each one ended, by the ledger."""
    state = RunFollower(open_store(str(home / "ledger")), RunKey(dag_id=size.dag_id, run_id=run_id)).snapshot()
    ends = {uid: _at(node.finished) for uid, node in state.nodes.items() if node.finished is not None}
    return min(node.started.started_at.timestamp() for node in state.nodes.values() if node.started and node.started.started_at), ends


def _at(record: NodeFinished) -> float:
    return (record.finished_at or record.ts).timestamp()


def table(results: Sequence[Result]) -> str:
    """In Markdown, by size."""
    rows = [one.row() for one in sorted(results, key=lambda one: (list(WAYS).index(one.way), one.models, one.triggerers))]
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---:|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)])
