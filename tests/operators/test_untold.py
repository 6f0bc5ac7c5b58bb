"""Who tells of what was built: the producer at its end, and ``dbt_assets`` of what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowException, DownstreamTasksSkipped
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from ledger_watcher.records import AttemptStarted, EndedBy, Outcome
from ledger_watcher.storage import LocalStore
from ledger_watcher_airflow import DbtDag, ExecutionConfig, assets, trigger
from ledger_watcher_airflow.producers import bash_producer
from ledger_watcher_airflow.untold import UntoldTrigger
from tests.operators.runs import RUN, Attempt, began, done, over
from tests.operators.test_assets import ORDERS, RAW, SALES, Record, made
from tests.operators.test_producer import FakeCapture, capture, context, producer, result

__all__ = ["capture", "producer"]

MakeDag = Callable[..., DbtDag]
PRODUCER = "dbt_producer_watcher"


def told_by(task: Any, record: Record) -> list[str]:  # noqa: ANN401 - the producer
    """The nodes that the producer hands over when it ends."""
    (alias,) = task.outlets
    events = OutletEventAccessors()
    task.execute({**context(tried=1), "inlet_events": {alias: record}, "outlet_events": events})
    return [one.extra["unique_id"] for one in events[alias].asset_alias_events]


def test_the_producer_tells_of_what_was_built_though_others_failed(producer: Any, capture: FakeCapture) -> None:  # noqa: ANN401
    capture.outcome = result(made(RAW), made(ORDERS), made(SALES, 6, Outcome.FAILED), code=1)
    assert [one.name for one in producer.outlets] == ["shop.dbt_assets"]
    assert told_by(producer, Record()) == [ORDERS, RAW]


@pytest.mark.parametrize(("map_index", "skipped"), [(-1, "dbt_assets"), (2, ("dbt_assets", 2))])
def test_when_all_is_done_and_told_the_task_at_the_end_is_skipped(
    producer: Any,  # noqa: ANN401
    capture: FakeCapture,
    monkeypatch: pytest.MonkeyPatch,
    map_index: int,
    skipped: object,
) -> None:
    """Skipped by choice is done, too: what is built of it later was cleared, and the task at the end with it."""
    nodes = [done(name) for name in producer.nodes[1:]]
    stale = done(producer.nodes[0], Outcome.SKIPPED, by_choice="stale source")
    capture.outcome = result(stale, *nodes)
    given = {**context(tried=1), "dag_run": SimpleNamespace(clear_number=None)}
    monkeypatch.setattr(given["ti"], "map_index", map_index)
    (alias,) = producer.outlets
    with pytest.raises(DownstreamTasksSkipped) as caught:
        producer.execute({**given, "inlet_events": {alias: Record()}, "outlet_events": OutletEventAccessors()})
    assert caught.value.tasks == [skipped]
    for last in ([done(producer.nodes[0], Outcome.FAILED)], [done(producer.nodes[0], Outcome.SKIPPED)], []):
        capture.outcome = result(*last, *nodes)
        producer.execute({**given, "inlet_events": {alias: Record()}, "outlet_events": OutletEventAccessors()})


def test_a_producer_that_fails_tells_of_nothing(producer: Any, capture: FakeCapture) -> None:  # noqa: ANN401
    capture.outcome = result(made(RAW), code=2, by=EndedBy.EXIT, message="hook broke")
    with pytest.raises(AirflowException):
        told_by(producer, Record())


def test_the_task_at_the_end_begins_in_the_triggerer_if_the_producer_tells(make_dag: MakeDag, monkeypatch: pytest.MonkeyPatch) -> None:
    last = make_dag().get_task("dbt_assets")
    assert last.start_from_trigger
    assert last.start_trigger_args is not None
    found = UntoldTrigger(**last.start_trigger_args.trigger_kwargs)
    assert found.serialize() == (last.start_trigger_args.trigger_cls, last.start_trigger_args.trigger_kwargs)
    monkeypatch.setattr(assets, "MOST_EVENTS", 2)
    dag = make_dag()
    assert not dag.get_task(PRODUCER).outlets, "too many events for one task"
    assert not dag.get_task("dbt_assets").start_from_trigger


@pytest.mark.parametrize("more", [{"on_success_callback": print}, {"on_execute_callback": print}, {"outlets": [Asset("mine")]}], ids=str)
def test_what_airflow_does_on_workers_only_is_done_there(make_dag: MakeDag, more: dict[str, Any]) -> None:
    assert not make_dag(operator_args=more).get_task("dbt_assets").start_from_trigger
    assert not make_dag(default_args=more).get_task("dbt_assets").start_from_trigger


def test_without_a_triggerer_the_task_at_the_end_is_on_a_worker(make_dag: MakeDag) -> None:
    for where in ({"operator_args": {"deferrable": False}}, {"default_args": {"deferrable": False}}):
        dag = make_dag(**where)
        assert not dag.get_task("dbt_assets").start_from_trigger
        assert dag.get_task(PRODUCER).outlets


def own(**more: Any) -> AttemptStarted:
    return began(0, **more)


@pytest.mark.parametrize(
    ("state", "attempts", "told"),
    [
        ("success", [own()], True),
        ("failed", [own()], False),
        ("success", [own(), began(60, scope="only", task_id="orders.run")], False),
        ("success", [began(0, scope="only", task_id="orders.run"), began(60)], True),
        ("success", [], False),
    ],
    ids=["all well", "a producer that failed", "a recovery behind it", "a recovery before it", "no ledger"],
)
def test_a_worker_is_asked_only_if_something_may_be_untold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, attempts: list[AttemptStarted], *, told: bool
) -> None:
    for started in attempts:
        attempt = Attempt(LocalStore(str(tmp_path)), started)
        attempt.write(done(ORDERS))
        attempt.end(over())
    assert type(event_of(tmp_path, monkeypatch, state)) is (TaskSuccessEvent if told else TriggerEvent)


def test_an_attempt_without_an_end_told_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody marked the producer as a success while dbt ran."""
    Attempt(LocalStore(str(tmp_path)), began(0)).write(done(ORDERS))
    assert type(event_of(tmp_path, monkeypatch, "success")) is TriggerEvent


def test_a_ledger_that_cannot_be_read_is_the_worker_s_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert type(event_of(tmp_path / "file", monkeypatch, "success")) is TriggerEvent


def event_of(ledger: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> TriggerEvent:
    """What the trigger answers, the producer's task being in that state."""

    async def producer_state(_: object) -> str:
        return state

    async def events() -> list[TriggerEvent]:
        return [event async for event in untold.run()]

    monkeypatch.setattr(trigger, "producer_state", producer_state)
    untold = UntoldTrigger(str(ledger), PRODUCER, None, "", "default")
    untold.task_instance = SimpleNamespace(dag_id=RUN.dag_id, run_id=RUN.run_id, task_id="dbt_assets", map_index=-1)  # type: ignore[assignment]
    (event,) = asyncio.run(events())
    return event


def test_a_producer_elsewhere_leaves_it_to_the_task_at_the_end(make_dag: MakeDag, tmp_path: Path) -> None:
    dag = make_dag(execution_config=ExecutionConfig(ledger_uri=str(tmp_path), producer=bash_producer()))
    assert not dag.get_task("dbt_assets").start_from_trigger
    assert not dag.get_task(PRODUCER).outlets
