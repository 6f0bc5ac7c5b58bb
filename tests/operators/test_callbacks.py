"""Users' functions: which tasks end on a worker for them, what they are called with, what an error in one does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowException
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from ledger_watcher.capture import session
from ledger_watcher.capture.request import CaptureResult
from ledger_watcher.errors import ConfigError, WriterStopped
from ledger_watcher.records import EndedBy, Outcome
from ledger_watcher.storage import LocalStore
from ledger_watcher_airflow import (
    DbtConsumerWatcherSensor,
    DbtDag,
    DbtProducerWatcherOperator,
    ExecutionConfig,
    ExecutionMode,
    bash_producer,
)
from ledger_watcher_airflow import trigger as trigger_module
from ledger_watcher_airflow.tail import TailKey
from ledger_watcher_airflow.trigger import NodeTrigger
from tests.operators.runs import RUN, Attempt, at, began, done, state_of, task_id_born

MakeDag = Callable[..., DbtDag]
PRODUCER = "dbt_producer_watcher"
ORDERS = "model.shop.orders"
UNIQUE, NOT_NULL = "test.shop.unique_orders.aaaaaaaaaa", "test.shop.not_null_orders.bbbbbbbbbb"


def notify(context: object) -> None:
    """A callback."""


def run_of(task_id: str) -> Any:  # noqa: ANN401 - a stand-in for Airflow's task instance
    return SimpleNamespace(
        dag_id=RUN.dag_id,
        run_id=RUN.run_id,
        task_id=task_id,
        map_index=-1,
        try_number=1,
        id=task_id_born(at(0)),
        get_task_states=lambda **_: {RUN.run_id: {PRODUCER: "running"}},
    )


def consumer_of(make_dag: MakeDag, ledger: Path, task_id: str, **operator_args: Any) -> DbtConsumerWatcherSensor:
    task = make_dag(execution_config=ExecutionConfig(ledger_uri=str(ledger)), operator_args=operator_args).get_task(task_id)
    assert isinstance(task, DbtConsumerWatcherSensor)
    return task


# Where a task ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "worker"),
    [
        ({}, None),
        ({"on_failure_callback": notify, "on_retry_callback": [notify]}, None),
        ({"on_success_callback": notify}, "success"),
        ({"on_execute_callback": [notify]}, "success"),
        ({"on_warning_callback": notify}, "warning"),
        ({"on_warning_callback": [notify], "on_success_callback": notify}, "success"),
        ({"outlets": [Asset("mine")], "on_success_callback": notify}, "build"),
    ],
)
def test_only_what_airflow_calls_on_workers_needs_one(make_dag: MakeDag, given: dict[str, Any], worker: str | None) -> None:
    for dag in (make_dag(operator_args=given), make_dag(default_args=given)):
        consumers = [task for task in dag.tasks if isinstance(task, DbtConsumerWatcherSensor)]
        assert {task.trigger_arguments.get("worker") for task in consumers} == {worker}
        stored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
        assert all(stored.get_task(task.task_id).start_from_trigger for task in consumers)


@pytest.mark.parametrize(
    ("outcome", "worker", "kind", "payload"),
    [
        (Outcome.SUCCESS, "", TaskSuccessEvent, None),
        (Outcome.WARN, "", TaskSuccessEvent, None),
        (Outcome.SUCCESS, "warning", TaskSuccessEvent, None),
        (Outcome.WARN, "warning", TriggerEvent, {"warned": [["unique_orders", "Got 2 results"]]}),
        (Outcome.SUCCESS, "success", TriggerEvent, "success"),
        (Outcome.WARN, "success", TriggerEvent, {"warned": [["unique_orders", "Got 2 results"]]}),
        (Outcome.SUCCESS, "build", TriggerEvent, {"built": []}),
        (Outcome.WARN, "build", TriggerEvent, {"warned": [["unique_orders", "Got 2 results"]], "built": []}),
        (Outcome.FAILED, "build", TaskFailedEvent, None),
        (Outcome.FAILED, "success", TaskFailedEvent, None),
        (Outcome.FAILED, "warning", TaskFailedEvent, None),
    ],
)
def test_the_trigger_leaves_an_end_to_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, worker: str, kind: type[TriggerEvent], payload: object
) -> None:
    async def running(_: TailKey) -> str:
        return "running"

    monkeypatch.setattr(trigger_module, "producer_state", running)
    Attempt(LocalStore(str(tmp_path)), began(0)).write(done(UNIQUE, outcome, message="Got 2 results"))
    trigger = NodeTrigger(ledger=str(tmp_path), nodes=[UNIQUE], producer=PRODUCER, poll=0.002, worker=worker)
    trigger.task_instance = run_of("orders.test")

    async def events() -> list[TriggerEvent]:
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(asyncio.wait_for(events(), 20))
    assert type(event) is kind
    if kind is TriggerEvent:
        assert event.payload == payload
    assert NodeTrigger(**trigger.serialize()[1]).worker == worker


# Warnings ------------------------------------------------------------------------------------------------------------


def test_a_warning_that_the_trigger_saw_is_told_on_the_worker(make_dag: MakeDag, tmp_path: Path) -> None:
    told: list[Any] = []
    task = consumer_of(make_dag, tmp_path, "orders.test", on_warning_callback=[told.append, told.append])
    context: Any = {"ti": run_of("orders.test"), "params": {"a": 1}}
    task.resume(context, {"warned": [["unique_orders", "Got 2 results"]]})
    assert told == [{**context, "test_names": ["unique_orders"], "test_results": ["Got 2 results"]}] * 2
    assert set(context) == {"ti", "params"}


def test_a_warning_that_a_worker_saw_is_told_by_name(make_dag: MakeDag, tmp_path: Path) -> None:
    """Of the tests of a task those that warned, each once."""
    told: list[Any] = []
    task = consumer_of(make_dag, tmp_path, "orders.test", on_warning_callback=told.append, deferrable=False)
    store = LocalStore(str(tmp_path))
    Attempt(store, began(0)).write(done(UNIQUE, Outcome.WARN, message="Got 2 results, configured to warn if != 0"), done(NOT_NULL))
    task.execute({"ti": run_of("orders.test")})  # type: ignore[arg-type,typeddict-item]
    (context,) = told
    assert (context["test_names"], context["test_results"]) == (["unique_orders"], ["Got 2 results, configured to warn if != 0"])


def test_no_warning_tells_nobody(make_dag: MakeDag, tmp_path: Path) -> None:
    told: list[Any] = []
    task = consumer_of(make_dag, tmp_path, "orders.run", on_warning_callback=told.append, deferrable=False)
    Attempt(LocalStore(str(tmp_path)), began(0)).write(done(ORDERS))
    task.execute({"ti": run_of("orders.run")})  # type: ignore[arg-type,typeddict-item]
    task.resume({"ti": run_of("orders.run")}, "success")  # type: ignore[arg-type,typeddict-item]
    assert told == []


def test_an_error_in_a_warning_callback_is_logged(make_dag: MakeDag, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The node was built: its task stays green, and the next function is called."""

    def breaks(_context: object) -> None:
        raise RuntimeError("no such channel")

    told: list[Any] = []
    task = consumer_of(make_dag, tmp_path, "orders.test", on_warning_callback=[breaks, told.append])
    task.resume({"ti": run_of("orders.test")}, {"warned": [["a", "b"]]})  # type: ignore[arg-type,typeddict-item]
    assert len(told) == 1
    assert "no such channel" in capfd.readouterr().out


