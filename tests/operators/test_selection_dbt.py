"""What is drawn is what dbt selects: every kind of expression in dbt's grammar, beside the output of plain ``dbt ls``.

`make test` takes every fifth expression, `make test-dbt` all of them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher_airflow import DbtDag, ExecutionConfig, LoadMode, ProfileConfig, ProjectConfig, RenderConfig, SourceRenderingBehavior
from ledger_watcher_airflow.states import nodes_of_tasks
from tests.operators.conftest import LEDGER
from tests.operators.dbt_server import DbtServer, serving
from tests.projects import FIXTURES

JAFFLE = Path(__file__).parents[2] / "operators" / "ledger_watcher_airflow" / "example_dags" / "dbt" / "jaffle"
PRODUCER = "dbt_producer_watcher"
SELECTORS = """
selectors:
  - name: words
    definition: "tag:core+"
  - name: united
    definition: {union: ["tag:core", {method: path, value: models/bad}]}
  - name: cut
    definition: {intersection: [{method: fqn, value: "kitchen.base.*"}, {method: config.materialized, value: table}]}
  - name: without
    definition:
      method: package
      value: kitchen
      exclude: [{method: path, value: models/bad}, {method: test_type, value: unit}]
  - name: related
    definition: {method: fqn, value: ok_table, children: true, children_depth: 1, parents: true, indirect_selection: cautious}
  - name: childrens_parents
    definition: {method: fqn, value: ok_table, childrens_parents: true}
  - name: inherited
    definition: {union: [{method: selector, value: cut}, {method: resource_type, value: seed}]}
  - name: old
    definition: {method: state, value: modified}
"""

KITCHEN = [
    # graph operators
    *("ok_table", "ok_table+", "+uses_eph", "2+uses_eph", "1+uses_eph+1", "ok_table+1", "+ok_table+", "@ok_table", "@tag:core"),
    # tag, path, file, fqn with wildcards, package
    *("tag:core", "tag:c*", "tag:none_has_it", "path:models/base", "path:models/base/*.sql", "models/bad", "path:seeds", "path:tests"),
    *("file:ok_table.sql", "ok_view.sql", "file:raw_items.csv", "file:ok_*"),
    *("fqn:kitchen.base.ok_table", "kitchen.base", "kitchen.bad.*", "kitchen.*.ok_view", "ok_*", "*_eph", "?k_view", "[or]*"),
    *("package:kitchen", "package:this", "package:dbt"),
    # config, resource_type, group, access, version
    *("config.materialized:view", "config.materialized:ephemeral", "config.materialized:incremental+", "config.severity:warn"),
    *("config.meta.owner:team-a", "config.tags:core", "config.group:g1", "config.meta.nested.k:1"),
    *("resource_type:model", "resource_type:seed", "resource_type:snapshot", "resource_type:function", "resource_type:source"),
    *("group:g1", "access:protected", "access:private", "version:latest", "version:old", "version:none", "ver_model.v1", "ver_model"),
    # source, exposure, metric and what else only has parents
    *("source:ext", "source:ext.raw_ext+", "source:*", "source:kitchen.ext.*", "exposure:dash", "+exposure:*", "+metric:item_count"),
    *("+saved_query:sq", "+semantic_model:items"),
    # tests
    *("test_type:data", "test_type:unit", "test_type:generic", "test_type:singular", "test_name:not_null", "unit_test:ut_ok", "ut_model"),
    *("not_null_ok_table_id", "multi_parent", "+test_type:unit"),
    # state and result, with saved artifacts
    *("state:modified", "state:modified+", "state:modified.body", "state:modified.configs", "state:new", "state:old", "state:unmodified"),
    *("result:error", "result:error+", "result:fail", "1+result:success", "state:modified,result:success"),
    # unions and intersections
    *(
        "ok_table ok_view",
        "tag:core,config.materialized:table",
        "+uses_eph,path:models/base",
        "tag:core,tag:other",
        "ok_*,+uses_eph ut_model+",
    ),
]
EMPTY = {"tag:none_has_it", "package:dbt", "config.meta.nested.k:1", "access:private", "tag:core,tag:other"}
EXCLUDED = [
    ("", "path:models/bad"),
    ("package:kitchen", "test_type:data"),
    ("+uses_eph", "ok_table uses_eph,config.materialized:table"),
    ("source:ext+", "source:ext"),
    ("ok_table+", "resource_type:test resource_type:unit_test"),
    ("*", "*"),
]
JAFFLES = [
    *(
        "",
        "+guest_value",
        "stg_tickets+",
        "path:models/staging",
        "config.materialized:view,stg_*",
        "kiosk_*+1",
        "guests_history",
        "test_name:unique",
    ),
    *("days_add_up_to_tickets", "@stg_lines", "resource_type:snapshot+", "tag:none_has_it", "fqn:*"),
]
DEFAULT = """
selectors:
  - name: usual
    default: true
    definition: {method: path, value: models/staging, parents: true}
