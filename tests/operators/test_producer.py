"""What the producer hands to the capture, and when its task is green."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ledger_watcher.capture import session
from ledger_watcher.capture.request import CaptureRequest, CaptureResult
from ledger_watcher.errors import ConfigError, Fenced, WriterStopped
from ledger_watcher.ledger import RunKey
from ledger_watcher.records import EndedBy, HookFinished, Outcome, Record
from ledger_watcher_airflow import DbtDag, DbtProducerWatcherOperator, ExecutionConfig, InvocationMode, ProducerRetryOn, ProjectConfig
from ledger_watcher_airflow.trigger import NodeTrigger
from tests.operators.runs import at, began, done, planned, state_of

RUN_STARTED = datetime(2026, 7, 31, 11, 0, tzinfo=timezone.utc)
A, B, HIDDEN = "model.shop.orders", "model.shop.sales", "function.shop.f"
STARTED = datetime(2026, 7, 31, 12, 0, tzinfo=timezone.utc)


def hook(outcome: Outcome) -> HookFinished:
    return HookFinished(ts=at(1), unique_id="operation.shop.shop-on-run-end-0", outcome=outcome, status=outcome.value, message="hook broke")


def result(*records: Record, code: int | None = 0, by: EndedBy = EndedBy.EXIT, message: str | None = None) -> CaptureResult:
    return CaptureResult(exit_code=code, ended_by=by, end_sha256="f" * 64, state=state_of([began(0), *records]), message=message)


class FakeCapture:
    """Takes the place of dbt: keeps what it was asked for, gives what it was told to."""

    def __init__(self) -> None:
        self.run_key: RunKey | None = None
        self.request: CaptureRequest | None = None
        self.outcome: CaptureResult | Exception = result()
        self.interrupted = 0

    def __call__(self, store: object, run: RunKey, request: CaptureRequest) -> FakeCapture:
        self.run_key, self.request = run, request
        return self

    def run(self) -> CaptureResult:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def interrupt(self) -> None:
        self.interrupted += 1


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCapture]:
    fake = FakeCapture()
    monkeypatch.setattr(session, "Capture", fake)
    return fake


@pytest.fixture
def producer(make_dag: Callable[..., DbtDag], tmp_path: Path) -> DbtProducerWatcherOperator:
    return make_dag(execution_config=ExecutionConfig(ledger_uri=str(tmp_path / "ledger"))).get_task("dbt_producer_watcher")


def context(states: Mapping[str, str | None] | None = None, *, tried: int = 2) -> Any:  # noqa: ANN401 - a stand-in for Airflow's context
    ti = SimpleNamespace(
        dag_id="shop",
        run_id="manual__1",
        task_id="dbt_producer_watcher",
        map_index=-1,
        try_number=tried,
        max_tries=2,
        start_date=STARTED,
        get_task_states=lambda **_: {"manual__1": dict(states or {})},
    )
    return {"ti": ti, "dag_run": SimpleNamespace(clear_number=1, start_date=RUN_STARTED)}


def test_the_capture_is_asked_for_this_try_of_this_run(
    make_dag: Callable[..., DbtDag], project: Path, capture: FakeCapture, tmp_path: Path
) -> None:
    dag = make_dag(
        execution_config=ExecutionConfig(ledger_uri=str(tmp_path / "ledger"), invocation_mode=InvocationMode.SUBPROCESS),
        project_config=ProjectConfig(project, env_vars={"A": "1", "B": "2"}),
        operator_args={"env": {"B": "3"}},
    )
    producer = dag.get_task("dbt_producer_watcher")
    producer.execute(context())
    assert capture.run_key == RunKey(dag_id="shop", run_id="manual__1")
    request = capture.request
    assert request is not None
    assert request.command == producer.command()
    assert (request.in_process, request.project_dir, request.env) == (False, project, {"A": "1", "B": "3"})
    assert (request.try_number, request.clear_number, request.producer_started_at) == (2, 1, STARTED)
    assert (set(request.plan or ()), request.plan_source) == (set(producer.nodes), "airflow")
    assert (request.done, request.since, request.only, request.after) == (frozenset(), RUN_STARTED, None, None)


def test_who_is_told_of_the_run_stands_in_the_environment(
    make_dag: Callable[..., DbtDag], project: Path, capture: FakeCapture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's, and that which the DAG file gives to dbt, which wins."""

    def told(**env_vars: str) -> tuple[str, ...]:
        ledger = ExecutionConfig(ledger_uri=str(tmp_path / "ledger"))
        dag = make_dag(execution_config=ledger, project_config=ProjectConfig(project, env_vars=env_vars))
        dag.get_task("dbt_producer_watcher").execute(context())
        assert capture.request is not None
        return capture.request.emit

    monkeypatch.delenv("LEDGER_WATCHER_EMIT", raising=False)
    assert told() == ()
    monkeypatch.setenv("LEDGER_WATCHER_EMIT", "openlineage  otel")
    assert told() == ("openlineage", "otel")
    assert told(LEDGER_WATCHER_EMIT="otel") == ("otel",)


