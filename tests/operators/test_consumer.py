"""What a consumer does on a worker: where Airflow cannot start it in the triggerer, and in dag.test()."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException, TaskDeferred
from airflow.sdk.execution_time import task_runner

from ledger_watcher_airflow import DbtConsumerWatcherSensor, DbtDag
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.trigger import NodeTrigger

PRODUCER = "dbt_producer_watcher"


class InProcessSupervisorComms:
    """Its name is what tells dag.test() from a worker."""


def context_with(state: str | None) -> Any:  # noqa: ANN401 - a stand-in for Airflow's context
    states = {"manual__1": {PRODUCER: state}}
    return {"ti": SimpleNamespace(dag_id="shop", run_id="manual__1", map_index=-1, get_task_states=lambda **_: states)}


@pytest.fixture
def consumer(make_dag: Callable[..., DbtDag]) -> DbtConsumerWatcherSensor:
    task = make_dag().get_task("orders.run")
    assert isinstance(task, DbtConsumerWatcherSensor)
    return task


def test_on_a_worker_it_defers_to_the_same_trigger(consumer: DbtConsumerWatcherSensor) -> None:
    with pytest.raises(TaskDeferred) as caught:
        consumer.execute(context_with(None))
    assert isinstance(caught.value.trigger, NodeTrigger)
    assert caught.value.trigger.nodes == ["model.shop.orders"]
    assert caught.value.method_name == "resume"


@pytest.mark.parametrize("state", [None, "queued", "running", "up_for_retry"])
def test_in_dag_test_it_steps_back_until_the_producer_has_ended(
    consumer: DbtConsumerWatcherSensor, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", InProcessSupervisorComms(), raising=False)
    with pytest.raises(AirflowRescheduleException):
        consumer.execute(context_with(state))


@pytest.mark.parametrize("state", ["success", "failed", "upstream_failed", "skipped", "removed"])
def test_in_dag_test_it_looks_for_itself_when_the_producer_has_ended(
    consumer: DbtConsumerWatcherSensor, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    looks: list[str] = []
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", InProcessSupervisorComms(), raising=False)
    monkeypatch.setattr(DbtConsumerWatcherSensor, "poke", lambda task, _context: not looks.append(task.task_id))
    consumer.execute(context_with(state))
    assert looks == [consumer.task_id]


def test_it_resumes_as_the_trigger_said(consumer: DbtConsumerWatcherSensor) -> None:
    consumer.resume(context_with("success"), "success")


@pytest.mark.parametrize("event", ["failed", "skipped", None, {"run": "local"}])
def test_what_is_no_success_fails_and_may_be_retried(consumer: DbtConsumerWatcherSensor, event: object) -> None:
    with pytest.raises(AirflowException) as caught:
        consumer.resume(context_with("success"), event)
    assert not isinstance(caught.value, AirflowFailException)


def test_only_what_differs_from_the_trigger_s_defaults_is_stored() -> None:
    plain = DbtConsumerWatcherSensor(task_id="t", nodes=("model.p.a",), ledger=LedgerRef(uri="/ledger"), producer_task_id=PRODUCER)
    assert plain.start_trigger_args.trigger_kwargs == {"ledger": "/ledger", "nodes": ["model.p.a"]}
    ledger = LedgerRef(uri="/ledger", conn_id="c", deployment="blue")
    full = DbtConsumerWatcherSensor(
        task_id="t", nodes=("model.p.a",), ledger=ledger, producer_task_id=PRODUCER, ledger_group="g", poll_interval=2
    )
    more = {"conn_id": "c", "deployment": "blue", "group": "g", "poll": 2, "producer": PRODUCER}
    assert full.start_trigger_args.trigger_kwargs == {**plain.trigger_arguments, **more}
