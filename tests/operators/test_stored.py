"""What Airflow stores of a node's task is less than it would write, and is read as the same task."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, BaseSensorOperator, ExceptionRetryPolicy, task_group
from airflow.serialization.definitions.baseoperator import SerializedBaseOperator
from airflow.serialization.serialized_objects import DagSerialization

from ledger_watcher_airflow import DbtRunWatcherOperator, DbtTestWatcherOperator
from ledger_watcher_airflow.consumer import DbtConsumerWatcherSensor
from ledger_watcher_airflow.ledger import LedgerRef

ARGUMENTS: dict[str, Any] = {
    "nodes": ["model.p.a"],
    "ledger": LedgerRef(uri="s3://bucket/ledgers"),
    "producer_task_id": "dbt_producer_watcher",
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "looks": {"deferrable": False, "mode": "reschedule"},
    "looks_in_place": {"deferrable": False},
    "hurries": {"retries": 2, "retry_delay": timedelta(seconds=7)},
    "has_a_policy": {"retry_policy": ExceptionRetryPolicy(rules=[])},
    "calls": {"on_failure_callback": print, "doc_md": "about it"},
}


def draw() -> DAG:
    with DAG("d", schedule=None, default_args={"owner": "data"}) as dag:
        made = [DbtRunWatcherOperator(task_id=name, **ARGUMENTS, **more) for name, more in KINDS.items()]

        @task_group
        def mapped(region: str) -> None:
            DbtTestWatcherOperator(task_id="inside", **ARGUMENTS)

        mapped.expand(region=["north", "south"])
        made[0].set_downstream(made[1:])
    return dag


def read_back() -> dict[str, dict[str, Any]]:
    """All that Airflow knows of the tasks of the stored DAG."""
    names = SerializedBaseOperator.get_serialized_fields() | BaseSensorOperator.get_serialized_fields()
    told = ("deps", "reschedule", "start_from_trigger", "start_trigger_args")
    again = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(draw()))))
    return {
        one.task_id: {
            **{name: getattr(one, name, None) for name in sorted(names) if name not in ("_needs_expansion", *told)},
            "expands": bool(one.get_needs_expansion()),
            "reschedule": getattr(one, "reschedule", False),
            "starts": (one.start_from_trigger, getattr(one.start_trigger_args, "trigger_kwargs", None)),
            "deps": {type(dep) for dep in one.deps},
        }
        for one in again.tasks
    }


def bytes_of(task_id: str) -> int:
    tasks = DagSerialization.to_dict(draw())["dag"]["tasks"]
    return next(len(json.dumps(task, separators=(",", ":"))) for task in tasks if task["__var"]["task_id"] == task_id)


def test_what_is_left_out_is_what_airflow_assumes(monkeypatch: pytest.MonkeyPatch) -> None:
    little, found = bytes_of("plain"), read_back()
    monkeypatch.delattr(DbtConsumerWatcherSensor, "get_serialized_fields")
    assert little < bytes_of("plain")
    for task_id, task in read_back().items():
        assert found[task_id] == task
    assert {task_id for task_id, task in found.items() if task["expands"]} == {"mapped.inside"}
    assert {task_id for task_id, task in found.items() if task["reschedule"]} == {"looks"}
    assert {task_id for task_id, task in found.items() if task["has_retry_policy"]} == {"has_a_policy"}
    assert found["hurries"]["retry_delay"] == timedelta(seconds=7)


def test_a_class_stores_what_every_sensor_does() -> None:
    assert DbtRunWatcherOperator.get_serialized_fields() == BaseSensorOperator.get_serialized_fields()
