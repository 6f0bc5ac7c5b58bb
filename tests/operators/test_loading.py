"""Where the nodes of a DAG come from, and that the producer builds what is drawn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task_group

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import Selection, load_project, pack_plan
from ledger_watcher_airflow import (
    DbtDag,
    DbtTaskGroup,
    ExecutionConfig,
    ExecutionMode,
    LoadMode,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
    bash_producer,
)
from ledger_watcher_airflow.profiles import PostgresUserPasswordProfileMapping
from ledger_watcher_airflow.states import nodes_of_tasks
from tests.lister import Lister
from tests.operators.conftest import LEDGER
from tests.projects import manifest, node

MakeDag = Callable[..., DbtDag]
PRODUCER = "dbt_producer_watcher"
SOME = ("model.shop.orders", "test.shop.unique_orders.aaaaaaaaaa", "model.shop.sales")
TASKS = {PRODUCER, "orders.run", "orders.test", "sales_run", "dbt_assets"}


@pytest.fixture
def lister(tmp_path: Path, project: Path) -> Lister:
    """A dbt that lists :data:`SOME` of the project's nodes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    found = Lister(folder)
    found.write(*json.loads((project / "target" / "manifest.json").read_text())["nodes"].values(), selected=SOME)
    return found


@pytest.fixture
def plan(tmp_path: Path, project: Path) -> Path:
    """A plan of :data:`SOME` of the project's nodes."""
    selection = Selection(select=("orders", "sales"), exclude=("not_null_orders",), options=("--indirect-selection", "cautious"))
    view = replace(load_project(project / "target" / "manifest.json"), selected=frozenset(SOME), selection=selection)
    (tmp_path / "plan.json").write_bytes(pack_plan(view))
    return tmp_path / "plan.json"


def render(lister: Lister, **more: Any) -> dict[str, Any]:
    return {"render_config": RenderConfig(dbt_executable_path=lister.folder / "dbt", **more)}


def ended(command: tuple[str, ...], words: str) -> bool:
    return " ".join(command).endswith(words)


# dbt says ------------------------------------------------------------------------------------------------------------


def test_dbt_says_what_is_drawn_and_the_producer_is_told_the_same(make_dag: MakeDag, lister: Lister) -> None:
    given = {"select": ["orders", "sales"], "exclude": "not_null_orders"}
    dag = make_dag(**render(lister, **given), operator_args={"indirect_selection": "cautious", "vars": {"a": 1}, "target": "prod"})
    assert set(dag.task_ids) == TASKS
    assert dag.get_task("sales_run").upstream_task_ids == {"orders.test"}, "across the model between them, which is not drawn"
    producer = dag.get_task(PRODUCER)
    assert set(producer.nodes) == set(SOME)
    words = "--select orders --select sales --exclude not_null_orders --indirect-selection cautious"
    assert ended(producer.command(), words)
    ((*_, target, folder),) = lister.said
    assert target == "--target-path"
    (said,) = lister.said
    assert said[:7] == ["--quiet", "--log-format", "text", "ls", "--output", "json", "--output-keys"]
    for word in ("--target prod", '--vars {"a":1}', words):
        assert word in " ".join(said)
    assert make_dag(**render(lister, **given), operator_args={"indirect_selection": "eager"})
    assert len(lister.said) == 2, "which tests come along depends on that"
    assert Path(folder).is_dir()


def test_dbt_is_asked_once(make_dag: MakeDag, lister: Lister, project: Path) -> None:
    for _ in range(2):
        make_dag(**render(lister, selector="nightly"))
        make_dag(**render(lister, load_method=LoadMode.DBT_LS))
    assert len(lister.said) == 2
    (project / "models").mkdir()
    (project / "models" / "new.sql").write_text("select 1")
    make_dag(**render(lister, selector="nightly"))
    assert len(lister.said) == 3


@pytest.mark.parametrize(
    ("given", "asked"), [({}, True), ({"load_method": LoadMode.DBT_LS}, True), ({"load_method": "dbt_manifest"}, False)]
)
def test_without_a_manifest_dbt_is_asked_unless_it_must_not(
    make_dag: MakeDag, lister: Lister, project: Path, given: dict[str, Any], asked: bool
) -> None:
    (project / "target" / "manifest.json").unlink()
    if asked:
        assert set(make_dag(**render(lister, **given)).task_ids) == TASKS
        return
    with pytest.raises(ConfigError, match="dbt parse"):
        make_dag(**render(lister, **given))
    assert not lister.said


