"""What a DAG file gets: tasks, edges, arguments, and what of them is stored."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models.serialized_dag import SerializedDagModel
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup
from airflow.serialization.serialized_objects import BaseSerialization, DagSerialization

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import (
    DbtAssetsOperator,
    DbtConsumerWatcherSensor,
    DbtDag,
    DbtProducerWatcherOperator,
    DbtRunWatcherOperator,
    DbtSeedWatcherOperator,
    DbtSnapshotWatcherOperator,
    DbtTaskGroup,
    DbtTestWatcherOperator,
    ExecutionConfig,
    ProjectConfig,
    RenderConfig,
    TestBehavior,
)
from ledger_watcher_airflow.trigger import NodeTrigger
from tests.operators.conftest import LEDGER
from tests.projects import DBT_VERSIONS, fhir_nodes, node, real_manifest, write_project

MakeDag = Callable[..., DbtDag]
PRODUCER = "dbt_producer_watcher"


def edges(dag: DAG) -> set[tuple[str, str]]:
    return {(task.task_id, child) for task in dag.tasks for child in task.downstream_task_ids}


def stored(dag: DAG) -> dict[str, Any]:
    """The DAG as it lies in the database."""
    data: dict[str, Any] = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    return data


def started_with(dag: Any, task_id: str) -> dict[str, Any]:  # noqa: ANN401 - Airflow's own class of a DAG that comes from storage
    """The trigger's arguments as the triggerer decodes them."""
    arguments: dict[str, Any] = BaseSerialization.deserialize(dag.get_task(task_id).start_trigger_args.trigger_kwargs)
    return arguments


def consumers(dag: DAG) -> list[DbtConsumerWatcherSensor]:
    return [task for task in dag.tasks if isinstance(task, DbtConsumerWatcherSensor)]


# Tasks and edges -----------------------------------------------------------------------------------------------------


def test_ids_are_those_that_users_of_cosmos_know(make_dag: MakeDag) -> None:
    dag = make_dag()
    assert {task.task_id: type(task) for task in dag.tasks} == {
        PRODUCER: DbtProducerWatcherOperator,
        "raw_seed": DbtSeedWatcherOperator,
        "orders.run": DbtRunWatcherOperator,
        "orders.test": DbtTestWatcherOperator,
        "eph_run": EmptyOperator,
        "sales_run": DbtRunWatcherOperator,
        "history_snapshot": DbtSnapshotWatcherOperator,
        "add_up_test": DbtTestWatcherOperator,
        "dbt_assets": DbtAssetsOperator,
    }


def test_edges_are_those_of_the_project(make_dag: MakeDag) -> None:
    assert edges(make_dag()) == {
        ("raw_seed", "orders.run"),
        ("orders.run", "orders.test"),
        ("orders.test", "eph_run"),
        ("eph_run", "sales_run"),
        ("orders.test", "history_snapshot"),
        ("orders.run", "add_up_test"),
        ("sales_run", "add_up_test"),
        *((last, "dbt_assets") for last in (PRODUCER, "history_snapshot", "sales_run", "add_up_test")),
    }


@pytest.mark.parametrize(
    ("behavior", "ids", "watched"),
    [
        (TestBehavior.BUILD, {"orders_run", "add_up_test"}, ["model.shop.orders", "test.shop.not_null_orders.bbbbbbbbbb"]),
        (TestBehavior.AFTER_ALL, {"orders_run", "shop_test"}, ["model.shop.orders"]),
        (TestBehavior.NONE, {"orders_run"}, ["model.shop.orders"]),
    ],
)
def test_each_test_behavior_draws_its_tasks(make_dag: MakeDag, behavior: TestBehavior, ids: set[str], watched: list[str]) -> None:
    dag = make_dag(render_config=RenderConfig(test_behavior=behavior))
    assert {task for task in dag.task_ids if "orders" in task or "test" in task} == ids
    assert dag.get_task("orders_run").start_trigger_args.trigger_kwargs["nodes"][:2] == watched[:2]


def test_a_test_of_several_nodes_may_count_for_each_of_them(make_dag: MakeDag) -> None:
    dag = make_dag(render_config=RenderConfig(should_detach_multiple_parents_tests=False))
    shown = [dag.get_task(f"{name}.shared_test") for name in ("orders", "sales")]
    assert [task.start_trigger_args.trigger_kwargs["nodes"] for task in shown] == [["test.shop.add_up"]] * 2
    assert all(task.upstream_task_ids == {"orders.run", "sales.run"} for task in shown)
    assert all(task.downstream_task_ids == {"dbt_assets"} for task in shown)
    assert "add_up_test" not in dag.task_ids
    assert set(dag.tasks_map) == set(make_dag().tasks_map)