"""
"""What dbt takes of the example project where it is told nothing: the first of JAFFLES."""
INDIRECT = ["eager", "cautious", "buildable", "empty"]
YAML = ["words", "united", "cut", "without", "related", "childrens_parents", "inherited", "old"]
STEP = 1 if os.environ.get("DBT_VERSIONS") else 5


@dataclass(frozen=True)
class Projects:
    server: DbtServer
    kitchen: Path
    jaffle: Path
    state: Path
    listed: dict[tuple[str, ...], list[dict[str, Any]]] = field(default_factory=dict)

    def ls(self, project: Path, *words: str) -> list[dict[str, Any]]:
        """What plain ``dbt ls`` lists."""
        if (key := (str(project), *words)) not in self.listed:
            code, self.listed[key] = self.server.ls(project, *words)
            assert code == 0
        return self.listed[key]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Projects]:
    folder = tmp_path_factory.mktemp("selections")
    kitchen, jaffle, state = folder / "kitchen", folder / "jaffle", folder / "state"
    shutil.copytree(FIXTURES / "kitchen-sink", kitchen)
    shutil.copytree(JAFFLE, jaffle, ignore=shutil.ignore_patterns("target", "logs", "*.duckdb"))
    file = kitchen / "dbt_project.yml"
    file.write_text(file.read_text().replace("FUNCPATHS", 'function-paths: ["functions"]'))
    (kitchen / "selectors.yml").write_text(SELECTORS)
    (jaffle / "selectors.yml").write_text(DEFAULT)
    with serving(folder) as server:
        code, nodes = server.ls(kitchen)
        assert (code, len(nodes) > 40) == (0, True)
        save_state(kitchen / ".parsed" / "manifest.json", state)
        yield Projects(server, kitchen, jaffle, state)


def save_state(manifest: Path, state: Path) -> None:
    """Artifacts of an earlier run: one model had other SQL, one another materialization, one was not there; some had failed."""
    old = json.loads(manifest.read_bytes())
    old["nodes"]["model.kitchen.ok_table"]["checksum"]["checksum"] = "0" * 64
    old["nodes"]["model.kitchen.inc"]["unrendered_config"]["materialized"] = "view"
    del old["nodes"]["model.kitchen.ok_view"]
    ended = {"model.kitchen.bad_model": "error", "model.kitchen.ok_table": "success", "test.kitchen.multi_parent": "fail"}
    state.mkdir()
    (state / "manifest.json").write_text(json.dumps(old))
    more = {"timing": [], "thread_id": "", "execution_time": 0.0, "adapter_response": {}, "message": None, "failures": None}
    told = {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json",
        "dbt_version": "1.11.0",
        "invocation_id": "i",
        "env": {},
    }
    results = [
        {"unique_id": name, "status": status, "compiled": None, "compiled_code": None, "relation_name": None, **more}
        for name, status in ended.items()
    ]
    (state / "run_results.json").write_text(json.dumps({"metadata": told, "results": results, "elapsed_time": 0.0, "args": {}}))


def draw(projects: Projects, project: Path, *options: str, indirect: str | None = None, built: str | None = None, **render: Any) -> DbtDag:
    """``built``: what is told to the producer alone."""
    flags: dict[str, Any] = {**({"dbt_cmd_flags": options} if options else {}), **({"select": built} if built else {})}
    return DbtDag(
        "drawn",
        project_config=ProjectConfig(project),
        profile_config=ProfileConfig(profile_name=project.name, profiles_yml_filepath=project / "profiles.yml"),
        execution_config=ExecutionConfig(ledger_uri=LEDGER),
        operator_args={**flags, **({"indirect_selection": indirect} if indirect else {})},
        render_config=RenderConfig(
            **{"load_method": LoadMode.DBT_LS, **render},
            dbt_executable_path=projects.server.program,
            source_rendering_behavior=SourceRenderingBehavior.ALL,
        ),
    )


def check(projects: Projects, project: Path, words: list[str], dag: DbtDag) -> None:
    """Every node that ``dbt ls`` lists and that has a task anywhere is drawn, and no other; and the producer is told the same words."""
    types: dict[str, set[str]] = {}
    ephemeral = set()
    for one in projects.ls(project, *words):
        types.setdefault(one["resource_type"], set()).add(one["unique_id"])
        if one["resource_type"] == "model" and one["config"]["materialized"] == "ephemeral":
            ephemeral.add(one["unique_id"])
    drawable = ("model", "seed", "snapshot", "source")
    shown = set().union(*(types.get(kind, set()) for kind in drawable))
    assert set(dag.tasks_map) == shown
    mirrored = {unique_id for nodes in nodes_of_tasks(dag, PRODUCER).values() for unique_id in nodes}
    tests = types.get("test", set()) | types.get("unit_test", set())
    unchecked = {unique_id for unique_id in types.get("source", set()) if unique_id != "source.kitchen.ext.raw_ext"}
    assert mirrored == (shown | tests) - ephemeral - unchecked
    producer = dag.get_task(PRODUCER)
    assert set(producer.nodes) == mirrored
    assert set(producer.without_task) == types.get("function", set())
    command = producer.command()
    said = [command[i : i + 2] for i, word in enumerate(command) if word in ("--select", "--exclude", "--selector", "--indirect-selection")]
    assert sorted(said) == sorted(
        zip(words[::2], words[1::2], strict=True) if "--state" not in words else zip(words[:-2:2], words[1:-2:2], strict=True)
    )


def state_words(projects: Projects, expression: str) -> tuple[str, ...]:
    return ("--state", str(projects.state)) if "state:" in expression or "result:" in expression else ()


def flagged(name: str, text: str) -> list[str]:
    return [word for one in text.split() for word in (name, one)]


@pytest.mark.parametrize("expression", KITCHEN[::STEP])
def test_an_expression_draws_what_dbt_lists(projects: Projects, expression: str) -> None:
    state = state_words(projects, expression)
    dag = draw(projects, projects.kitchen, *state, select=expression.split())
    check(projects, projects.kitchen, [*flagged("--select", expression), *state], dag)


@pytest.mark.parametrize(("select", "exclude"), EXCLUDED[::STEP])
def test_what_is_excluded_is_not_drawn(projects: Projects, select: str, exclude: str) -> None:
    dag = draw(projects, projects.kitchen, select=select, exclude=exclude.split())
    check(projects, projects.kitchen, [*flagged("--select", select), *flagged("--exclude", exclude)], dag)


@pytest.mark.parametrize("name", YAML[::STEP])
def test_a_yaml_selector_draws_what_dbt_lists(projects: Projects, name: str) -> None:
    state = ("--state", str(projects.state)) if name == "old" else ()
    check(projects, projects.kitchen, ["--selector", name, *state], draw(projects, projects.kitchen, *state, selector=name))


@pytest.mark.parametrize("mode", INDIRECT[::STEP])
def test_the_tests_that_come_along_are_those_of_the_producer(projects: Projects, mode: str) -> None:
    dag = draw(projects, projects.kitchen, select="ok_view+", indirect=mode)
    check(projects, projects.kitchen, ["--select", "ok_view+", "--indirect-selection", mode], dag)


@pytest.mark.parametrize("expression", JAFFLES[::STEP])
def test_the_example_project_is_drawn_as_dbt_lists_it(projects: Projects, expression: str) -> None:
    check(projects, projects.jaffle, flagged("--select", expression), draw(projects, projects.jaffle, select=expression))


def test_the_default_selector_holds_where_only_a_manifest_is_loaded(projects: Projects) -> None:
    listed = projects.ls(projects.jaffle)
    (projects.jaffle / "target").mkdir(exist_ok=True)
    shutil.copy(projects.jaffle / ".parsed" / "manifest.json", projects.jaffle / "target")
    dag = draw(projects, projects.jaffle, load_method=LoadMode.DBT_MANIFEST)
    check(projects, projects.jaffle, [], dag)
    assert 0 < len(listed) < len(projects.ls(projects.jaffle, "--select", "fqn:*"))


def test_the_default_selector_does_not_hold_where_the_build_is_told_another(projects: Projects) -> None:
    """What dbt then builds is drawn, though ``dbt ls`` of nothing lists less."""
    check(projects, projects.jaffle, ["--select", "fqn:*"], draw(projects, projects.jaffle, built="fqn:*"))


def test_the_expressions_are_of_every_kind_and_select_something(projects: Projects) -> None:
    """So that nothing above holds because nothing was ever listed."""
    kinds = {expression.partition(":")[0].strip("+@12").partition(".")[0] for expression in KITCHEN if ":" in expression}
    assert kinds >= {
        *("tag", "path", "file", "fqn", "package", "config", "resource_type", "group", "access", "version", "source", "exposure", "metric"),
        *("saved_query", "semantic_model", "test_type", "test_name", "unit_test", "state", "result"),
    }
    assert len(KITCHEN) + len(EXCLUDED) + len(JAFFLES) + len(INDIRECT) + len(YAML) >= 60
    states = {expression: state_words(projects, expression) for expression in KITCHEN[::STEP]}
    sizes = {
        expression: len(projects.ls(projects.kitchen, *flagged("--select", expression), *state)) for expression, state in states.items()
    }
    assert [expression for expression, size in sizes.items() if not size] == [one for one in KITCHEN[::STEP] if one in EMPTY]


def test_an_expression_that_dbt_does_not_know_is_an_error_in_its_words(projects: Projects) -> None:
    with pytest.raises(Exception, match=r"nonsense.*is not a valid method name"):
        draw(projects, projects.kitchen, select="nonsense:x")
