"""Arguments of single tasks: the producer's own, and those in the meta of nodes; which wins, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models.pool import Pool

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProjectConfig, bash_producer
from tests.operators.conftest import LEDGER
from tests.projects import node, write_project

MakeDag = Callable[..., DbtDag]
PRODUCER = "dbt_producer_watcher"
ORDERS = "model.shop.orders"


@pytest.fixture
def dag_of(make_dag: MakeDag, tmp_path: Path) -> Callable[..., DbtDag]:
    """A DAG of a model with these arguments in its meta, with a test of its own; beside it another model, and an ephemeral one."""

    def make(operator_kwargs: dict[str, Any], **more: Any) -> DbtDag:
        meta = {"cosmos": {"operator_kwargs": operator_kwargs}}
        folder = write_project(
            tmp_path / "told",
            node(ORDERS, meta=meta, original_file_path="models/orders.sql"),
            node("model.shop.vapour", materialized="ephemeral", meta=meta),
            node("model.shop.other"),
            node("test.shop.unique_orders.a", ORDERS),
            node("test.shop.add_up", ORDERS, "model.shop.other", meta={"cosmos": {"operator_kwargs": {"queue": "tests"}}}),
        )
        return make_dag(project_config=ProjectConfig(dbt_project_path=folder), **more)

    return make


def test_a_node_has_arguments_of_its_own(dag_of: Callable[..., DbtDag]) -> None:
    dag = dag_of({"queue": "big", "pool": "warehouse", "pool_slots": 2, "retries": 3, "owner": "sales", "trigger_rule": "all_done"})
    run, test = dag.get_task("orders.run"), dag.get_task("orders.test")
    assert (run.queue, run.pool, run.pool_slots, run.retries, run.owner, run.trigger_rule) == (
        "big",
        "warehouse",
        2,
        3,
        "sales",
        "all_done",
    )
    assert (test.queue, test.pool, test.retries, test.trigger_rule) == ("big", "warehouse", 3, "all_success")
    assert dag.get_task("vapour_run").queue == "big"
    assert dag.get_task("add_up_test").queue == "tests"
    for other in ("other_run", PRODUCER, "dbt_assets"):
        assert (dag.get_task(other).queue, dag.get_task(other).retries) == ("default", 0)


def test_durations_are_seconds(dag_of: Callable[..., DbtDag]) -> None:
    run = dag_of({"retry_delay": 30, "execution_timeout": 90, "timeout": 600, "poke_interval": 0.5}).get_task("orders.run")
    assert (run.retry_delay, run.recovery_timeout, run.timeout) == (timedelta(seconds=30), timedelta(seconds=90), 600)
    assert run.start_trigger_args.trigger_kwargs["poll"] == 0.5


def test_one_node_may_wait_on_a_worker(dag_of: Callable[..., DbtDag]) -> None:
    dag = dag_of({"deferrable": False, "mode": "reschedule"})
    assert {task_id: dag.get_task(task_id).start_from_trigger for task_id in ("orders.run", "orders.test", "other_run")} == {
        "orders.run": False,
        "orders.test": False,
        "other_run": True,
    }


@pytest.mark.filterwarnings("ignore:The producer .* pool")
def test_the_nearer_word_counts(dag_of: Callable[..., DbtDag]) -> None:
    """default_args of the DAG, then operator_args, then the producer's or the node's own."""
    dag = dag_of(
        {"queue": "node"},
        default_args={"queue": "default_args", "pool": "default_args", "owner": "default_args"},
        operator_args={"queue": "operator_args", "pool": "operator_args"},
        execution_config=ExecutionConfig(ledger_uri=LEDGER, setup_operator_args={"queue": "setup", "retries": 4}),
    )
    found = {task.task_id: (task.queue, task.pool, task.owner, task.retries) for task in dag.tasks}
    assert found.pop("orders.run") == found.pop("orders.test") == found.pop("vapour_run") == ("node", "operator_args", "default_args", 0)
    assert found.pop(PRODUCER) == ("setup", "operator_args", "default_args", 4)
    assert found.pop("add_up_test") == ("tests", "operator_args", "default_args", 0)
    assert set(found.values()) == {("operator_args", "operator_args", "default_args", 0)}


def test_the_producer_may_have_its_priority_and_flags(make_dag: MakeDag) -> None:
    told = {"priority_weight": 7, "full_refresh": True, "callback": print}
    producer = make_dag(
        operator_args={"full_refresh": False, "priority_weight": 3},
        execution_config=ExecutionConfig(ledger_uri=LEDGER, setup_operator_args=told),
    ).get_task(PRODUCER)
    assert producer.priority_weight == 7
    assert "--full-refresh" in producer.command()


def test_a_producer_elsewhere_has_them_too(make_dag: MakeDag) -> None:
    execution = ExecutionConfig(ledger_uri=LEDGER, producer=bash_producer(), setup_operator_args={"pool": "setup"})
    dag = make_dag(execution_config=execution)
    assert {task.task_id for task in dag.tasks if task.pool == "setup"} == {PRODUCER}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"operator_args": {"pool": "warehouse"}}, r"'warehouse', and raw_seed and 5 more, .* with include_deferred.*setup_operator_args"),
        ({"default_args": {"pool": "warehouse"}}, "with include_deferred"),
        ({"operator_args": {"pool": "warehouse", "deferrable": False}}, "they hold its slots while they wait"),
    ],
)
def test_a_pool_that_the_waiting_tasks_may_fill_before_the_producer_starts_is_warned_of(
    make_dag: MakeDag, more: dict[str, Any], said: str
) -> None:
    with pytest.warns(UserWarning, match=said) as caught:
        make_dag(**more)
    assert [Path(one.filename).name for one in caught] == ["conftest.py"], "the file of the DAG"


def test_one_node_in_the_pool_of_the_producer_is_warned_of(dag_of: Callable[..., DbtDag]) -> None:
    execution = ExecutionConfig(ledger_uri=LEDGER, setup_operator_args={"pool": "warehouse"})
    with pytest.warns(UserWarning, match="orders.run and 1 more, which wait"):
        dag_of({"pool": "warehouse"}, execution_config=execution)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"operator_args": {"pool": Pool.DEFAULT_POOL_NAME}},
        {
            "operator_args": {"pool": "warehouse"},
            "execution_config": ExecutionConfig(ledger_uri=LEDGER, setup_operator_args={"pool": "producers"}),
        },
        {"operator_args": {"pool": "warehouse", "deferrable": False, "mode": "reschedule"}},  # such tasks give their slot back
    ],
)
def test_no_other_pool_is_warned_of(make_dag: MakeDag, more: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make_dag(**more)


def test_a_task_that_may_run_dbt_is_where_the_producer_is(dag_of: Callable[..., DbtDag]) -> None:
    """A recovery is in the task of a node, and dbt may be nowhere else; ``dbt_assets`` runs none. A node's own word counts more."""
    place = {"queue": "dbt", "executor": "CeleryExecutor", "executor_config": {"image": "dbt"}}
    dag = dag_of(
        {"queue": "node"},
        default_args={"queue": "default_args"},
        execution_config=ExecutionConfig(ledger_uri=LEDGER, setup_operator_args={**place, "pool": "warehouse"}),
    )
    found = {task.task_id: (task.queue, task.executor, task.executor_config, task.pool) for task in dag.tasks}
    assert found[PRODUCER] == ("dbt", "CeleryExecutor", {"image": "dbt"}, "warehouse")
    assert found["other_run"] == ("dbt", "CeleryExecutor", {"image": "dbt"}, "default_pool")
    assert found["orders.run"] == ("node", "CeleryExecutor", {"image": "dbt"}, "default_pool")
    assert found["dbt_assets"] == ("default_args", None, {}, "default_pool")