def test_a_priority_for_all_tasks_does_not_put_the_producer_behind_others(make_dag: MakeDag) -> None:
    dag = make_dag(operator_args={"priority_weight": 7})
    assert dag.get_task(PRODUCER).priority_weight == 10_000
    assert {task.priority_weight for task in dag.tasks if task.task_id != PRODUCER} == {7}


def test_the_producer_is_a_root_of_its_own_that_goes_first(make_dag: MakeDag) -> None:
    producer = make_dag().get_task(PRODUCER)
    assert (producer.upstream_task_ids, producer.downstream_task_ids) == (set(), {"dbt_assets"})
    assert producer.priority_weight == 10_000
    (written,) = [task["__var"] for task in stored(make_dag())["dag"]["tasks"] if task["__var"]["task_id"] == PRODUCER]
    assert (written["priority_weight"], written["weight_rule"]) == (10_000, "absolute")


def test_the_plan_is_every_node_that_has_a_task(make_dag: MakeDag) -> None:
    dag = make_dag()
    watched = {uid for task in consumers(dag) for uid in task.start_trigger_args.trigger_kwargs["nodes"]}
    assert set(dag.get_task(PRODUCER).nodes) == watched
    assert "model.shop.eph" not in watched
    assert "unit_test.shop.sales.rounds" in watched


def test_tasks_are_found_by_the_unique_id_of_their_node(make_dag: MakeDag) -> None:
    found = make_dag().tasks_map
    assert isinstance(found["model.shop.orders"], TaskGroup)
    assert found["model.shop.sales"].task_id == "sales_run"
    assert set(found) == {"seed.shop.raw", "model.shop.orders", "model.shop.eph", "model.shop.sales", "snapshot.shop.history"}


@pytest.mark.parametrize("version", DBT_VERSIONS)
@pytest.mark.parametrize("behavior", list(TestBehavior))
def test_projects_of_every_dbt_version_are_drawn(make_dag: MakeDag, tmp_path: Path, version: str, behavior: TestBehavior) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(real_manifest(version))
    config = ProjectConfig(dbt_project_path="/elsewhere", manifest_path=path)
    dag = make_dag(project_config=config, render_config=RenderConfig(test_behavior=behavior))
    dag.validate()
    assert len(dag.tasks) >= 25


def test_names_that_are_no_ids_are_drawn(make_dag: MakeDag, tmp_path: Path) -> None:
    long = "m" * 300
    folder = write_project(
        tmp_path / "odd",
        node("model.p.a b"),
        node("model.p.dbt_producer_watcher"),
        node("test.p.t.1", "model.p.dbt_producer_watcher"),
        node(f"model.p.{long}"),
        node("test.p.u.2", f"model.p.{long}"),
    )
    dag = make_dag(project_config=ProjectConfig(dbt_project_path=folder))
    assert "a_b_run" in dag.task_ids
    assert len(dag.task_ids) == 7


def test_the_dag_takes_what_a_dag_takes(make_dag: MakeDag) -> None:
    dag = make_dag(schedule="@daily", tags=["dbt"], max_active_runs=1, description="all of it")
    assert (dag.dag_id, dag.tags, dag.max_active_runs, dag.description) == ("shop", {"dbt"}, 1, "all of it")
    with pytest.raises(TypeError, match="no_such"):
        make_dag(no_such=1)


def test_a_dbt_dag_may_have_tasks_beside(make_dag: MakeDag) -> None:
    with make_dag() as dag:
        EmptyOperator(task_id="after") << dag.tasks_map["model.shop.orders"]
    assert ("orders.test", "after") in edges(dag)


# Groups --------------------------------------------------------------------------------------------------------------


def test_a_group_stands_between_two_tasks(configs: dict[str, Any]) -> None:
    with DAG("bigger", schedule=None) as dag:
        group = DbtTaskGroup("dbt", **configs)
        EmptyOperator(task_id="pre") >> group >> EmptyOperator(task_id="post")
    assert dag.get_task("pre").downstream_task_ids == {f"dbt.{PRODUCER}", "dbt.raw_seed"}
    assert dag.get_task("post").upstream_task_ids == {f"dbt.{PRODUCER}", "dbt.add_up_test", "dbt.history_snapshot"}
    assert not any(PRODUCER in parent and child not in ("post", "dbt.dbt_assets") for parent, child in edges(dag))
    assert group.tasks_map["model.shop.sales"].task_id == "dbt.sales_run"


def test_the_group_has_the_name_that_users_of_cosmos_know(configs: dict[str, Any]) -> None:
    with DAG("bigger", schedule=None):
        assert DbtTaskGroup(**configs).group_id == "dbt_task_group"