# Artifacts -----------------------------------------------------------------------------------------------------------


class Scene:
    """A producer, and what takes the place of a capture: dbt ended with ``code``, or the capture stopped with ``error``."""

    def __init__(self, make_dag: MakeDag, ledger: Path) -> None:
        self._make_dag = make_dag
        self._ledger = ledger
        self.happened: list[Any] = []
        self.code = 0
        self.error: Exception | None = None
        ti = run_of(PRODUCER)
        vars(ti).update(start_date=at(0), max_tries=0)
        self.context: Any = {"ti": ti, "dag_run": SimpleNamespace(clear_number=0, start_date=at(-5))}

    def producer(self, **operator_args: Any) -> DbtProducerWatcherOperator:
        task = self._make_dag(execution_config=ExecutionConfig(ledger_uri=str(self._ledger)), operator_args=operator_args).get_task(
            PRODUCER
        )
        assert isinstance(task, DbtProducerWatcherOperator)
        return task

    def keep(self, project_dir: str, **kwargs: object) -> None:
        """A callback that takes everything."""
        self.happened.append((project_dir, kwargs))

    def capture(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(run=self._run)

    def _run(self) -> CaptureResult:
        self.happened.append("end")
        if self.error is not None:
            raise self.error
        state = state_of([began(0), done(ORDERS, Outcome.FAILED if self.code else Outcome.SUCCESS)])
        return CaptureResult(exit_code=self.code, ended_by=EndedBy.EXIT, end_sha256="f" * 64, state=state, message="a parse error")


@pytest.fixture
def scene(make_dag: MakeDag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    found = Scene(make_dag, tmp_path)
    monkeypatch.setattr(session, "Capture", found.capture)
    return found


@pytest.mark.parametrize("code", [0, 1])
def test_it_is_called_when_dbt_has_ended(scene: Scene, project: Path, code: int) -> None:
    scene.code = code
    scene.producer(callback=scene.keep, callback_args={"bucket": "b"}).execute(scene.context)
    assert scene.happened == ["end", (str(project), {"bucket": "b", "context": scene.context})]


def test_several_are_called_one_after_another_with_what_they_take(scene: Scene, project: Path) -> None:
    """``context`` is for those that take it."""

    def plain(project_dir: str) -> None:
        scene.happened.append(project_dir)

    def asks(project_dir: str, context: dict[str, Any]) -> None:
        scene.happened.append((project_dir, context["ti"].task_id))

    scene.producer(callback=[plain, asks]).execute(scene.context)
    assert scene.happened == ["end", str(project), (str(project), PRODUCER)]


def test_it_is_called_before_a_failure_of_dbt_is_told(scene: Scene) -> None:
    scene.code = 2
    with pytest.raises(AirflowException, match="a parse error"):
        scene.producer(callback=scene.keep).execute(scene.context)
    assert len(scene.happened) == 2


@pytest.mark.parametrize(
    ("code", "raised", "word"), [(0, LookupError, "no such bucket"), (1, LookupError, "no such bucket"), (2, AirflowException, "parse")]
)
def test_an_error_in_it_fails_the_producer(scene: Scene, code: int, raised: type[Exception], word: str) -> None:
    """When the ledger has its end. If dbt failed as well, that is what the task says, with the other as its context."""

    def breaks(_project_dir: str) -> None:
        raise LookupError("no such bucket")

    scene.code = code
    with pytest.raises(raised, match=word) as caught:
        scene.producer(callback=breaks).execute(scene.context)
    assert scene.happened == ["end"]
    assert isinstance(caught.value, LookupError) or isinstance(caught.value.__context__, LookupError)


def test_it_is_not_called_when_the_ledger_got_no_end(scene: Scene) -> None:
    scene.error = WriterStopped("storage away")
    with pytest.raises(AirflowException, match="storage away"):
        scene.producer(callback=scene.keep).execute(scene.context)
    assert scene.happened == ["end"]


def test_it_is_called_after_a_recovery_too(scene: Scene) -> None:
    """That is a run of dbt with artifacts of its own."""
    scene.producer(callback=scene.keep).recover(scene.context, only=frozenset({ORDERS}), after=1)
    assert len(scene.happened) == 2


def test_it_goes_to_a_producer_in_a_virtual_environment(make_dag: MakeDag, tmp_path: Path) -> None:
    config = ExecutionConfig(ledger_uri=str(tmp_path), execution_mode=ExecutionMode.WATCHER_VIRTUALENV)
    with pytest.raises(ConfigError, match="callback holds 'upload'"):
        make_dag(execution_config=config, operator_args={"py_requirements": ["dbt-duckdb"], "callback": ["upload"]})
    make_dag(execution_config=config, operator_args={"py_requirements": ["dbt-duckdb"], "callback": notify})


def test_it_has_no_place_where_dbt_runs_elsewhere(make_dag: MakeDag, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="runs dbt elsewhere"):
        make_dag(execution_config=ExecutionConfig(ledger_uri=str(tmp_path), producer=bash_producer()), operator_args={"callback": notify})
