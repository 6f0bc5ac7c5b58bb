"""A consumer that waits on a worker: the same table as in the triggerer, the timeouts and modes of every sensor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from airflow.sdk.execution_time import task_runner
from airflow.serialization.serialized_objects import DagSerialization

from ledger_watcher.errors import ConfigError, Denied, Overtaken, StorageError, Transient
from ledger_watcher.records import ONLY, Outcome
from ledger_watcher.storage import LocalStore
from ledger_watcher_airflow import DbtConsumerWatcherSensor, DbtDag, DbtTaskGroup, ExecutionConfig
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.producer import DbtProducerWatcherOperator
from tests.operators.runs import RUN, Attempt, CountingStore, at, began, done, over, planned, said, task_id_born

RAW, ORDERS, SALES = "seed.shop.raw", "model.shop.orders", "model.shop.sales"
PRODUCER = "dbt_producer_watcher"


class InProcessSupervisorComms:
    """Its name is what tells dag.test() from a worker."""


class Scene:
    """A run in a real ledger, the states of its tasks, and a consumer on a worker."""

    def __init__(self, make_dag: Callable[..., DbtDag], root: Path) -> None:
        self._make = make_dag
        self.root = root
        self.store = CountingStore(root)
        self.states: dict[str, str | None] = {PRODUCER: "running", "orders.run": "running"}
        self.looks = 0
        self.on_look: Callable[[int], None] = lambda _: None
        self.first_reschedule: datetime | None = None
        self.asked: list[tuple[frozenset[str], int]] = []
        self.dbt: Callable[[frozenset[str]], None] = lambda _: None

    def task(self, task_id: str = "orders.run", **operator_args: Any) -> DbtConsumerWatcherSensor:
        dag = self._make(
            execution_config=ExecutionConfig(ledger_uri=str(self.root), poll_interval=0.001),
            operator_args={"deferrable": False, **operator_args},
        )
        task = dag.get_task(task_id)
        assert isinstance(task, DbtConsumerWatcherSensor)
        return task

    def recover(self, _context: object, *, only: frozenset[str], after: int) -> None:
        self.asked.append((only, after))
        self.dbt(only)

    def _answer(self, task_ids: list[str] | None = None, **_: object) -> dict[str, dict[str, str | None]]:
        """What Airflow says: of these tasks (a look of a sensor), or of all (a recovery)."""
        if task_ids is None:
            return {RUN.run_id: dict(self.states)}
        self.looks += 1
        self.on_look(self.looks)
        return {RUN.run_id: {task_id: self.states[task_id] for task_id in task_ids if task_id in self.states}}

    def execute(self, task: DbtConsumerWatcherSensor, *, tried: int = 1, born: float = 0) -> None:
        ti = SimpleNamespace(
            dag_id=RUN.dag_id,
            run_id=RUN.run_id,
            task_id=task.task_id,
            map_index=-1,
            try_number=tried,
            id=task_id_born(at(born)),
            get_task_states=self._answer,
            get_first_reschedule_date=lambda _: self.first_reschedule,
        )
        task.execute({"ti": ti, "dag_run": SimpleNamespace(clear_number=0)})  # type: ignore[arg-type,typeddict-item]

    def outcome(self, task: DbtConsumerWatcherSensor, **more: Any) -> str:
        try:
            self.execute(task, **more)
        except AirflowException as error:
            return f"{type(error).__name__}: {error}"
        return "success"


@pytest.fixture
def scene(make_dag: Callable[..., DbtDag], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    found = Scene(make_dag, tmp_path / "ledger")
    monkeypatch.setattr(DbtProducerWatcherOperator, "recover", lambda _, *args, **kwargs: found.recover(*args, **kwargs))
    monkeypatch.setattr(LedgerRef, "store", lambda _: found.store)
    return found


# Ends ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.SKIPPED])
def test_it_ends_as_dbt_ended_the_node(scene: Scene, capfd: pytest.CaptureFixture[str], mode: str, outcome: Outcome) -> None:
    attempt = Attempt(scene.store, began(0))
    attempt.write(planned(ORDERS), said(ORDERS, "the line of dbt"), done(ORDERS, outcome, message="because"))
    ended = scene.outcome(scene.task(mode=mode))
    assert ended.startswith("success" if outcome.ok else f"AirflowException: {ORDERS}")
    assert "the line of dbt" in capfd.readouterr().out


def test_in_poke_mode_it_reads_on_from_where_it_was(scene: Scene) -> None:
    """The records come one after another while it waits; each look costs the objects that are new and one that is not there yet."""
    attempt = Attempt(LocalStore(str(scene.root)), began(0))  # the store of the scene counts what is read
    attempt.write(planned(RAW, ORDERS))

    def build(look: int) -> None:
        if look == 3:
            attempt.write(done(RAW))
        if look == 6:
            attempt.write(done(ORDERS))

    scene.on_look = build
    scene.execute(scene.task())
    assert scene.looks == 6
    written = 4  # the fence, the plan, two nodes
    assert scene.store.calls["get"] <= written + scene.looks + 2
    assert scene.store.calls["list"] == 1


def test_in_reschedule_mode_it_gives_the_worker_back(scene: Scene) -> None:
    Attempt(scene.store, began(0)).write(planned(ORDERS))
    before = datetime.now(timezone.utc)
    with pytest.raises(AirflowRescheduleException) as caught:
        scene.execute(scene.task(mode="reschedule", poke_interval=300))
    assert caught.value.reschedule_date >= before + timedelta(seconds=300)
    assert scene.looks == 1
    assert scene.task(mode="reschedule").poke_interval == 60


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "skipped", "removed"])
def test_a_node_that_never_ran_ends_the_task_too(scene: Scene, state: str) -> None:
    """Without a single record as well: the producer may not have begun."""
    scene.states[PRODUCER] = state
    ended = scene.outcome(scene.task())
    assert f"the producer ended as {state}" in ended
    assert ORDERS in ended


def test_a_producer_that_the_run_no_longer_has_counts_as_removed(scene: Scene) -> None:
    del scene.states[PRODUCER]
    assert "removed" in scene.outcome(scene.task())


def test_a_node_that_dbt_did_not_know_ends_the_task_too(scene: Scene) -> None:
    attempt = Attempt(scene.store, began(0))
    attempt.write(planned(RAW), done(RAW))
    attempt.end()
    scene.states[PRODUCER] = "success"
    assert "was rendered in Airflow" in scene.outcome(scene.task())


def test_records_of_before_this_try_do_not_count(scene: Scene) -> None:
    """The producer of the try before has failed the node; this try waits for the one that runs now."""
    first = Attempt(scene.store, began(0))
    first.write(planned(ORDERS), done(ORDERS, Outcome.FAILED, 5))
    first.end()

    def build_again(look: int) -> None:
        if look == 2:
            Attempt(scene.store, began(70)).write(planned(ORDERS), done(ORDERS, seconds=75))

    scene.on_look = build_again
    scene.execute(scene.task(), tried=2, born=60)
    assert scene.looks == 2


# Time ----------------------------------------------------------------------------------------------------------------


def test_the_timeout_is_that_of_the_waiting(scene: Scene) -> None:
    Attempt(scene.store, began(0)).write(planned(ORDERS))
    with pytest.raises(AirflowSensorTimeout):
        scene.execute(scene.task(timeout=0))


def test_the_timeout_counts_from_the_first_look_of_a_try(scene: Scene) -> None:
    Attempt(scene.store, began(0)).write(planned(ORDERS))
    scene.first_reschedule = datetime.now(timezone.utc) - timedelta(seconds=100)
    with pytest.raises(AirflowSensorTimeout):
        scene.execute(scene.task(mode="reschedule", timeout=timedelta(seconds=99)))
    with pytest.raises(AirflowRescheduleException):
        scene.execute(scene.task(mode="reschedule", timeout=5000))


def test_a_soft_fail_skips_a_task_that_waited_too_long(scene: Scene) -> None:
    Attempt(scene.store, began(0)).write(planned(ORDERS))
    with pytest.raises(AirflowSkipException):
        scene.execute(scene.task(timeout=0, soft_fail=True))


def test_the_execution_timeout_is_that_of_dbt_in_this_task(scene: Scene) -> None:
    """A tenth of a second: waiting is no part of it, a run of dbt that takes longer is ended."""
    attempt = Attempt(scene.store, began(0))
    attempt.write(planned(ORDERS), done(ORDERS, Outcome.SKIPPED))

    def end(look: int) -> None:
        if look == 300:  # of 1 ms at least
            attempt.end()
            scene.states[PRODUCER] = "success"

    def hangs(_only: frozenset[str]) -> None:
        while True:
            pass

    scene.on_look, scene.dbt = end, hangs
    with pytest.raises(AirflowTaskTimeout):
        scene.execute(scene.task(execution_timeout=timedelta(seconds=0.1)))
    assert len(scene.asked) == 1


# Recovery ------------------------------------------------------------------------------------------------------------


def skipped_by_dbt(scene: Scene) -> None:
    attempt = Attempt(scene.store, began(0))
    attempt.write(planned(ORDERS, SALES), done(ORDERS, Outcome.SKIPPED), done(SALES, Outcome.SKIPPED))
    attempt.end()
    scene.states |= {PRODUCER: "success", "sales_run": "up_for_reschedule"}


def test_it_runs_dbt_itself_when_nobody_else_will(scene: Scene) -> None:
    def builds(only: frozenset[str]) -> None:
        recovery = Attempt(scene.store, began(30, scope=ONLY, task_id="orders.run"))
        recovery.write(planned(*only), *(done(name, seconds=35) for name in only))
        recovery.end()

    skipped_by_dbt(scene)
    scene.dbt = builds
    scene.execute(scene.task())
    ((only, after),) = scene.asked
    assert after == 1
    assert {ORDERS, SALES} <= only


def test_who_loses_the_race_looks_again(scene: Scene) -> None:
    """Another task began a recovery at the same moment: its records are what this one ends by."""

    def loses(only: frozenset[str]) -> None:
        scene.states["sales_run"] = "running"
        recovery = Attempt(scene.store, began(30, scope=ONLY, task_id="sales_run"))
        recovery.write(planned(*only))
        looked = scene.looks

        def finish(look: int) -> None:
            if look == looked + 3:
                recovery.write(done(ORDERS, seconds=35))

        scene.on_look = finish
        raise Overtaken("ledger", 2, 1)

    skipped_by_dbt(scene)
    scene.dbt = loses
    scene.execute(scene.task())
    assert len(scene.asked) == 1


def test_a_recovery_that_began_while_it_looked_is_alive(scene: Scene) -> None:
    """Airflow was asked before the task ran, the ledger was read after it had begun: no sign of a death."""
    skipped_by_dbt(scene)
    scene.states["sales_run"] = "queued"

    def begin(look: int) -> None:
        if look == 1:
            Attempt(scene.store, began(30, scope=ONLY, task_id="sales_run")).write(planned(ORDERS, SALES))
        if look == 2:
            scene.states["sales_run"] = "running"

    scene.on_look = begin
    with pytest.raises(AirflowRescheduleException):
        scene.execute(scene.task(mode="reschedule"))
    assert (scene.looks, scene.asked) == (2, [])


@pytest.mark.parametrize("state", ["failed", "up_for_retry", None])
def test_a_recovery_whose_task_is_gone_is_no_reason_to_wait(scene: Scene, state: str | None) -> None:
    """In the first look of a process, too, as all of them are in mode reschedule."""
    skipped_by_dbt(scene)
    Attempt(scene.store, began(30, scope=ONLY, task_id="sales_run")).write(planned(SALES))
    scene.states["sales_run"] = state
    scene.outcome(scene.task(mode="reschedule"))
    assert [after for _, after in scene.asked] == [2]


# Trouble -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "success", "failed"])
def test_a_storage_out_of_reach_means_waiting(scene: Scene, state: str) -> None:
    """The producer may have ended: its records cannot be read at the moment, that is all."""
    Attempt(scene.store, began(0)).write(planned(ORDERS), done(ORDERS))
    scene.states[PRODUCER] = state
    scene.store.fail_with(Transient)

    def back(look: int) -> None:
        if look == 3:
            scene.store.fail_with(None)

    scene.on_look = back
    scene.execute(scene.task())
    assert scene.looks == 3


@pytest.mark.parametrize(("error", "state", "ends"), [(Denied, "success", True), (Denied, "running", False)])
def test_a_storage_that_refuses_ends_the_task_once_the_producer_has(
    scene: Scene, error: type[StorageError], state: str, ends: bool
) -> None:
    scene.states[PRODUCER] = state
    scene.store.fail_with(error)
    ended = scene.outcome(scene.task(timeout=0))
    assert ("the ledger cannot be read here" in ended) is ends
    assert ended.startswith("AirflowSensorTimeout") is not ends


def test_a_ledger_that_somebody_altered_ends_the_task(scene: Scene) -> None:
    attempt = Attempt(scene.store, began(0))
    attempt.write(planned(ORDERS))
    attempt.write(done(ORDERS))
    segment = max(scene.root.rglob("seg/*"))
    segment.write_bytes(segment.read_bytes().replace(b"success", b"failure"))
    assert "is corrupt" in scene.outcome(scene.task())


# How it is drawn -----------------------------------------------------------------------------------------------------


def test_it_does_not_start_in_the_triggerer(scene: Scene) -> None:
    dag = scene.task(mode="reschedule").get_dag()
    assert dag is not None
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    for task in dag.tasks:
        stored = again.get_task(task.task_id)
        assert not stored.start_from_trigger
        if isinstance(task, DbtConsumerWatcherSensor):
            assert stored.reschedule is True


def test_what_is_said_of_the_waiting_is_not_said_to_the_producer(make_dag: Callable[..., DbtDag], configs: dict[str, Any]) -> None:
    """And a DAG's default_args say it as well as operator_args do, of a group in a bigger DAG too."""
    given: dict[str, Any] = {"deferrable": False, "mode": "reschedule", "poke_interval": 30, "timeout": 600, "soft_fail": True}
    for dag in (make_dag(operator_args=given), make_dag(default_args=given)):
        tasks = [task for task in dag.tasks if isinstance(task, DbtConsumerWatcherSensor)]
        assert tasks
        assert {(task.deferrable, task.mode, task.poke_interval, task.timeout, task.soft_fail) for task in tasks} == {
            (False, "reschedule", 30.0, 600.0, True)
        }
        assert isinstance(dag.get_task(PRODUCER), DbtProducerWatcherOperator)
    with DAG("bigger", schedule=None, default_args=given) as bigger:
        DbtTaskGroup("dbt", **configs)
    assert bigger.get_task("dbt.orders.run").deferrable is False