def test_groups_have_ledgers_of_their_own(configs: dict[str, Any]) -> None:
    with DAG("bigger", schedule=None) as dag:
        DbtTaskGroup("one", **configs)
        with TaskGroup("outer"):
            DbtTaskGroup("one", **configs)
    for group in ("one", "outer.one"):
        producer = dag.get_task(f"{group}.{PRODUCER}")
        arguments = dag.get_task(f"{group}.orders.run").start_trigger_args.trigger_kwargs
        assert producer.ledger_group == arguments["group"] == group
        assert "producer" not in arguments, "which the group tells"
        assert NodeTrigger(**arguments).producer == producer.task_id


def test_a_group_without_prefix_still_finds_its_producer(configs: dict[str, Any]) -> None:
    with DAG("bigger", schedule=None) as dag:
        DbtTaskGroup("dbt", prefix_group_id=False, **configs)
    arguments = dag.get_task("orders.run").start_trigger_args.trigger_kwargs
    assert (arguments["producer"], arguments["group"]) == (PRODUCER, "dbt")
    assert dag.get_task(PRODUCER).ledger_group == "dbt"


def test_default_args_of_a_group_reach_its_tasks(configs: dict[str, Any]) -> None:
    with DAG("bigger", schedule=None, default_args={"owner": "dag", "retries": 1}) as dag:
        DbtTaskGroup("dbt", default_args={"owner": "group"}, **configs)
    owners = {(task.owner, task.retries) for task in dag.tasks}
    assert owners == {("group", 1)}


def test_ids_stay_short_enough_within_groups(configs: dict[str, Any], tmp_path: Path) -> None:
    name = "m" * 190
    folder = write_project(tmp_path / "long", node(f"model.p.{name}"), node("test.p.t.1", f"model.p.{name}"))
    with DAG("bigger", schedule=None) as dag, TaskGroup("g" * 100):
        DbtTaskGroup("dbt", **{**configs, "project_config": ProjectConfig(dbt_project_path=folder)})
    assert max(map(len, dag.task_ids)) <= 250
    with DAG("bigger", schedule=None), TaskGroup("g" * 150), TaskGroup("h" * 80), pytest.raises(ConfigError, match="task groups around"):
        DbtTaskGroup("dbt", **{**configs, "project_config": ProjectConfig(dbt_project_path=folder)})


# Arguments -----------------------------------------------------------------------------------------------------------


def shout(context: object) -> None:
    """A callback."""


def test_default_args_reach_all_tasks(make_dag: MakeDag) -> None:
    dag = make_dag(
        default_args={
            "owner": "data",
            "retries": 3,
            "retry_delay": timedelta(seconds=10),
            "execution_timeout": timedelta(hours=1),
            "on_failure_callback": shout,
        }
    )
    assert {(task.owner, task.retries, task.retry_delay) for task in dag.tasks} == {("data", 3, timedelta(seconds=10))}
    assert all(list(task.on_failure_callback) == [shout] for task in dag.tasks)


def test_the_time_of_waiting_is_not_counted_as_execution(make_dag: MakeDag) -> None:
    """A consumer begins to wait when its parents are done; Airflow would count that. The producer's time is its own."""
    hour = timedelta(hours=1)
    for given in ({"default_args": {"execution_timeout": hour}}, {"operator_args": {"execution_timeout": hour}}):
        dag = make_dag(**given)
        assert dag.get_task(PRODUCER).execution_timeout == hour
        assert {task.execution_timeout for task in consumers(dag)} == {None}
        timed = [task["__var"]["task_id"] for task in stored(dag)["dag"]["tasks"] if "execution_timeout" in task["__var"]]
        assert not {task.task_id for task in consumers(dag)} & set(timed)


def test_dbt_flags_reach_the_command(make_dag: MakeDag, configs: dict[str, Any], project: Path) -> None:
    dag = make_dag(
        project_config=ProjectConfig(dbt_project_path=project, dbt_vars={"a": 1, "b": 2}, env_vars={"A": "1", "B": "2"}),
        operator_args={
            "full_refresh": True,
            "fail_fast": True,
            "vars": {"b": 3, "day": "2026-07-31"},
            "env": {"B": "3"},
            "dbt_cmd_flags": ["--threads", "8"],
            "dbt_cmd_global_flags": ["--no-partial-parse"],
        },
        execution_config=ExecutionConfig(ledger_uri=LEDGER, dbt_executable_path="/opt/dbt/bin/dbt"),
    )
    command = dag.get_task(PRODUCER).command()
    assert command[:5] == ("/opt/dbt/bin/dbt", "--no-partial-parse", "build", "--project-dir", str(project))
    assert json.loads(command[command.index("--vars") + 1]) == {"a": 1, "b": 3, "day": "2026-07-31"}
    assert {"--full-refresh", "--fail-fast"} < set(command)
    assert command[-2:] == ("--threads", "8")


def test_a_plain_dag_runs_a_plain_build(make_dag: MakeDag, project: Path) -> None:
    command = make_dag().get_task(PRODUCER).command()
    assert command[1:] == ("build", "--project-dir", str(project))
    assert Path(command[0]).name == "dbt"