def test_what_airflow_shows_as_done_is_not_built_again(producer: DbtProducerWatcherOperator, capture: FakeCapture) -> None:
    """A later try passes on whose tasks are green; a first try has nothing to pass on and asks nobody."""
    states = {"raw_seed": "success", "orders.run": "success", "orders.test": "failed", "sales.run": None}
    producer.execute(context(states))
    assert capture.request is not None
    assert capture.request.done == {"seed.shop.raw", "model.shop.orders"}
    producer.execute(context(states, tried=1))
    assert capture.request.done == frozenset()


def test_failed_nodes_are_tried_again_if_that_is_what_its_retries_are_for(
    make_dag: Callable[..., DbtDag], capture: FakeCapture, tmp_path: Path
) -> None:
    """While it has tries left; the last one leaves the failures to their own tasks."""
    config = ExecutionConfig(ledger_uri=str(tmp_path / "ledger"), producer_retry_on=ProducerRetryOn.NODE_ERRORS)
    dag = make_dag(execution_config=config, operator_args={"retries": 2})
    producer = dag.get_task("dbt_producer_watcher")
    capture.outcome = result(done(A, Outcome.FAILED), done(B, Outcome.SKIPPED), code=1)
    with pytest.raises(AirflowException, match="the next try builds them again"):
        producer.execute(context(tried=2))
    producer.execute(context(tried=3))
    consumer = dag.get_task("orders.run")
    assert consumer.trigger_arguments["patient"] is True
    assert NodeTrigger(**consumer.trigger_arguments).serialize()[1]["patient"] is True


def test_a_recovery_builds_some_nodes_in_the_task_of_one_of_them(producer: DbtProducerWatcherOperator, capture: FakeCapture) -> None:
    capture.outcome = result(done(A, Outcome.FAILED), code=1)
    producer.recover(context(), only=frozenset({A, B}), after=3)
    request = capture.request
    assert request is not None
    assert (request.only, request.after, request.task_id, request.done) == ({A, B}, 3, "dbt_producer_watcher", frozenset())
    assert request.producer_started_at is None, "the attempt begins now, whenever the task was deferred first"


# When it is green ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [
        result(done(A), done(B)),
        result(done(A, Outcome.FAILED), done(B, Outcome.SKIPPED), code=1),
        result(done(A, Outcome.WARN), hook(Outcome.SUCCESS)),
    ],
)
def test_it_succeeds_when_dbt_ended_and_every_failure_has_a_task(
    producer: DbtProducerWatcherOperator, capture: FakeCapture, outcome: CaptureResult
) -> None:
    capture.outcome = outcome
    producer.execute(context())


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (result(done(HIDDEN, Outcome.FAILED, message="no such type"), code=1), "no such type"),
        (result(done(A, Outcome.FAILED), done(HIDDEN, Outcome.FAILED), code=1), HIDDEN),
        (result(done(A, Outcome.FAILED), hook(Outcome.FAILED), code=1), "hook broke"),
        (result(done(A), hook(Outcome.FAILED), code=1), "hook broke"),
        (result(code=1), "did not run to its end"),
        (result(code=2, message="Parsing Error in models/a.sql"), "Parsing Error"),
        (result(done(A, Outcome.FAILED), code=2), "exit code 2"),
        (result(planned(A), code=None, by=EndedBy.LOST), "lost"),
        (result(done(A, Outcome.CANCELLED), code=130, by=EndedBy.SIGNAL), "signal"),
        (result(done(A), code=0, by=EndedBy.SIGNAL), "signal"),
    ],
)
def test_it_fails_otherwise_and_names_the_cause(
    producer: DbtProducerWatcherOperator, capture: FakeCapture, outcome: CaptureResult, word: str
) -> None:
    capture.outcome = outcome
    with pytest.raises(AirflowException, match=word) as caught:
        producer.execute(context())
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(
    ("earlier", "now", "green"),
    [
        (done(HIDDEN, Outcome.FAILED), done(A, Outcome.FAILED), True),
        (done(A, Outcome.FAILED), planned(A), False),
    ],
)
def test_what_an_earlier_attempt_failed_is_not_this_ones(
    producer: DbtProducerWatcherOperator, capture: FakeCapture, earlier: Record, now: Record, green: bool
) -> None:
    state = state_of([began(0), earlier], [began(60), now])
    capture.outcome = CaptureResult(exit_code=1, ended_by=EndedBy.EXIT, end_sha256="f" * 64, state=state)
    if green:
        producer.execute(context())
    else:
        with pytest.raises(AirflowException, match="did not run to its end"):
            producer.execute(context())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError("no such bucket"), AirflowFailException),
        (Fenced("seg/1", 2, "attempt 2"), AirflowFailException),
        (WriterStopped("storage away"), AirflowException),
    ],
)
def test_an_error_that_would_come_again_is_not_retried(
    producer: DbtProducerWatcherOperator, capture: FakeCapture, error: Exception, kind: type[Exception]
) -> None:
    capture.outcome = error
    with pytest.raises(AirflowException) as caught:
        producer.execute(context())
    assert type(caught.value) is kind
    assert str(error) in str(caught.value)


def test_killing_it_interrupts_dbt(producer: DbtProducerWatcherOperator, capture: FakeCapture) -> None:
    producer.on_kill()  # before it began
    producer.execute(context())
    producer.on_kill()
    assert capture.interrupted == 1