def test_a_timeout_in_the_triggerer_is_airflow_s(make_dag: Callable[..., DbtDag]) -> None:
    dag = make_dag(operator_args={"timeout": 600, "poke_interval": 5})
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("orders.run")
    assert stored.start_trigger_args.timeout == timedelta(seconds=600)
    assert dag.get_task("orders.run").trigger_arguments["poll"] == 5


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"mode": "reschedule"}, "deferrable=False"),
        ({"soft_fail": True}, "deferrable=False"),
        ({"never_fail": True}, "deferrable=False"),
        ({"poke_interval": 0}, "more than 0"),
        ({"on_warning_callback": "notify"}, "cannot be called"),
    ],
)
def test_what_would_mean_nothing_is_refused(make_dag: Callable[..., DbtDag], given: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        make_dag(operator_args=given)


# dag.test() ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_in_dag_test_it_steps_back_until_the_producer_has_ended(scene: Scene, monkeypatch: pytest.MonkeyPatch, *, deferrable: bool) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", InProcessSupervisorComms(), raising=False)
    attempt = Attempt(scene.store, began(0))
    attempt.write(planned(ORDERS), done(ORDERS))
    attempt.end(over())
    with pytest.raises(AirflowRescheduleException):
        scene.execute(scene.task(deferrable=deferrable))
    scene.states[PRODUCER] = "success"
    scene.execute(scene.task(deferrable=deferrable))
