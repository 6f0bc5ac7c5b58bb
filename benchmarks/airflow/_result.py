"""What one run cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.airflow._dbt import DbtLog
from benchmarks.airflow._machine import Usage


@dataclass(slots=True)
class Result:
    """One run. Times in seconds; ``hops`` and ``lags`` one per node."""

    project: str
    arm: str
    round: int
    at: str
    wall: float
    """Of dbt's process; of a DAG run from ``queued_at`` (the request to run) to ``end_date``."""
    usage: Usage
    state: str = "success"
    nodes: int = 0
    lags: list[float] = field(default_factory=list)
    """From dbt's finish of a node to the end of its task."""
    hops: list[float] = field(default_factory=list)
    """From when a task could have ended (dbt had finished its node, and all tasks before it had ended) to its end."""
    tail: float | None = None
    """From dbt's finish of the last node to the end of the run."""
    workers: int = 0
    statements: int = 0
    xcoms: int = 0
    variables: int = 0
    requests: int | None = None
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds after the beginning."""

    @property
    def airflow_cpu(self) -> float:
        """CPU of Airflow's services, workers and dbt included."""
        return sum(value for name, value in self.usage.cpu.items() if name not in ("postgres", "benchmark", "s3"))


@dataclass(frozen=True, slots=True)
class Task:
    """A task instance; seconds since the epoch."""

    task_id: str
    state: str | None
    ended: float | None


def lags_and_hops(log: DbtLog, tasks: Sequence[Task], upstream: dict[str, list[str]]) -> tuple[list[float], list[float]]:
    """Of the tasks of models and seeds."""
    by_id = {task.task_id: task for task in tasks}
    ends = {uid: found.ended for uid in log.finished if (found := by_id.get(_task_of(uid, by_id))) and found.ended}
    lags, hops = [], []
    for uid, ended in ends.items():
        done = log.finished[uid]
        parents = [ends[parent] for parent in upstream.get(uid, ()) if parent in ends]
        lags.append(ended - done)
        hops.append(ended - max([done, *parents]))
    return lags, hops


def _task_of(uid: str, known: dict[str, Task]) -> str:
    """The task id of a node in the fashion of astronomer-cosmos, which all arms have."""
    kind, _, name = uid.split(".")[:3]
    if kind == "model":
        return f"{name}.run" if f"{name}.run" in known else f"{name}_run"
    return f"{name}_{kind}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)