def test_a_manifest_is_narrowed_by_what_dbt_says(make_dag: MakeDag, lister: Lister, project: Path, tmp_path: Path) -> None:
    given = ProjectConfig(project, manifest_path=project / "target" / "manifest.json")
    assert set(make_dag(project_config=given, **render(lister, select="orders")).task_ids) == TASKS
    (tmp_path / "old.json").write_text(json.dumps(manifest(node("model.shop.orders"))))
    with pytest.raises(ConfigError, match=r"model.shop.sales \(and 1 more\).*older than the project"):
        make_dag(project_config=replace(given, manifest_path=tmp_path / "old.json"), **render(lister, select="orders"))


def test_an_empty_selection_has_a_producer_and_no_more(make_dag: MakeDag, lister: Lister) -> None:
    (lister.folder / "selected").write_text("[]")
    dag = make_dag(**render(lister, select="tag:none"))
    assert dag.task_ids == [PRODUCER]
    assert ended(dag.get_task(PRODUCER).command(), "--select tag:none")


def test_each_task_of_a_local_dag_is_for_what_is_selected(make_dag: MakeDag, lister: Lister) -> None:
    dag = make_dag(**render(lister, select="orders"), execution_config=ExecutionConfig(execution_mode=ExecutionMode.LOCAL))
    assert {task.task_id: task.nodes for task in dag.tasks} == {"orders.run": SOME[:1], "orders.test": SOME[1:2], "sales_run": SOME[2:]}


def test_the_project_may_be_elsewhere_when_the_file_is_parsed(make_dag: MakeDag, lister: Lister, project: Path) -> None:
    here = {"dbt_project_path": project, "select": "orders"}
    dag = make_dag(project_config=ProjectConfig("/only/on/workers"), **render(lister, **here))
    assert "/only/on/workers" in dag.get_task(PRODUCER).command()
    assert str(project) in lister.said[0]


def test_where_dbt_cannot_say_the_error_says_how_to_make_a_plan(make_dag: MakeDag, lister: Lister) -> None:
    with pytest.raises(ConfigError, match="not found") as caught:
        make_dag(render_config=RenderConfig(select="tag:daily", dbt_executable_path="/no/such/dbt"))
    for words in ("ledger-watcher plan --output plan.json -- dbt build --select tag:daily", "plan_path", "dbt_executable_path"):
        assert words in str(caught.value)
    (lister.folder / "broken").touch()
    with pytest.raises(ConfigError, match="Parsing Error: model x"):
        make_dag(**render(lister, select="tag:daily"))


