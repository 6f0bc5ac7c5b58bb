"""Recovery: which nodes, through whom, and who gives way to whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from ledger_watcher.errors import Fenced, Overtaken, Transient
from ledger_watcher.records import ONLY, Outcome
from ledger_watcher_airflow import DbtDag, ExecutionConfig
from ledger_watcher_airflow.consumer import DbtConsumerWatcherSensor
from ledger_watcher_airflow.producer import DbtProducerWatcherOperator
from ledger_watcher_airflow.words import RECOVER
from tests.operators.runs import RUN, Attempt, CountingStore, at, began, done, over, planned, said, task_id_born

RAW, ORDERS, SALES = "seed.shop.raw", "model.shop.orders", "model.shop.sales"
EVENT = {RECOVER: "because"}


class Scene:
    """A run in a real ledger, the states of its tasks, and a producer whose dbt is a function."""

    def __init__(self, dag: DbtDag, root: Path) -> None:
        self.dag = dag
        self.store = CountingStore(root)
        self.states: dict[str, str | None] = {"dbt_producer_watcher": "success"}
        self.clear_number = 0
        self.asked: list[tuple[frozenset[str], int]] = []
        self.dbt: Callable[[frozenset[str]], None] = self.builds

    def recover(self, _context: object, *, only: frozenset[str], after: int) -> None:
        self.asked.append((only, after))
        self.dbt(only)

    def builds(self, only: frozenset[str], outcome: Outcome = Outcome.SUCCESS) -> None:
        attempt = Attempt(self.store, began(30, scope=ONLY, task_id="orders.run", clear_number=self.clear_number))
        attempt.write(planned(*only), *(said(name, f"line of {name}") for name in only), *(done(name, outcome, 35) for name in only))
        attempt.end()

    def resume(self, task_id: str = "orders.run", tried: int = 2) -> None:
        task = self.dag.get_task(task_id)
        assert isinstance(task, DbtConsumerWatcherSensor)
        ti = SimpleNamespace(
            dag_id=RUN.dag_id,
            run_id=RUN.run_id,
            task_id=task_id,
            map_index=-1,
            try_number=tried,
            id=task_id_born(at(20)),
            get_task_states=lambda **_: {RUN.run_id: self.states},
        )
        task.resume({"ti": ti, "dag_run": SimpleNamespace(clear_number=self.clear_number)}, EVENT)  # type: ignore[arg-type,typeddict-item]


@pytest.fixture
def scene(make_dag: Callable[..., DbtDag], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    found = Scene(make_dag(execution_config=ExecutionConfig(ledger_uri=str(tmp_path))), tmp_path)
    monkeypatch.setattr(DbtProducerWatcherOperator, "recover", lambda _, *args, **kwargs: found.recover(*args, **kwargs))
    return found


def first_attempt(scene: Scene, **more: Any) -> None:
    """The producer built the seed, failed the model and skipped what is below."""
    attempt = Attempt(scene.store, began(0, clear_number=0, **more))
    below = done(SALES, Outcome.SKIPPED, skip_cause=(ORDERS,))
    attempt.write(planned(RAW, ORDERS, SALES), done(RAW), done(ORDERS, Outcome.FAILED, message="no such table"), below)
    attempt.end()


def test_one_run_of_dbt_for_everything_that_waits(scene: Scene) -> None:
    """A retry of a failed root: it, and the skipped descendants whose tasks have not begun; not what is built, not what has ended."""
    first_attempt(scene)
    scene.states |= {
        "raw_seed": "success",
        "orders.run": "running",
        "orders.test": None,
        "sales_run": None,
        "history_snapshot": "upstream_failed",
    }
    scene.resume()
    ((only, after),) = scene.asked
    assert after == 1
    assert {ORDERS, SALES} < only
    assert RAW not in only
    assert "snapshot.shop.history" not in only


def test_what_is_built_since_the_last_clear_is_only_late(scene: Scene) -> None:
    """The seed's record is there, its task has not caught up: no reason to build it again. After a clear it is one."""
    first_attempt(scene)
    scene.states |= {"raw_seed": "deferred", "orders.run": "running", "sales_run": None}
    scene.resume()
    assert RAW not in scene.asked[0][0]


def test_a_clear_builds_again_what_was_cleared(scene: Scene) -> None:
    first_attempt(scene)
    scene.clear_number = 1
    scene.states |= {"raw_seed": "deferred", "orders.run": None, "sales_run": None}
    scene.resume("raw_seed")
    assert {RAW, ORDERS, SALES} <= scene.asked[0][0]


