"""A real triggerer of Airflow without its database, whose supervisor is as slow as it is on a busy machine: run by test_triggerer.py.

Airflow's supervisor (this process) hands over triggers in one message, and reads the runner's log lines (its child's) only in between. A first wave of
triggers ends while it reads nothing; then it sends a second wave, each with the whole serialized DAG. What is printed: JSON.
"""

from __future__ import annotations

import fcntl
import json
import select
import struct
import sys
import termios
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs
import msgspec
from airflow.executors.workloads import RunTrigger
from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.jobs.triggerer_job_runner import TriggerLoggingFactory, TriggerRunnerSupervisor
from airflow.models.trigger import Trigger
from airflow.sdk import DAG
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
from airflow.serialization.serialized_objects import DagSerialization

from ledger_watcher.ledger import RunKey
from ledger_watcher.storage import LocalStore
from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, tail
from ledger_watcher_airflow.consumer import DbtConsumerWatcherSensor
from tests.operators.runs import Attempt, at, began, done, said, task_id_born
from tests.projects import fhir_nodes, write_project

PATIENCE = 200.0
FIRST = 50
"""Triggers that end while nobody reads their lines."""
SECOND = 10
"""Those behind them: each brings the whole serialized DAG, which is more than the rest of a socket's buffer takes."""
RUN_ID = "manual__1"
LINES = ("1 of 187 START sql table model marts.a_table", "1 of 187 OK created sql table model marts.a_table [SELECT 100 in 1.20s]")
QUIET = 1.0
"""Seconds without a new byte after which no more is taken to come."""


@attrs.define(kw_only=True)
class Supervisor(TriggerRunnerSupervisor):
    """Airflow's own, but it is told what to run, and asks no database."""

    requests: Any = attrs.field(default=None, init=False)
    lines: Any = attrs.field(default=None, init=False)
    asked: int = attrs.field(default=0, init=False)
    ended: dict[int, str] = attrs.field(factory=dict, init=False)

    def _register_pipe_readers(self, stdout: Any, stderr: Any, requests: Any, logs: Any, **more: Any) -> None:  # noqa: ANN401
        super()._register_pipe_readers(stdout, stderr, requests, logs, **more)
        self.requests, self.lines = requests, logs

    def _handle_request(self, msg: Any, log: Any, req_id: int) -> None:  # noqa: ANN401
        if not isinstance(msg, GetTaskStates):
            self.asked += 1
            return super()._handle_request(msg, log, req_id)
        states = {run: dict.fromkeys(msg.task_ids or (), "running") for run in msg.run_ids or ()}
        return self.send_msg(TaskStatesResult(task_states=states), request_id=req_id, error=None)

    def until(self, there: Callable[[], bool]) -> None:
        """What Airflow's loop does, again and again, until something is so."""
        until = time.monotonic() + PATIENCE
        while not there():
            if time.monotonic() > until:
                raise TimeoutError
            self._service_subprocess(0.1)
            while self.events:
                entry = self.events.popleft()
                self.ended[entry.trigger_id] = type(entry.event).__name__

    def all_began(self) -> bool:
        """Whether every trigger has said so in its log."""
        return all(hasattr(one, "bound_logger") for one in self.logger_cache.values())

    def unread(self) -> int:
        """Bytes of log lines that wait to be read."""
        answer = fcntl.ioctl(self.lines, termios.FIONREAD, b"\0" * 4)
        return int(struct.unpack("i", answer)[0])

    def hand_over(self, tasks: Sequence[DbtConsumerWatcherSensor], dag: DAG, stored: dict[str, Any], since: int) -> int:
        """Give the triggers of these tasks to the runner when it asks for them; the bytes of them all."""
        run = run_of(dag)
        size = 0
        for number, task in enumerate(tasks, since):
            ti = TaskInstanceDTO(
                id=task_id_born(at(0)),
                dag_version_id=task_id_born(at(0)),
                task_id=task.task_id,
                dag_id=dag.dag_id,
                run_id=run["run_id"],
                try_number=1,
                map_index=-1,
                queue="default",
                pool_slots=1,
                priority_weight=1,
            )
            args = task.start_trigger_args
            workload = RunTrigger(
                id=number,
                classpath=args.trigger_cls,
                encrypted_kwargs=Trigger.encrypt_kwargs({**args.trigger_kwargs, "poll": 0.05}),
                ti=ti,
                dag_data=stored,
                dag_run_data=run,
            )
            size += len(msgspec.msgpack.encode(workload.model_dump(mode="json")))
            self.logger_cache[number] = TriggerLoggingFactory(log_path=f"{number}.log", ti=ti)
            self.creating_triggers.append(workload)
        return size


def run_of(dag: DAG) -> dict[str, Any]:
    """A run, as Airflow hands it to the runner."""
    now = datetime.now(timezone.utc)
    empty = ("logical_date", "data_interval_start", "data_interval_end", "end_date", "partition_key")
    times = {"run_after": now, "start_date": now}
    return {
        **dict.fromkeys(empty),
        **times,
        "dag_id": dag.dag_id,
        "run_id": RUN_ID,
        "run_type": "manual",
        "state": "running",
        "consumed_asset_events": [],
    }


def main(folder: Path) -> None:
    """Two waves."""
    project = write_project(folder / "shop", *fhir_nodes(), project="shop")
    with_ledger = ExecutionConfig(ledger_uri=str(folder / "ledger"))
    dag = DbtDag(
        "shop", project_config=ProjectConfig(project), profile_config=ProfileConfig(profile_name="shop"), execution_config=with_ledger
    )
    stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    tasks = [task for task in dag.tasks if isinstance(task, DbtConsumerWatcherSensor)]
    first, second = tasks[:FIRST], tasks[FIRST : FIRST + SECOND]
    tail.PRODUCER_INTERVAL = PATIENCE  # a look in vain would keep the triggers from ending
    supervisor = Supervisor.start(capacity=1000)
    try:
        attempt = Attempt(LocalStore(str(folder / "ledger")), began(1), RunKey(dag_id=dag.dag_id, run_id=RUN_ID))
        supervisor.hand_over(first, dag, stored, 1)
        supervisor.until(supervisor.all_began)
        asked = supervisor.asked
        supervisor.until(lambda: supervisor.asked == asked + 2)  # meanwhile it has looked at the producer
        select.select([supervisor.requests], [], [], PATIENCE)  # it asks what to do: the answer will be the second wave
        for task in first:
            for node in task.trigger_arguments["nodes"]:
                attempt.write(said(node, *LINES), done(node, relation='"warehouse"."marts"."a_table"'))
        unread = -1
        while unread != supervisor.unread():
            unread = supervisor.unread()
            time.sleep(QUIET)
        size = supervisor.hand_over(second, dag, stored, FIRST + 1)
        supervisor.until(lambda: len(supervisor.running_triggers) == len(second) and len(supervisor.ended) == FIRST)
    finally:
        supervisor.kill(force=True)
    print(json.dumps({"unread": unread, "message": size, "ended": Counter(supervisor.ended.values())}))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main(Path(sys.argv[1]))
