"""What a waiting task keeps in Airflow's triggerer."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path

import pytest
from airflow.executors.workloads import RunTrigger
from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.trigger import Trigger
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import DagSerialization

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, tail, trigger
from ledger_watcher_airflow.consumer import DbtConsumerWatcherSensor
from ledger_watcher_airflow.tail import TailKey
from tests.operators.runs import at, task_id_born
from tests.operators.triggerer import RUN_ID, run_of
from tests.projects import fhir_nodes, write_project

WAITING = 30


@pytest.mark.parametrize("early", [False, True])
def test_waiting_tasks_do_not_keep_a_copy_of_the_dag_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool) -> None:
    """Airflow makes one for each trigger that a task begins in (``TriggerRunner.create_runtime_ti``)."""
    asked: list[TailKey] = []

    async def running(key: TailKey) -> str | None:
        asked.append(key)
        return "running"

    monkeypatch.setattr(trigger, "producer_state", running)
    workloads = handed_over(tmp_path, early=early)

    async def main() -> int:
        runner = TriggerRunner()
        runner.to_create.extend(workloads)
        await runner.create_triggers()
        while not asked or len(next(iter(tail._tails.values()))._events) < WAITING:  # noqa: ASYNC110 - nothing tells of that
            await asyncio.sleep(0.01)
        kept = copies()
        for one in runner.triggers.values():
            one["task"].cancel()
        await asyncio.wait([one["task"] for one in runner.triggers.values()])
        return kept

    before = copies()
    assert asyncio.run(main()) - before <= 1, "the last one is in Airflow's own frames"


def copies() -> int:
    """How many DAGs there are."""
    gc.collect()
    return sum(type(one) is SerializedDAG for one in gc.get_objects())


def handed_over(folder: Path, *, early: bool) -> list[RunTrigger]:
    """What Airflow's supervisor hands over for the first tasks of a project."""
    project = write_project(folder / "shop", *fhir_nodes(), project="shop")
    execution = ExecutionConfig(ledger_uri=str(folder / "ledger"), start_with_run=early)
    dag = DbtDag(
        "shop", project_config=ProjectConfig(project), profile_config=ProfileConfig(profile_name="shop"), execution_config=execution
    )
    stored, run = json.loads(json.dumps(DagSerialization.to_dict(dag))), run_of(dag)
    found = []
    tasks = [task for task in dag.tasks if isinstance(task, DbtConsumerWatcherSensor) and (task.trigger_rule == "always") is early]
    for number, task in enumerate(tasks[:WAITING]):
        ti = TaskInstanceDTO(
            id=task_id_born(at(0)),
            dag_version_id=task_id_born(at(0)),
            task_id=task.task_id,
            dag_id=dag.dag_id,
            run_id=RUN_ID,
            try_number=1,
            map_index=-1,
            queue="default",
            pool_slots=1,
            priority_weight=1,
        )
        kwargs = Trigger.encrypt_kwargs(task.start_trigger_args.trigger_kwargs)
        classpath = task.start_trigger_args.trigger_cls
        found.append(RunTrigger(id=number, classpath=classpath, encrypted_kwargs=kwargs, ti=ti, dag_data=stored, dag_run_data=run))
    assert len(found) == WAITING
    return found