def test_what_is_below_a_task_that_failed_for_good_is_not_built(scene: Scene) -> None:
    """Its own task, or one that started with the run, has only not said so yet."""
    first_attempt(scene)
    scene.clear_number = 1
    scene.states |= {"raw_seed": "running", "orders.run": "failed", "orders.test": None, "eph_run": None, "sales_run": "deferred"}
    scene.resume("raw_seed")
    assert scene.asked[0][0] == {RAW}


def test_the_task_ends_by_its_own_record(scene: Scene) -> None:
    first_attempt(scene)
    scene.states |= {"orders.run": "running"}
    scene.dbt = lambda only: scene.builds(only, Outcome.FAILED)
    with pytest.raises(AirflowException, match=ORDERS):
        scene.resume()


def test_dbt_that_says_nothing_of_the_node_does_not_make_it_green(scene: Scene) -> None:
    """Whatever its exit code."""
    first_attempt(scene)
    scene.states |= {"orders.run": "running"}

    def says_nothing(only: frozenset[str]) -> None:
        attempt = Attempt(scene.store, began(30, scope=ONLY, task_id="orders.run"))
        attempt.write(planned(*only))
        attempt.end(over())

    scene.dbt = says_nothing
    with pytest.raises(AirflowException, match="without a result"):
        scene.resume()


def test_dbt_s_lines_are_in_the_task_s_log(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    first_attempt(scene)
    scene.states |= {"orders.run": "running"}
    scene.resume()
    assert f"line of {ORDERS}" in capfd.readouterr().out


# Giving way ----------------------------------------------------------------------------------------------------------


def test_a_recovery_under_way_is_waited_for(scene: Scene) -> None:
    """Another task runs it: back to the trigger, without a second dbt."""
    first_attempt(scene)
    Attempt(scene.store, began(25, scope=ONLY, task_id="sales_run")).write(planned(ORDERS, SALES))
    scene.states |= {"orders.run": "running", "sales_run": "running"}
    with pytest.raises(TaskDeferred):
        scene.resume()
    assert scene.asked == []


@pytest.mark.parametrize("state", ["failed", "up_for_retry", "queued", None])
def test_a_recovery_whose_task_is_gone_is_replaced(scene: Scene, state: str | None) -> None:
    first_attempt(scene)
    Attempt(scene.store, began(10, scope=ONLY, task_id="sales_run")).write(planned(SALES))
    scene.states |= {"orders.run": "running", "sales_run": state}
    scene.resume()
    assert scene.asked[0][1] == 2


def test_a_producer_that_runs_again_is_waited_for(scene: Scene) -> None:
    first_attempt(scene)
    scene.states |= {"dbt_producer_watcher": "running", "orders.run": "running"}
    with pytest.raises(TaskDeferred):
        scene.resume()
    assert scene.asked == []


@pytest.mark.parametrize("error", [Overtaken("ledger", 2, 1), Fenced("ledger", 3, "attempt 3")])
def test_who_loses_the_race_goes_back_to_waiting(scene: Scene, error: Exception) -> None:
    def loses(_only: frozenset[str]) -> None:
        raise error

    first_attempt(scene)
    scene.states |= {"orders.run": "running"}
    scene.dbt = loses
    with pytest.raises(TaskDeferred):
        scene.resume()


def test_what_came_meanwhile_needs_no_dbt(scene: Scene) -> None:
    first_attempt(scene)
    scene.builds(frozenset({ORDERS}))
    scene.states |= {"orders.run": "running"}
    scene.resume()
    assert scene.asked == []


def test_a_storage_that_is_away_fails_the_try_and_says_so(scene: Scene) -> None:
    def away(_only: frozenset[str]) -> None:
        raise Transient("create", "x", "timed out")

    first_attempt(scene)
    scene.states |= {"orders.run": "running"}
    scene.dbt = away
    with pytest.raises(AirflowException, match="timed out"):
        scene.resume()


def test_a_producer_that_cannot_do_it_is_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(DbtProducerWatcherOperator, "recover")
    first_attempt(scene)
    scene.states |= {"orders.run": "running"}
    with pytest.raises(AirflowException, match="clear it together with this task"):
        scene.resume()


def test_what_is_skipped_by_choice_is_not_built(scene: Scene) -> None:
    """Its task is only late."""
    attempt = Attempt(scene.store, began(0, clear_number=0))
    attempt.write(planned(RAW, ORDERS, SALES), done(RAW), done(ORDERS, Outcome.FAILED), done(SALES, Outcome.SKIPPED, by_choice="stale"))
    attempt.end()
    scene.states |= {"raw_seed": "success", "orders.run": "running", "sales_run": "deferred"}
    scene.resume()
    ((asked, _),) = scene.asked
    assert asked >= {ORDERS}
    assert SALES not in asked