def test_tests_that_are_not_shown_are_not_run(make_dag: MakeDag) -> None:
    command = make_dag(render_config=RenderConfig(test_behavior=TestBehavior.NONE)).get_task(PRODUCER).command()
    assert command[-4:] == ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")


def test_airflow_arguments_reach_all_tasks(make_dag: MakeDag) -> None:
    dag = make_dag(operator_args={"queue": "dbt", "retries": 5, "pool": "warehouse"})
    assert {(task.queue, task.retries, task.pool) for task in dag.tasks} == {("dbt", 5, "warehouse")}


@pytest.mark.parametrize("wrong", ["no_such_argument", "full_refesh", "task_id"])
def test_an_unknown_argument_is_an_error_that_names_it(make_dag: MakeDag, wrong: str) -> None:
    with pytest.raises(TypeError, match=wrong):
        make_dag(operator_args={wrong: "x"})


# What is stored ------------------------------------------------------------------------------------------------------


def test_the_stored_dag_is_the_same_every_time(make_dag: MakeDag) -> None:
    """Otherwise each parse would be a new version of the DAG. Across processes: test_parse_cost.py."""
    hashes = {SerializedDagModel.hash(DagSerialization.to_dict(make_dag(default_args={"retries": 1}))) for _ in range(20)}
    assert len(hashes) == 1


def test_what_starts_a_task_in_the_triggerer_comes_back_from_storage(make_dag: MakeDag) -> None:
    dag = make_dag()
    again = DagSerialization.from_dict(stored(dag))
    for task in consumers(dag):
        found = again.get_task(task.task_id)
        assert found.start_from_trigger is True
        assert found.start_trigger_args.trigger_cls == "ledger_watcher_airflow.NodeTrigger"
        assert found.start_trigger_args.next_method == "resume"
        assert started_with(again, task.task_id) == task.start_trigger_args.trigger_kwargs
        assert callable(getattr(task, found.start_trigger_args.next_method))
    assert edges(again) == edges(dag)


@pytest.mark.parametrize("execution", [{}, {"ledger_conn_id": "warehouse", "poll_interval": 3.0}])
def test_the_stored_arguments_make_a_trigger_that_can_move(configs: dict[str, Any], execution: dict[str, Any]) -> None:
    with DAG("bigger", schedule=None) as dag:
        DbtTaskGroup("dbt", **{**configs, "execution_config": ExecutionConfig(ledger_uri=LEDGER, **execution)})
    arguments = started_with(DagSerialization.from_dict(stored(dag)), "dbt.orders.test")
    trigger = NodeTrigger(**arguments)
    assert trigger.nodes == ["test.shop.not_null_orders.bbbbbbbbbb", "test.shop.unique_orders.aaaaaaaaaa"]
    assert (trigger.ledger, trigger.group, trigger.producer) == (LEDGER, "dbt", f"dbt.{PRODUCER}")
    assert (trigger.conn_id, trigger.poll) == (execution.get("ledger_conn_id"), execution.get("poll_interval", 1.0))
    path, moved = trigger.serialize()
    assert pkgutil.resolve_name(path) is NodeTrigger
    assert NodeTrigger(**json.loads(json.dumps(moved))).serialize() == trigger.serialize()


def test_nothing_secret_is_stored(make_dag: MakeDag, project: Path) -> None:
    """The serialized DAG is plain text that every user of the API can read."""
    dag = make_dag(
        project_config=ProjectConfig(dbt_project_path=project, env_vars={"PASSWORD": "hunter2"}, dbt_vars={"token": "hunter2"}),
        execution_config=ExecutionConfig(ledger_uri=LEDGER, ledger_conn_id="ledger_storage"),
        operator_args={"env": {"DBT_ENV_SECRET_KEY": "hunter2"}, "vars": {"other": "hunter2"}},
    )
    assert "hunter2" in json.dumps(dag.get_task(PRODUCER).command())
    assert "hunter2" not in json.dumps(stored(dag))


def test_a_stored_consumer_is_small(make_dag: MakeDag, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For each trigger the whole serialized DAG is loaded: bytes count squared (facts/airflow.md)."""
    folder = write_project(tmp_path / "fhir", *fhir_nodes(), project="fhir")
    tasks = stored(make_dag(project_config=ProjectConfig(dbt_project_path=folder)))["dag"]["tasks"]
    sizes = [len(json.dumps(task, separators=(",", ":"))) for task in tasks if "trigger_kwargs" in str(task)]
    with capsys.disabled():
        print(f"\nbytes per stored consumer: {sum(sizes) / len(sizes):.0f} on average, {max(sizes)} at most, {len(sizes)} consumers")  # noqa: T201
    assert sum(sizes) / len(sizes) < 900
