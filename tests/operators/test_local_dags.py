"""``ExecutionMode.LOCAL`` and ``VIRTUALENV``: the graph that WATCHER draws, each task with a dbt of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import (
    DbtDag,
    DbtTaskGroup,
    ExecutionConfig,
    ExecutionMode,
    ProjectConfig,
    SourceRenderingBehavior,
    TestBehavior,
)
from ledger_watcher_airflow.assets import ASSETS_TASK_ID
from ledger_watcher_airflow.config import RenderConfig
from tests.projects import DBT_VERSIONS, node, real_manifest, write_project

MakeDag = Callable[..., DbtDag]
PRODUCER = "dbt_producer_watcher"
LOCAL = ExecutionConfig(execution_mode=ExecutionMode.LOCAL)
VIRTUALENV = ExecutionConfig(execution_mode=ExecutionMode.VIRTUALENV)
RAW, ORDERS, SALES, HISTORY = "seed.shop.raw", "model.shop.orders", "model.shop.sales", "snapshot.shop.history"
NOT_NULL, UNIQUE, ADD_UP = "test.shop.not_null_orders.bbbbbbbbbb", "test.shop.unique_orders.aaaaaaaaaa", "test.shop.add_up"
ROUNDS = "unit_test.shop.sales.rounds"


def shown(dag: DbtDag) -> dict[str, tuple[str, set[str]]]:
    """Of each task with a dbt its class and its nodes."""
    return {task.task_id: (type(task).__name__, set(task.nodes)) for task in dag.tasks if hasattr(task, "call")}


def edges(dag: DbtDag) -> dict[str, set[str]]:
    """Of the tasks of the nodes."""
    return {task.task_id: set(task.upstream_task_ids) for task in dag.tasks if task.task_id not in (PRODUCER, ASSETS_TASK_ID)}


def test_a_task_with_a_dbt_of_its_own_tells_of_its_asset(make_dag: MakeDag, tmp_path: Path) -> None:
    """So does none of those that only test, and none at all if nothing is to be told."""
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(real_manifest("1.11"))
    given = {"project_config": ProjectConfig("/opt/dbt/kitchen", manifest_path=manifest), "execution_config": LOCAL}
    dag = make_dag(**given)
    found = {task.task_id: [outlet.uri for outlet in task.outlets] for task in dag.tasks if task.outlets}
    assert {uris[0].rpartition("/")[2] for uris in found.values()} >= {"ok_view"}
    building = ("_run", ".run", "_seed", ".seed", "_snapshot", ".snapshot")
    assert found.keys() == {task.task_id for task in dag.tasks if task.task_id.endswith(building) and hasattr(task, "call")}
    silent = make_dag(**given, render_config=RenderConfig(emit_datasets=False))
    assert not [task.task_id for task in silent.tasks if task.outlets]


@pytest.mark.parametrize("behavior", list(TestBehavior))
def test_the_graph_is_that_of_the_watcher(make_dag: MakeDag, behavior: TestBehavior) -> None:
    render = RenderConfig(test_behavior=behavior)
    watched, local = make_dag(render_config=render), make_dag(render_config=render, execution_config=LOCAL)
    assert edges(local) == edges(watched)
    assert PRODUCER not in local.task_ids
    assert {key: type(found).__name__ for key, found in local.tasks_map.items()}.keys() == watched.tasks_map.keys()
    assert "sales" in "".join(local.task_ids)


@pytest.mark.parametrize("version", DBT_VERSIONS)
@pytest.mark.parametrize("behavior", list(TestBehavior))
def test_every_node_of_the_watcher_has_its_task(make_dag: MakeDag, tmp_path: Path, version: str, behavior: TestBehavior) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(real_manifest(version))
    given = {
        "project_config": ProjectConfig("/opt/dbt/kitchen", manifest_path=manifest),
        "render_config": RenderConfig(test_behavior=behavior),
    }
    watched, local = make_dag(**given), make_dag(**given, execution_config=LOCAL)
    assert edges(local) == edges(watched)
    mirrored = {task.task_id: set(task.trigger_arguments["nodes"]) for task in watched.tasks if hasattr(task, "trigger_arguments")}
    built = {task_id: {one for one in nodes if not one.startswith("function.")} for task_id, (_, nodes) in shown(local).items()}
    assert built == mirrored


def test_each_task_runs_the_command_of_its_nodes(make_dag: MakeDag) -> None:
    """A unit test stands before its model, as dbt build has it; a test of two models is a task of its own."""
    assert shown(make_dag(execution_config=LOCAL)) == {
        "raw_seed": ("DbtSeedLocalOperator", {RAW}),
        "orders.run": ("DbtRunLocalOperator", {ORDERS}),
        "orders.test": ("DbtTestLocalOperator", {NOT_NULL, UNIQUE}),
        "sales_run": ("DbtBuildLocalOperator", {SALES, ROUNDS}),
        "history_snapshot": ("DbtSnapshotLocalOperator", {HISTORY}),
        "add_up_test": ("DbtTestLocalOperator", {ADD_UP}),
    }


def test_with_build_a_node_and_its_tests_are_one_dbt_build(make_dag: MakeDag) -> None:
    dag = make_dag(execution_config=LOCAL, render_config=RenderConfig(test_behavior=TestBehavior.BUILD))
    assert shown(dag) == {
        "raw_seed": ("DbtBuildLocalOperator", {RAW}),
        "orders_run": ("DbtBuildLocalOperator", {ORDERS, NOT_NULL, UNIQUE}),
        "sales_run": ("DbtBuildLocalOperator", {SALES, ROUNDS}),
        "history_snapshot": ("DbtBuildLocalOperator", {HISTORY}),
        "add_up_test": ("DbtTestLocalOperator", {ADD_UP}),
    }


def test_without_tests_there_are_none(make_dag: MakeDag) -> None:
    dag = make_dag(execution_config=LOCAL, render_config=RenderConfig(test_behavior=TestBehavior.NONE))
    assert shown(dag)["sales_run"] == ("DbtRunLocalOperator", {SALES})
    assert not [task_id for task_id in dag.task_ids if task_id.endswith("test")]


def test_a_function_is_made_together_with_what_needs_it(make_dag: MakeDag, tmp_path: Path) -> None:
    """It has no task of its own."""
    project = write_project(
        tmp_path / "functions",
        node("function.shop.inner"),
        node("function.shop.outer", "function.shop.inner"),
        node(ORDERS, "function.shop.outer"),
        node(SALES, ORDERS),
    )
    dag = make_dag(execution_config=LOCAL, project_config=ProjectConfig(project))
    assert shown(dag) == {
        "orders_run": ("DbtBuildLocalOperator", {ORDERS, "function.shop.outer", "function.shop.inner"}),
        "sales_run": ("DbtRunLocalOperator", {SALES}),
    }


@pytest.mark.parametrize("behavior", list(TestBehavior))
def test_a_source_is_checked_by_a_task_and_what_is_below_runs_if_one_of_its_parents_did(
    make_dag: MakeDag, tmp_path: Path, behavior: TestBehavior
) -> None:
    limits = {"error_after": {"count": 1, "period": "day"}}
    checked = [node(name, freshness=limits) for name in ("source.shop.web.a", "source.shop.web.b")]
    project = write_project(
        tmp_path / "sourced",
        *checked,
        node("source.shop.web.plain"),
        node(ORDERS, "source.shop.web.a", "source.shop.web.b"),
        node(SALES, ORDERS),
        node("model.shop.apart", RAW),
        node(RAW),
    )
    render = RenderConfig(source_rendering_behavior=SourceRenderingBehavior.ALL, test_behavior=behavior)
    dag = make_dag(
        execution_config=LOCAL, project_config=ProjectConfig(project), render_config=render, operator_args={"full_refresh": True}
    )
    found = {name: one for name, one in shown(dag).items() if name.endswith("_source")}
    assert found == {f"web_{name}_source": ("DbtSourceLocalOperator", {f"source.shop.web.{name}"}) for name in "ab"}
    assert {task.task_id: task.trigger_rule for task in dag.tasks if task.trigger_rule != "all_success"} == dict.fromkeys(
        ("orders_run", "sales_run"), "none_failed_min_one_success"
    )
    assert not [task.task_id for task in dag.tasks if task.task_id in found and task.outlets]
    assert edges(dag) == edges(make_dag(project_config=ProjectConfig(project), render_config=render))


def test_a_flag_goes_to_the_commands_that_have_it(make_dag: MakeDag) -> None:
    args = {"full_refresh": True, "threads": 2, "vars": {"a": 1}, "install_deps": True, "retries": 4}
    dag = make_dag(execution_config=LOCAL, operator_args=args)
    tasks = {task.task_id: task for task in dag.tasks}
    assert {name: tasks[name].call.flags.full_refresh for name in ("raw_seed", "orders.run", "orders.test", "history_snapshot")} == {
        "raw_seed": True,
        "orders.run": True,
        "orders.test": False,
        "history_snapshot": False,
    }
    assert {task.retries for task in dag.tasks} == {4}
    assert all(task.call.flags.threads == 2 and task.call.flags.install_deps for task in dag.tasks if hasattr(task, "call"))


def test_the_dbt_is_that_of_the_configuration(make_dag: MakeDag) -> None:
    dag = make_dag(execution_config=ExecutionConfig(execution_mode="local", dbt_executable_path="/opt/venv/bin/dbt"))  # type: ignore[arg-type]
    task = dag.get_task("orders.run")
    assert task.executable() == "/opt/venv/bin/dbt"
    assert not task.execution_config.runs_in_process()


def test_virtual_environments_are_those_of_the_arguments(make_dag: MakeDag, tmp_path: Path) -> None:
    execution = ExecutionConfig(execution_mode=ExecutionMode.VIRTUALENV, virtualenv_dir=tmp_path)
    args = {"py_requirements": ["dbt-duckdb"], "pip_install_options": ["--no-index"], "retries": 1}
    dag = make_dag(execution_config=execution, operator_args=args)
    assert {kind for kind, _ in shown(dag).values()} == {
        f"Dbt{stem}VirtualenvOperator" for stem in ("Seed", "Run", "Test", "Build", "Snapshot")
    }
    task = dag.get_task("orders.run")
    assert not task.execution_config.runs_in_process()
    assert (task.spec.requirements, task.spec.install_options, task.execution_config.virtualenv_dir) == (
        ("dbt-duckdb",),
        ("--no-index",),
        tmp_path,
    )


def test_groups_of_both_kinds_stand_in_one_dag(configs: dict[str, Any]) -> None:
    from airflow.sdk import DAG

    with DAG("both", schedule=None) as dag:
        watched = DbtTaskGroup("watched", **configs)
        local = DbtTaskGroup("local", **{**configs, "execution_config": LOCAL})
        watched >> local
    assert {"watched.orders.run", f"watched.{PRODUCER}", "local.orders.run"} <= set(dag.task_ids)
    assert f"local.{PRODUCER}" not in dag.task_ids


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ExecutionConfig(execution_mode=ExecutionMode.LOCAL, ledger_uri="s3://b/l"), "each task runs dbt itself"),
        (lambda: ExecutionConfig(execution_mode=ExecutionMode.LOCAL, ledger_conn_id="aws"), "each task runs dbt itself"),
        (lambda: ExecutionConfig(execution_mode=ExecutionMode.VIRTUALENV, producer=print), "ExecutionMode.VIRTUALENV each task"),
        (lambda: ExecutionConfig(execution_mode=ExecutionMode.LOCAL, producer_retry_on="node_errors"), "each task runs dbt itself"),  # type: ignore[arg-type]
        (lambda: ExecutionConfig(execution_mode=ExecutionMode.LOCAL, poll_interval=5), "each task runs dbt itself"),
        (lambda: ExecutionConfig(execution_mode=ExecutionMode.LOCAL, virtualenv_dir="/opt"), "VIRTUALENV"),
        (lambda: ExecutionConfig(execution_mode=ExecutionMode.VIRTUALENV, dbt_executable_path="dbt"), "leave dbt_executable_path"),
    ],
)
def test_what_is_said_of_a_ledger_is_refused(make: Callable[[], ExecutionConfig], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize(
    ("execution", "operator_args", "says"),
    [
        (LOCAL, {"select": "orders"}, "exactly its own nodes"),
        (LOCAL, {"indirect_selection": "eager"}, "exactly its own nodes"),
        (LOCAL, {"deferrable": False}, "wait for a producer"),
        (LOCAL, {"poke_interval": 5}, "wait for a producer"),
        (LOCAL, {"full_refresh": "yes"}, "neither True nor False"),
        (LOCAL, {"callback": "upload"}, "cannot be called"),
        (LOCAL, {"py_requirements": ["dbt-duckdb"]}, "ExecutionMode.VIRTUALENV"),
        (VIRTUALENV, {}, "py_requirements is empty"),
    ],
)
def test_what_has_no_meaning_is_refused(make_dag: MakeDag, execution: ExecutionConfig, operator_args: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_dag(execution_config=execution, operator_args=operator_args)


def test_it_is_stored_small_and_without_what_is_said_to_dbt(make_dag: MakeDag) -> None:
    args = {"vars": {"token": "s3cret-one"}, "env": {"PASSWORD": "s3cret-two"}}
    stored = json.dumps(DagSerialization.to_dict(make_dag(execution_config=LOCAL, operator_args=args)), separators=(",", ":"))
    watched = json.dumps(DagSerialization.to_dict(make_dag(operator_args=args)), separators=(",", ":"))
    assert "s3cret" not in stored
    assert len(stored) < len(watched)
