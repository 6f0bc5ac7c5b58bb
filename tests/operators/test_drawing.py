"""Where tasks stand, what they are called, what is said of them, and users' own converters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.models.serialized_dag import SerializedDagModel
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseOperator, TaskGroup
from airflow.serialization.serialized_objects import DagSerialization

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import (
    DbtDag,
    DbtNode,
    DbtResourceType,
    DbtRunLocalOperator,
    DbtRunWatcherOperator,
    DbtTaskGroup,
    ExecutionConfig,
    ExecutionMode,
    ProjectConfig,
    RenderConfig,
    SourceRenderingBehavior,
    TestBehavior,
    bash_producer,
)
from ledger_watcher_airflow.trigger import NodeTrigger
from tests.operators.conftest import LEDGER
from tests.operators.test_dag import PRODUCER, edges
from tests.projects import DBT_VERSIONS, node, real_manifest, write_project

MakeDag = Callable[..., DbtDag]


def project_of(folder: Path, *nodes: dict[str, Any], **more: Any) -> ProjectConfig:
    path = write_project(folder, *nodes)
    manifest = path / "target" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **more}))
    return ProjectConfig(path)


def lying(unique_id: str, path: str, *parents: str, **more: Any) -> dict[str, Any]:
    return node(unique_id, *parents, original_file_path=path, **more)


@pytest.fixture
def shop(tmp_path: Path) -> ProjectConfig:
    """Folders in folders, a package, a source, an exposure, owners, tags."""
    return project_of(
        tmp_path / "folders",
        lying("seed.shop.raw", "seeds/raw.csv"),
        lying("source.shop.ext.clicks", "models/staging/sources.yml", name="clicks"),
        lying("source.shop.ext.unused", "models/staging/sources.yml", name="unused"),
        lying("model.shop.orders", "models/staging/orders.sql", "seed.shop.raw", "source.shop.ext.clicks", meta={"owner": "@ana"}),
        lying("model.shop.sales", "models/marts/core/sales.sql", "model.shop.orders", "model.utils.days", tags=["daily", "core"]),
        lying("model.utils.days", "models/days.sql"),
        lying("test.shop.unique_orders.1", "models/staging/schema.yml", "model.shop.orders"),
        lying("test.shop.sums", "tests/sums.sql", "model.shop.orders", "model.shop.sales"),
        exposures={
            "exposure.shop.board": {
                **lying("exposure.shop.board", "models/marts/exposures.yml", "model.shop.orders", "metric.shop.total"),
                "owner": {"name": "me"},
            }
        },
        metrics={"metric.shop.total": {"unique_id": "metric.shop.total", "depends_on": {"nodes": ["model.shop.sales"]}}},
    )


# Folders ---------------------------------------------------------------------------------------------------------------


def test_task_groups_by_folder_stand_one_in_another(make_dag: MakeDag, shop: ProjectConfig) -> None:
    dag = make_dag(project_config=shop, render_config=RenderConfig(group_nodes_by_folder=True))
    assert {task for task in dag.task_ids if task not in (PRODUCER, "dbt_assets")} == {
        "seeds.raw_seed",
        "models.staging.orders.run",
        "models.staging.orders.test",
        "models.marts.core.sales_run",
        "utils.models.days_run",
        "tests.sums_test",
    }
    assert ("models.staging.orders.test", "models.marts.core.sales_run") in edges(dag)
    assert NodeTrigger(**dag.get_task("models.staging.orders.run").start_trigger_args.trigger_kwargs).producer == PRODUCER
    folder = dag.task_group.children["models"]
    assert isinstance(folder, TaskGroup)
    assert set(folder.children) == {"models.staging", "models.marts"}
    DagSerialization.to_dict(dag)
    list(dag.task_group.topological_sort())


def test_folders_stand_in_the_group_of_the_project(configs: dict[str, Any], shop: ProjectConfig) -> None:
    with DAG("bigger", schedule=None) as dag:
        DbtTaskGroup("dbt", **{**configs, "project_config": shop}, render_config=RenderConfig(group_nodes_by_folder=True))
    assert {"dbt.dbt_producer_watcher", "dbt.models.staging.orders.run", "dbt.utils.models.days_run"} <= set(dag.task_ids)


def test_a_folder_beside_a_node_of_its_name_is_no_trouble(make_dag: MakeDag, tmp_path: Path) -> None:
    project = project_of(
        tmp_path / "odd",
        lying("model.shop.staging", "models/staging.sql"),
        lying("test.shop.t.1", "models/schema.yml", "model.shop.staging"),
        lying("model.shop.orders", "models/staging/orders.sql"),
        lying("model.shop.core", "models/core/core.sql"),
        lying("model.shop.x", "models/x.sql"),
        lying("model.shop.y", "models/x_run/y.sql"),
    )
    dag = make_dag(project_config=project, render_config=RenderConfig(group_nodes_by_folder=True))
    assert {"models.staging.orders_run", "models.core.core_run", "models.x_run.y_run"} <= set(dag.task_ids)
    assert len(dag.task_ids) == len(set(dag.task_ids)) == 6 + 2


# Names -----------------------------------------------------------------------------------------------------------------


def test_users_name_tasks_outside_of_groups(make_dag: MakeDag) -> None:
    """As in Cosmos: the id that there would have been is what is shown, unless that has a function, too."""
    dag = make_dag(render_config=RenderConfig(normalize_task_id=lambda one: f"t_{one.resource_type.value}_{one.name}"))
    assert {"t_seed_raw", "orders.run", "orders.test", "t_model_sales"} <= set(dag.task_ids)
    assert dag.get_task("t_model_sales").task_display_name == "sales_run"
    assert dag.tasks_map["model.shop.sales"] is dag.get_task("t_model_sales")
    shown = make_dag(render_config=RenderConfig(normalize_task_display_name=lambda one: one.name.upper()))
    assert shown.get_task("sales_run").task_display_name == "SALES"
    both = make_dag(
        render_config=RenderConfig(normalize_task_id=lambda one: one.name, normalize_task_display_name=lambda one: f"{one.name} é")
    )
    assert both.get_task("sales").task_display_name == "sales é"


@pytest.mark.parametrize(("names", "match"), [(lambda _: "same", "both"), (lambda _: "a b", "'a b'"), (lambda _: 7, "made 7")])
def test_names_that_are_no_ids_are_refused(make_dag: MakeDag, names: Callable[[DbtNode], Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_dag(render_config=RenderConfig(normalize_task_id=names))


def test_a_function_gets_the_node_with_the_names_of_cosmos(make_dag: MakeDag, shop: ProjectConfig) -> None:
    seen: dict[str, DbtNode] = {}
    config = RenderConfig(
        normalize_task_display_name=lambda one: seen.setdefault(one.unique_id, one).name,
        source_rendering_behavior=SourceRenderingBehavior.ALL,
        test_behavior=TestBehavior.BUILD,
    )
    make_dag(project_config=shop, render_config=config)
    orders, clicks = seen["model.shop.orders"], seen["source.shop.ext.clicks"]
    assert (orders.resource_type, orders.resource_name, orders.package_name) == (DbtResourceType.MODEL, "orders", "shop")
    assert (orders.owner, orders.meta, orders.tags, orders.has_test, orders.tests) == (
        "@ana",
        {"owner": "@ana"},
        [],
        True,
        ("test.shop.unique_orders.1",),
    )
    assert orders.depends_on == ["seed.shop.raw", "source.shop.ext.clicks"]
    assert orders.file_path == shop.project_dir / "models/staging/orders.sql"
    assert (clicks.resource_name, clicks.has_freshness, clicks.has_test) == ("ext.clicks", False, False)


# What is said of a task ------------------------------------------------------------------------------------------------


def test_owners_are_those_of_dbt(make_dag: MakeDag, tmp_path: Path) -> None:
    project = project_of(
        tmp_path / "owned",
        node("model.shop.a", meta={"owner": "@ana"}),
        node("test.shop.t.1", "model.shop.a"),
        node("model.shop.b", config={"meta": {"owner": ["@ana", "@bo"]}}),
        node("model.shop.c", group="finance"),
        node("model.shop.d", meta={"owner": "@ana", "cosmos": {"operator_kwargs": {"owner": "carl"}}}),
        node("model.shop.e", meta={"owner": {"email": "x@y.z"}}),
        groups={"group.shop.finance": {"name": "finance", "owner": {"name": "Finance", "email": "f@x.y"}}},
    )
    owners = {task.task_id: task.owner for task in make_dag(project_config=project, default_args={"owner": "data"}).tasks}
    assert owners == {
        PRODUCER: "data",
        "dbt_assets": "data",
        "a.run": "@ana",
        "a.test": "@ana",
        "b_run": "@ana, @bo",
        "c_run": "Finance",
        "d_run": "carl",
        "e_run": "data",
    }
    without = make_dag(project_config=project, render_config=RenderConfig(enable_owner_inheritance=False), default_args={"owner": "data"})
    assert {task.owner for task in without.tasks} == {"data", "carl"}


def test_tags_become_those_of_the_dag_if_asked_for(make_dag: MakeDag, shop: ProjectConfig, configs: dict[str, Any]) -> None:
    asked = RenderConfig(enable_tag_inheritance=True)
    assert make_dag(project_config=shop, tags=["dbt"]).tags == {"dbt"}
    assert make_dag(project_config=shop, render_config=asked, tags=["dbt"]).tags == {"dbt", "daily", "core"}
    with DAG("bigger", schedule=None) as dag:
        DbtTaskGroup(**{**configs, "project_config": shop, "render_config": asked})
    assert dag.tags == {"daily", "core"}


def described(count: int, folder: Path) -> ProjectConfig:
    columns = {"id": {"name": "id", "description": "Key | of it.\nMore."}, "plain": {"name": "plain", "description": ""}}
    nodes = [
        lying(f"model.shop.m{i}", f"models/m{i}.sql", description="What it is. " * 60, columns=columns, tags=["core"]) for i in range(count)
    ]
    return project_of(folder, *nodes, node("model.shop.silent"), node("test.shop.t.1", "model.shop.m0"))


def test_a_task_has_the_documentation_of_its_node(make_dag: MakeDag, tmp_path: Path) -> None:
    dag = make_dag(project_config=described(1, tmp_path / "told"))
    told = dag.get_task("m0.run").doc_md or ""
    assert told.startswith("What it is.")
    assert "| `id` | Key / of it. |" in told
    assert "plain" not in told
    assert "Tags: core" in told
    assert "`models/m0.sql`, compiled `target/compiled/shop/models/m0.sql`" in told
    assert len(told) < 700
    assert [task.task_id for task in dag.tasks if task.doc_md] == ["m0.run"]


def test_a_big_project_is_documented_if_asked_for(make_dag: MakeDag, tmp_path: Path) -> None:
    project = described(30, tmp_path / "big")
    documented = {
        wanted: sum(bool(task.doc_md) for task in make_dag(project_config=project, render_config=RenderConfig(docs=wanted)).tasks)
        for wanted in (None, True, False)
    }
    assert documented == {None: 0, True: 30, False: 0}


# Sources and exposures -------------------------------------------------------------------------------------------------


def test_exposures_are_end_points(make_dag: MakeDag, shop: ProjectConfig) -> None:
    """Behind the tests of what they use, through metrics too."""
    dag = make_dag(project_config=shop, render_config=RenderConfig(exposures=True))
    assert isinstance(dag.get_task("board_exposure"), EmptyOperator)
    assert dag.get_task("board_exposure").upstream_task_ids == {"orders.test", "sales_run"}
    assert "board_exposure" not in make_dag(project_config=shop).task_ids


@pytest.mark.parametrize("version", DBT_VERSIONS)
def test_exposures_of_every_dbt_version_are_drawn(make_dag: MakeDag, tmp_path: Path, version: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(real_manifest(version))
    config = ProjectConfig(dbt_project_path="/elsewhere", manifest_path=path)
    for render in (
        RenderConfig(exposures=True, group_nodes_by_folder=True, source_rendering_behavior=SourceRenderingBehavior.ALL, docs=True),
        RenderConfig(exposures=True, granularity="folder", source_rendering_behavior=SourceRenderingBehavior.ALL, source_pruning=True),
    ):
        dag = make_dag(project_config=config, render_config=render)
        dag.validate()
        (exposure,) = [task for task in dag.tasks if task.task_id.endswith("dash_exposure")]
        assert len(exposure.upstream_task_ids) == 1
        assert SerializedDagModel.hash(DagSerialization.to_dict(dag))


def test_sources_that_nothing_reads_can_be_left_out(make_dag: MakeDag, shop: ProjectConfig) -> None:
    shown = {
        pruned: {
            task
            for task in make_dag(
                project_config=shop,
                render_config=RenderConfig(source_rendering_behavior=SourceRenderingBehavior.ALL, source_pruning=pruned),
            ).task_ids
            if task.endswith("_source")
        }
        for pruned in (False, True)
    }
    assert shown == {False: {"ext_clicks_source", "ext_unused_source"}, True: {"ext_clicks_source"}}


# Converters ------------------------------------------------------------------------------------------------------------


def test_a_converter_written_for_cosmos_makes_the_task_of_a_node(make_dag: MakeDag, shop: ProjectConfig) -> None:
    def convert_source(dag: DAG, task_group: TaskGroup | None, node: DbtNode, **kwargs: Any) -> BaseOperator:
        assert kwargs["task_id"] == f"{node.name}_source"
        assert kwargs["execution_mode"] is ExecutionMode.WATCHER
        assert kwargs["dbt_project_name"] == "shop"
        return BashOperator(dag=dag, task_group=task_group, task_id=f"{node.name}_source", bash_command="true")

    config = RenderConfig(
        source_rendering_behavior=SourceRenderingBehavior.ALL, node_converters={DbtResourceType.SOURCE: convert_source}, source_pruning=True
    )
    dag = make_dag(project_config=shop, render_config=config)
    assert isinstance(dag.get_task("ext_clicks_source"), BashOperator)
    assert ("ext_clicks_source", "orders.run") in edges(dag)
    assert not [uid for uid in (*dag.get_task(PRODUCER).nodes, *dag.get_task(PRODUCER).without_task) if uid.startswith("source.")]


def test_a_converter_stands_in_the_groups_and_takes_what_it_wants(make_dag: MakeDag, shop: ProjectConfig) -> None:
    seen = []

    def convert(node: DbtNode, task_id: str, make_task: Callable[..., BaseOperator]) -> BaseOperator:
        seen.append((node.unique_id, task_id))
        return make_task(pool="tests")

    kinds = {DbtResourceType.TEST: convert, "exposure": convert}
    dag = make_dag(project_config=shop, render_config=RenderConfig(node_converters=kinds, group_nodes_by_folder=True))
    assert seen == [("model.shop.orders", "test"), ("test.shop.sums", "sums_test"), ("exposure.shop.board", "board_exposure")]
    assert {task.task_id for task in dag.tasks if task.pool == "tests"} == {
        "models.staging.orders.test",
        "tests.sums_test",
        "models.marts.board_exposure",
    }
    assert dag.get_task(PRODUCER).without_task == ()


def test_a_node_whose_task_shows_something_else_is_answered_for_by_the_producer(make_dag: MakeDag) -> None:
    """It is built and planned all the same, and its failure must not stay unseen."""
    own = {DbtResourceType.SEED: lambda task_id, **_: EmptyOperator(task_id=task_id)}
    producer = make_dag(render_config=RenderConfig(node_converters=own)).get_task(PRODUCER)
    assert "seed.shop.raw" not in producer.nodes
    assert producer.without_task == ("seed.shop.raw",)
    elsewhere = ExecutionConfig(ledger_uri=LEDGER, producer=bash_producer())
    commands = [
        make_dag(execution_config=elsewhere, render_config=config).get_task(PRODUCER).bash_command
        for config in (RenderConfig(node_converters=own), RenderConfig())
    ]
    assert commands[0] != commands[1]


def test_a_node_without_a_task_is_looked_through(make_dag: MakeDag) -> None:
    config = RenderConfig(node_converters={DbtResourceType.MODEL: lambda node, make_task: None if node.name == "orders" else make_task()})
    dag = make_dag(render_config=config)
    assert "orders.run" not in dag.task_ids
    assert ("raw_seed", "orders.test") in edges(dag)
    assert dag.get_task(PRODUCER).without_task == ("model.shop.orders",)


def test_a_converter_may_run_dbt_itself(make_dag: MakeDag) -> None:
    def convert(node: DbtNode, task_id: str, task_group: TaskGroup | None, task_args: dict[str, Any], **_: Any) -> BaseOperator:
        return DbtRunLocalOperator(task_id=task_id, task_group=task_group, nodes=[node.unique_id], **task_args)

    dag = make_dag(render_config=RenderConfig(node_converters={DbtResourceType.MODEL: convert}), operator_args={"full_refresh": True})
    assert isinstance(dag.get_task("orders.run"), DbtRunLocalOperator)
    assert not isinstance(dag.get_task("orders.test"), DbtRunWatcherOperator)
    assert ("raw_seed", "orders.run") in edges(dag)


def test_converters_are_checked(make_dag: MakeDag) -> None:
    with pytest.raises(ConfigError, match=r"DbtResourceType\.MODEL"):
        RenderConfig(node_converters={"macro": print})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="cannot be called"):
        RenderConfig(node_converters={DbtResourceType.MODEL: "task"})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="returned 'nothing'"):
        make_dag(render_config=RenderConfig(node_converters={DbtResourceType.SEED: lambda: "nothing"}))