def test_a_profile_of_a_connection_is_made_when_dbt_is_started_and_only_then(
    make_dag: MakeDag, lister: Lister, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = PostgresUserPasswordProfileMapping(conn_id="warehouse", profile_args={"schema": "marts"})
    given = {"profile_config": ProfileConfig(profile_name="shop", profile_mapping=mapping), **render(lister, select="orders")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://me:hunter2hunter2@db/shop")
    assert set(make_dag(**given).task_ids) == TASKS
    ((_, profile, _),) = lister.notes
    assert "marts" in (profile or "")
    assert "hunter2" not in (profile or "hunter2")
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE")
    assert set(make_dag(**given).task_ids) == TASKS
    assert len(lister.notes) == 1


def test_hosts_share_what_dbt_said(make_dag: MakeDag, lister: Lister, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__LEDGER_WATCHER__REMOTE_CACHE_DIR", str(tmp_path / "shared"))
    make_dag(**render(lister, select="orders"))
    monkeypatch.setenv("LEDGER_WATCHER_CACHE_DIR", str(tmp_path / "another-host"))
    assert set(make_dag(**render(lister, select="orders")).task_ids) == TASKS
    no_dbt = RenderConfig(select="orders", dbt_executable_path="/no/such/dbt")
    assert set(make_dag(render_config=no_dbt).task_ids) == TASKS
    assert len(lister.said) == 1


# A default selector ------------------------------------------------------------------------------------------------


@pytest.fixture
def default(project: Path) -> None:
    """The project's selectors.yml has one with ``default: true``, as the manifest tells it."""
    file = project / "target" / "manifest.json"
    selectors = {"all": {"name": "all", "definition": "*"}, "daily": {"name": "daily", "definition": "tag:daily", "default": True}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "selectors": selectors}))


@pytest.mark.usefixtures("default")
def test_a_default_selector_is_drawn_as_dbt_builds_it(make_dag: MakeDag, lister: Lister) -> None:
    """dbt takes it unless it is told something else, when it lists and when it builds."""
    for _ in range(2):  # the second time from the cache of the manifest
        dag = make_dag(**render(lister))
        assert set(dag.task_ids) == TASKS
        assert set(dag.get_task(PRODUCER).nodes) == set(SOME)
        assert not {"--select", "--selector"} & set(dag.get_task(PRODUCER).command())
    (said,) = lister.said
    assert not {"--select", "--selector"} & set(said)
    assert set(make_dag(**render(lister), operator_args={"select": "sales"}).task_ids) > TASKS, "dbt then leaves the default out"
    assert len(lister.said) == 1


@pytest.mark.usefixtures("default")
def test_what_is_built_beside_a_default_selector_is_drawn_where_dbt_is_asked_for_all(
    make_dag: MakeDag, lister: Lister, project: Path
) -> None:
    """dbt lists by the default selector, but builds what it is told: any node of the project."""
    told = project / "target" / "manifest.json"
    shutil.copy(told, lister.folder)
    whole = set(make_dag(operator_args={"select": "sales"}).task_ids)
    told.unlink()
    for word in ("select", "exclude", "selector"):
        dag = make_dag(**render(lister, load_method=LoadMode.DBT_LS), operator_args={word: "sales"})
        assert set(dag.task_ids) == whole > TASKS
        assert ended(dag.get_task(PRODUCER).command(), f"--{word} sales")
    assert set(make_dag(**render(lister, load_method=LoadMode.DBT_LS)).task_ids) == TASKS
    assert len(lister.said) == 1, "it is one question"


@pytest.mark.usefixtures("default")
def test_a_default_selector_without_dbt_needs_a_plan(make_dag: MakeDag) -> None:
    with pytest.raises(ConfigError, match=r"selector 'daily', which selectors\.yml makes the default") as caught:
        make_dag(render_config=RenderConfig(dbt_executable_path="/no/such/dbt"))
    assert "`ledger-watcher plan --output plan.json -- dbt build`" in str(caught.value)


# A plan --------------------------------------------------------------------------------------------------------------


def test_a_plan_needs_neither_dbt_nor_the_project(make_dag: MakeDag, plan: Path) -> None:
    for given in ({}, {"load_method": LoadMode.PLAN}, {"select": "orders sales", "exclude": ["not_null_orders"]}):
        dag = make_dag(project_config=ProjectConfig("/only/on/workers"), render_config=RenderConfig(plan_path=plan, **given))
        assert set(dag.task_ids) == TASKS
        assert ended(dag.get_task(PRODUCER).command(), "--exclude not_null_orders --indirect-selection cautious")
        assert dag.get_task(PRODUCER).drawn


def test_a_plan_may_be_anywhere(make_dag: MakeDag, plan: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/plans/shop.json", plan.read_bytes())
    try:
        assert set(make_dag(render_config=RenderConfig(plan_path="memory://plans/shop.json")).task_ids) == TASKS
    finally:
        memory.rm("/plans", recursive=True)


def test_a_manifest_may_be_anywhere(make_dag: MakeDag, project: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/manifests/shop.json", (project / "target" / "manifest.json").read_bytes())
    try:
        dag = make_dag(project_config=ProjectConfig("/only/on/workers", manifest_path="memory://manifests/shop.json"))
    finally:
        memory.rm("/manifests", recursive=True)
    assert set(dag.task_ids) == set(make_dag().task_ids)


@pytest.mark.parametrize("where", ["manifest", "plan"])
def test_a_connection_that_is_missing_is_an_error_that_names_it(make_dag: MakeDag, where: str) -> None:
    project = {"manifest_path": "s3://bucket/m.json", "manifest_conn_id": "nowhere"} if where == "manifest" else {}
    drawn = {"plan_path": "s3://bucket/p.json", "plan_conn_id": "nowhere"} if where == "plan" else {}
    with pytest.raises(ConfigError, match="'nowhere'"):
        make_dag(project_config=ProjectConfig("/only/on/workers", **project), render_config=RenderConfig(**drawn))


def test_a_plan_of_another_selection_is_refused(make_dag: MakeDag, plan: Path) -> None:
    with pytest.raises(ConfigError, match=r"was made for --select orders .*RenderConfig selects --select tag:daily.*ledger-watcher plan"):
        make_dag(render_config=RenderConfig(plan_path=plan, select="tag:daily"))


# An output of dbt ls -------------------------------------------------------------------------------------------------


@pytest.fixture
def listing(tmp_path: Path, project: Path) -> Path:
    nodes = json.loads((project / "target" / "manifest.json").read_text())["nodes"]
    (tmp_path / "ls.txt").write_text("\n".join(json.dumps(nodes[name]) for name in SOME))
    return tmp_path / "ls.txt"


def test_exactly_what_dbt_listed_is_drawn_and_built(make_dag: MakeDag, listing: Path) -> None:
    dag = make_dag(project_config=ProjectConfig("/only/on/workers"), render_config=RenderConfig(dbt_ls_path=listing))
    assert set(dag.task_ids) >= {"orders.run", "orders.test", "sales_run"}
    producer = dag.get_task(PRODUCER)
    assert set(producer.build.exactly) == set(SOME)
    assert "--select" not in producer.command()
    away = ExecutionConfig(ledger_uri=LEDGER, producer=bash_producer())
    command = make_dag(execution_config=away, render_config=RenderConfig(dbt_ls_path=listing)).get_task(PRODUCER)
    assert isinstance(command, BashOperator)
    assert "--exactly=" in str(command.bash_command)


def test_a_manifest_beside_it_knows_the_edges_between(make_dag: MakeDag, listing: Path, project: Path) -> None:
    given = ProjectConfig("/only/on/workers", manifest_path=project / "target" / "manifest.json")
    dag = make_dag(project_config=given, render_config=RenderConfig(dbt_ls_path=listing))
    assert set(dag.task_ids) == TASKS
    assert dag.get_task("sales_run").upstream_task_ids == {"orders.test"}
    assert dag.get_task(PRODUCER).build.exactly


# What does not go together ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"load_method": "custom"}, "LoadMode.CUSTOM is a parser of its own"),
        ({"load_method": "plan"}, "needs plan_path="),
        ({"load_method": "dbt_ls_file"}, "needs dbt_ls_path="),
        ({"load_method": "dbt_ls", "plan_path": "p"}, r"plan_path=...\) is for LoadMode.PLAN, load_method says DBT_LS"),
        ({"plan_path": "p", "dbt_ls_path": "l"}, "leave one of them out"),
        ({"plan_conn_id": "c"}, "is for plan_path="),
        ({"dbt_ls_path": "l", "select": "a"}, "no meaning beside it"),
        ({"selector": "a", "exclude": "b"}, "dbt would ignore"),
        ({"select": [1]}, "holds 1"),
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RenderConfig(**given)


def test_a_connection_without_its_manifest_is_refused(make_dag: MakeDag, project: Path) -> None:
    with pytest.raises(ConfigError, match="manifest_conn_id"):
        make_dag(project_config=ProjectConfig(project, manifest_conn_id="aws"))


@pytest.mark.parametrize("name", ["select", "exclude", "selector"])
def test_what_is_drawn_is_not_narrowed_once_more(make_dag: MakeDag, lister: Lister, plan: Path, name: str) -> None:
    for config in (render(lister, select="orders"), {"render_config": RenderConfig(plan_path=plan)}):
        with pytest.raises(ConfigError, match=rf"operator_args\['{name}'\] together with a selection that is drawn"):
            make_dag(**config, operator_args={name: "sales"})
    assert make_dag(operator_args={name: "sales"}).get_task(PRODUCER).drawn is False


def test_what_is_known_only_when_tasks_run_needs_a_plan(configs: dict[str, Any], lister: Lister, plan: Path) -> None:
    with DAG("mapped", schedule=None):

        @task_group
        def per_region(region: Any) -> None:  # noqa: ANN401 - an argument of a mapped group
            late = {"operator_args": {"vars": {"region": region}}}
            with pytest.raises(ConfigError, match=r"'vars'\] is known only when tasks run.*ledger-watcher plan"):
                DbtTaskGroup("asked", **configs, **late, **render(lister, select="orders"))
            with pytest.raises(ConfigError, match=r"RenderConfig\(select=...\).*in operator_args it narrows"):
                RenderConfig(select=region)
            DbtTaskGroup("planned", **configs, **late, render_config=RenderConfig(plan_path=plan))

        per_region.expand(region=["north", "south"])


def test_every_task_watches_what_is_drawn(make_dag: MakeDag, plan: Path) -> None:
    dag = make_dag(render_config=RenderConfig(plan_path=plan))
    assert {unique_id for nodes in nodes_of_tasks(dag, PRODUCER).values() for unique_id in nodes} == set(SOME)
