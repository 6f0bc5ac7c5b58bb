"""One run of each kind, measured."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.airflow._dags import Arm, write_dag
from benchmarks.airflow._dbt import QUIET, forget, log_environment, read_log, run_dbt
from benchmarks.airflow._machine import Meter
from benchmarks.airflow._projects import write
from benchmarks.airflow._result import Result, Task, lags_and_hops
from benchmarks.airflow._servers import Bucket, Databases
from scripts.airflow_stack import AirflowStack

_PATIENCE = 480.0
"""Seconds after which a run that has not ended is taken for stuck, with projects that dbt builds in about one minute."""
STUCK = "stuck"
_POLL = 1.0
DEFAULTS = {
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "300",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "5",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
}
"""Airflow's own values of what the stack for tests sets quicker."""


class Bench(AbstractContextManager["Bench"]):
    """The projects, and the one Airflow that runs at a time.

    :param settings: environment for Airflow's services, beside :data:`DEFAULTS`.
    """

    def __init__(self, home: Path, environments: Path, places: Databases, s3: Bucket, *, settings: Mapping[str, str]) -> None:
        self._home = home
        self._environments = environments
        self._databases = places
        self._s3 = s3
        self._settings = settings
        self._logs = home / "dbt-logs"
        self._stack: AirflowStack | None = None
        self.environment = ""
        """Whose Airflow runs now."""

    def __exit__(self, *_: object) -> None:
        self._stop()

    def prepare(self, arm: Arm, project: str) -> None:
        """Write the project for this kind of run, parse it (so that dbt's partial parsing has something), and write the DAG."""
        folder = self._project(arm, project)
        write(project, folder, port=self._databases.server.port, password=self._databases.server.password)
        forget(self._logs)
        run_dbt(self._dbt(arm), "parse", folder, self._logs, arm.flags)
        if arm.mode is not None:
            dags = self._home / arm.environment / "dags"
            dags.mkdir(parents=True, exist_ok=True)
            write_dag(arm, project, folder, dags=dags, ledgers=self._home / "ledgers")

    def run(self, arm: Arm, project: str, number: int) -> Result:
        """On an empty warehouse.

        :raises RuntimeError: it failed.
        """
        if arm.mode is not None:
            self._start(arm)
        self._databases.empty_warehouse()
        forget(self._logs)
        return self._run_cli(arm, project, number) if arm.mode is None else self._run_dag(arm, project, number)

    def _run_cli(self, arm: Arm, project: str, number: int) -> Result:
        at, begin = _now(), time.time()
        with self._meter(self._pids(), memory=["benchmark"]) as meter:
            wall, cpu = run_dbt(self._dbt(arm), "build", self._project(arm, project), self._logs)
        meter.usage.cpu["dbt"] = cpu
        meter.usage.cpu["benchmark"] -= cpu
        log = read_log(self._logs)
        result = Result(project, arm.name, number, at, wall, meter.usage, nodes=len(log.finished))
        result.phases = {
            "dbt's first line": log.began - begin,
            "first node begins": min(log.started.values()) - begin,
            "last node finished": max(log.finished.values()) - begin,
            "dbt's last line": log.ended - begin,
        }
        result.tail = begin + wall - max(log.finished.values())
        return result

    def _run_dag(self, arm: Arm, project: str, number: int) -> Result:
        stack, dag_id = self._airflow(), arm.dag_id(project)
        self._databases.reset()
        tables = {name: self._databases.writes(arm.environment, name) for name in ("xcom", "variable")}
        requests = self._s3.requests()
        pids = self._pids()
        at = _now()
        with self._meter(pids, memory=[name for name in pids if name not in ("postgres", "s3")]) as meter:
            run_id = stack.trigger(dag_id)
            row = self._wait(dag_id, run_id)
        statements = self._databases.statements(arm.environment)
        state, queued, _, ended = row
        result = Result(project, arm.name, number, at, ended - queued, meter.usage, state=state, statements=statements)
        if state == STUCK:
            self._stop()
            return result
        time.sleep(2)  # until PostgreSQL tells of all that was written
        result.xcoms, result.variables = (self._databases.writes(arm.environment, name) - before for name, before in tables.items())
        result.requests = self._s3.requests() - requests if arm.s3 else None
        self._look_back(result, arm, row, run_id)
        return result

    def _look_back(self, result: Result, arm: Arm, row: tuple[str, float, float, float], run_id: str) -> None:
        """What the databases and dbt's log say of the run."""
        stack, dag_id, log = self._airflow(), arm.dag_id(result.project), read_log(self._logs)
        where = {"d": dag_id, "r": run_id}
        rows = stack.sql(f"select task_id, state, {_epoch('end_date')} from task_instance where dag_id = :d and run_id = :r", where)  # noqa: S608 - a column
        tasks = [Task(*values) for values in rows]
        result.nodes = len(log.finished)
        manifest = json.loads((self._project(arm, result.project) / "target" / "manifest.json").read_text("utf-8"))
        result.lags, result.hops = lags_and_hops(log, tasks, manifest["parent_map"])
        _, queued, started, ended = row
        result.tail = ended - max(log.finished.values())
        moves = self._moves(dag_id, run_id)
        result.workers = sum(new == "running" for _, _, new in moves)
        result.phases = {
            "run begins": started - queued,
            **{f"producer {new}": at - queued for at, task, new in moves if task == "dbt_producer_watcher"},
            "dbt's first line": log.began - queued,
            "first node begins": min(log.started.values()) - queued,
            "last node finished": max(log.finished.values()) - queued,
            "dbt's last line": log.ended - queued,
            "last node's task ends": max(task.ended or 0 for task in tasks if task.task_id not in _OTHERS) - queued,
            **{f"asset task {new}": at - queued for at, task, new in moves if task == "dbt_assets"},
            "run ends": ended - queued,
        }

    def _moves(self, dag_id: str, run_id: str) -> list[tuple[float, str, str]]:
        query = f"select {_epoch('at')}, task_id, new from bench_transition where dag_id = '{dag_id}' and run_id = '{run_id}' order by at"  # noqa: S608 - ours
        rows = self._databases.server.execute(query, database=self.environment).splitlines()
        return [(float(at), task, new) for at, task, new in (row.split("|") for row in rows)]

    def _wait(self, dag_id: str, run_id: str) -> tuple[str, float, float, float]:
        """State, ``queued_at``, ``start_date`` and ``end_date`` of a run that has ended; if it does not, :data:`STUCK` and the time now."""
        times = ", ".join(map(_epoch, ("queued_at", "start_date", "end_date")))
        query = f"select state, {times} from dag_run where dag_id = '{dag_id}' and run_id = '{run_id}'"  # noqa: S608 - ours
        began = time.time()
        while True:
            state, *found = self._databases.server.execute(query, database=self.environment).split("|")
            if state in ("success", "failed"):
                queued, started, ended = map(float, found)
                return state, queued, started, ended
            if time.time() > began + _PATIENCE:
                return STUCK, began, began, time.time()
            time.sleep(_POLL)

    def _start(self, arm: Arm) -> None:
        """The Airflow of this kind of run, and no other; DAGs parsed."""
        if self.environment == arm.environment:
            return
        self._stop()
        home = self._home / arm.environment
        env = {**DEFAULTS, **QUIET, **log_environment(self._logs), **self._s3.env, "PYTHONPATH": "", **self._settings}
        python = self._environments / arm.environment / "bin" / "python"
        stack = AirflowStack(
            home / "airflow", home / "dags", env=env, database_url=self._databases.url(arm.environment), parallelism=8, python=str(python)
        )
        stack.start()
        self._stack, self.environment = stack, arm.environment
        self._databases.watch_tasks(arm.environment)
        for file in stack.dags_folder.glob("*.py"):
            stack.wait_for_dag(file.stem)

    def _stop(self) -> None:
        stack, self._stack, self.environment = self._stack, None, ""
        if stack is not None:
            stack.stop()

    def _airflow(self) -> AirflowStack:
        if self._stack is None:
            raise RuntimeError("no Airflow runs")
        return self._stack

    def _pids(self) -> dict[str, int]:
        services = self._stack.pids() if self._stack is not None else {}
        return {**services, "postgres": self._databases.server.pid, "s3": self._s3.pid}

    @staticmethod
    def _meter(pids: Mapping[str, int], *, memory: list[str]) -> Meter:
        return Meter(pids, memory=memory)

    def _dbt(self, arm: Arm) -> Path:
        return self._environments / arm.environment / "bin" / "dbt"

    def _project(self, arm: Arm, project: str) -> Path:
        return self._home / arm.environment / "projects" / arm.dag_id(project)


_OTHERS = ("dbt_producer_watcher", "dbt_assets")


def _epoch(column: str) -> str:
    return f"extract(epoch from {column})::float8"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
