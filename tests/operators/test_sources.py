"""Sources in a DAG, what of them the producer is told, and how their tasks end."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import TaskSkippedEvent

from ledger_watcher.errors import ConfigError
from ledger_watcher.packing import unpack
from ledger_watcher.records import STALE, Outcome
from ledger_watcher_airflow import (
    DbtConsumerWatcherSensor,
    DbtDag,
    DbtRunWatcherOperator,
    DbtSourceWatcherOperator,
    ExecutionConfig,
    ProjectConfig,
    RenderConfig,
    SourceRenderingBehavior,
    TestBehavior,
    bash_producer,
    producer,
    trigger,
)
from ledger_watcher_airflow.assets import ASSETS_TASK_ID
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.tail import TailKey
from ledger_watcher_airflow.trigger import NodeTrigger
from tests.operators.commands import context, rendered
from tests.operators.conftest import LEDGER
from tests.operators.runs import RUN, Attempt, CountingStore, at, began, done, task_id_born
from tests.projects import node, write_project

MakeDag = Callable[..., DbtDag]
OLD, MODEL = "source.shop.raw.old", "model.shop.orders"
CHECKED = {"freshness": {"error_after": {"count": 1, "period": "day"}}}
ALL = RenderConfig(source_rendering_behavior=SourceRenderingBehavior.ALL, test_behavior=TestBehavior.AFTER_ALL)


@pytest.fixture
def project(tmp_path: Path) -> ProjectConfig:
    nodes = [
        node(OLD, **CHECKED),
        node("source.shop.raw.plain"),
        node(MODEL, OLD),
        node("model.shop.free", "source.shop.raw.plain"),
        node("test.shop.t.1", MODEL),
    ]
    return ProjectConfig(dbt_project_path=write_project(tmp_path / "sourced", *nodes))


def test_sources_have_tasks_above_their_models_and_what_is_below_may_follow_a_skip(make_dag: MakeDag, project: ProjectConfig) -> None:
    dag = make_dag(project_config=project, render_config=ALL)
    kinds = {
        task.task_id: (type(task), task.trigger_rule.value)
        for task in dag.tasks
        if task.task_id not in (producer.PRODUCER_TASK_ID, ASSETS_TASK_ID)
    }
    assert kinds.pop("shop_test")[1] == "none_failed"
    assert kinds == {
        "raw_old_source": (DbtSourceWatcherOperator, "all_success"),
        "raw_plain_source": (EmptyOperator, "all_success"),
        "orders_run": (DbtRunWatcherOperator, "none_failed"),
        "free_run": (DbtRunWatcherOperator, "all_success"),
    }
    assert dag.get_task("orders_run").upstream_task_ids == {"raw_old_source"}
    assert [task.task_id for task in dag.tasks if getattr(task, "trigger_arguments", {}).get("lenient")] == ["orders_run", "shop_test"]
    assert dag.tasks_map[OLD].task_id == "raw_old_source"


def test_without_sources_nothing_is_different(make_dag: MakeDag, project: ProjectConfig) -> None:
    dag = make_dag(project_config=project, render_config=RenderConfig(emit_datasets=False))
    assert not [task for task in dag.tasks if "source" in task.task_id or task.trigger_rule != "all_success"]


def test_the_producer_checks_the_sources_that_have_freshness(
    make_dag: MakeDag, project: ProjectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def nothing(*_: object) -> set[str]:
        return set()

    class Caught:
        def __init__(self, _store: object, _run: object, request: object) -> None:
            asked.append(request)

        def run(self) -> None:
            raise ConfigError("caught")

    monkeypatch.setattr("ledger_watcher.capture.session.Capture", Caught)
    monkeypatch.setattr(LedgerRef, "store", lambda _: None)
    for execution, render in (
        (ExecutionConfig(ledger_uri=LEDGER, source_freshness_skip=nothing), ALL),
        (ExecutionConfig(ledger_uri=LEDGER), RenderConfig()),
    ):
        dag = make_dag(project_config=project, execution_config=execution, render_config=render)
        with pytest.raises(Exception, match="caught"):
            dag.get_task(producer.PRODUCER_TASK_ID).execute(context())  # type: ignore[arg-type]
    checking, plain = asked
    assert (checking.freshness, checking.sources, checking.freshness_skip, checking.tests_last) == (True, {OLD}, nothing, True)
    assert (plain.freshness, plain.sources, plain.freshness_skip, plain.tests_last) == (False, None, None, False)


def test_a_producer_elsewhere_is_told_in_its_command(make_dag: MakeDag, project: ProjectConfig) -> None:
    execution = ExecutionConfig(ledger_uri=LEDGER, producer=bash_producer())
    dag = make_dag(project_config=project, execution_config=execution, render_config=ALL)
    operator = dag.get_task(producer.PRODUCER_TASK_ID)
    assert isinstance(operator, BashOperator)
    words = shlex.split(rendered(operator, context()).bash_command)
    assert {"--freshness", "--tests-last"} < set(words)
    (packed,) = [word.removeprefix("--sources=") for word in words if word.startswith("--sources=")]
    assert unpack(packed) == {OLD}


@pytest.mark.parametrize(
    ("execution", "render", "word"),
    [
        ({"source_freshness_skip": "all"}, ALL, "cannot be called"),
        ({"source_freshness_skip": print, "producer": bash_producer()}, ALL, "has elsewhere"),
        ({"source_freshness_skip": print}, RenderConfig(), "no source is checked"),
    ],
)
def test_a_function_that_would_never_be_called_is_refused(
    make_dag: MakeDag, project: ProjectConfig, execution: dict[str, Any], render: RenderConfig, word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        make_dag(project_config=project, execution_config=ExecutionConfig(ledger_uri=LEDGER, **execution), render_config=render)


def test_an_unknown_rendering_is_refused() -> None:
    with pytest.raises(ConfigError, match="WITH_TESTS_OR_FRESHNESS"):
        RenderConfig(source_rendering_behavior="some")  # type: ignore[arg-type]


# How the tasks end ------------------------------------------------------------------------------------------------------


def chosen(store: CountingStore) -> None:
    """The ledger of a run whose producer still works."""
    skipped = (
        done(OLD, Outcome.SKIPPED, by_choice=STALE, message="3.0 days before the check"),
        done(MODEL, Outcome.SKIPPED, by_choice=STALE, skip_cause=(OLD,)),
    )
    Attempt(store, began(0)).write(*skipped)


def instance(task_id: str) -> SimpleNamespace:
    states = {RUN.run_id: {producer.PRODUCER_TASK_ID: "running"}}
    return SimpleNamespace(
        dag_id=RUN.dag_id,
        run_id=RUN.run_id,
        task_id=task_id,
        map_index=-1,
        try_number=1,
        id=task_id_born(at(0)),
        get_task_states=lambda **_: states,
        get_first_reschedule_date=lambda _: None,
    )


@pytest.mark.parametrize("unique_id", [OLD, MODEL])
def test_in_the_triggerer_a_skip_by_choice_skips_the_task_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique_id: str) -> None:
    async def running(_key: TailKey) -> str:
        return "running"

    monkeypatch.setattr(trigger, "producer_state", running)
    chosen(CountingStore(tmp_path))
    one = NodeTrigger(ledger=str(tmp_path), nodes=[unique_id], producer=producer.PRODUCER_TASK_ID, poll=0.002)
    one.task_instance = instance("any")  # type: ignore[assignment]

    async def events() -> list[Any]:
        return [event async for event in one.run()]

    (event,) = asyncio.run(asyncio.wait_for(events(), 20))
    assert isinstance(event, TaskSkippedEvent)


def test_on_a_worker_too_with_the_cause(make_dag: MakeDag, project: ProjectConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CountingStore(tmp_path / "ledger")
    monkeypatch.setattr(LedgerRef, "store", lambda _: store)
    chosen(store)
    dag = make_dag(project_config=project, render_config=ALL, operator_args={"deferrable": False})
    for task_id, cause in (("raw_old_source", "3.0 days before the check"), ("orders_run", OLD)):
        task = dag.get_task(task_id)
        assert isinstance(task, DbtConsumerWatcherSensor)
        with pytest.raises(AirflowSkipException, match=cause):
            task.execute({"ti": instance(task_id)})  # type: ignore[typeddict-item]
        with pytest.raises(AirflowSkipException):
            task.resume({}, "skipped")  # type: ignore[typeddict-item]