def test_a_producer_says_its_place_itself(make_dag: MakeDag) -> None:
    execution = ExecutionConfig(ledger_uri=LEDGER, producer=bash_producer(queue="far"))
    assert make_dag(execution_config=execution).get_task("sales_run").queue == "far"


@pytest.mark.parametrize("name", ["deferrable", "poke_interval", "on_warning_callback"])
def test_the_producer_does_not_wait(make_dag: MakeDag, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"setup_operator_args.*{name}.*use operator_args"):
        make_dag(execution_config=ExecutionConfig(ledger_uri=LEDGER, setup_operator_args={name: 1}))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"full_refresh": True}, "no argument of a single task"),
        ({"task_id": "x"}, "no argument of a single task"),
        ({"on_failure_callback": "x"}, "no argument of a single task"),
        ({"retries": "3"}, "write a whole number, 0 or more"),
        ({"retries": True}, "write a whole number"),
        ({"pool_slots": 0}, "1 or more"),
        ({"priority_weight": 1.5}, "a whole number"),
        ({"retry_delay": "5m"}, "a number of seconds"),
        ({"execution_timeout": 0}, "a number of seconds"),
        ({"trigger_rule": "sometimes"}, "one of all_done"),
        ({"queue": 3}, "write a text"),
        ({"deferrable": "no"}, "true or false"),
        ({"retry_exponential_backoff": -1}, "a factor"),
    ],
)
def test_what_is_no_argument_is_refused_by_node_and_file(dag_of: Callable[..., DbtDag], wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        dag_of(wrong)
    assert all(word in str(error.value) for word in (*wrong, ORDERS, "models/orders.sql"))
