"""Every operator of the table with a real dbt on DuckDB: one process runs them all, in-process, one after another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MUST_WARN = "test.shop.must_warn.4518cb05d8"  # dbt makes the digits of what the test is
FILES = {
    "dbt_project.yml": "name: shop\nprofile: shop\nmodels:\n  +materialized: table\n",
    "profiles.yml": "shop:\n  target: dev\n  outputs:\n    dev: {type: duckdb, path: shop.duckdb}\n    copy: {type: duckdb, path: shop.duckdb, schema: copy}\n",
    "packages.yml": "packages:\n  - local: extra\n",
    "extra/dbt_project.yml": "name: extra\nmodels:\n  +schema: extra\n",
    "extra/models/orders.sql": "select 2 as id\n",
    "seeds/raw.csv": "id,loaded\n1,2020-01-01 00:00:00\n",
    "models/orders.sql": "select id from {{ ref('raw') }}\n",
    "models/sales.sql": "select id from {{ ref('shop', 'orders') }}\n",
    "models/sales/deep.sql": "select 1 as id\n",
    "models/ver_v1.sql": "select 1 as id\n",
    "models/ver_v2.sql": "select 2 as id\n",
    "models/bad.sql": "select no_such_column from {{ ref('raw') }}\n",
    "tests/add_up.sql": "select o.id from {{ ref('shop', 'orders') }} o join {{ ref('sales') }} s on o.id = s.id where o.id < 0\n",
    "snapshots/history.sql": "{% snapshot history %}{{ config(unique_key='id', strategy='check', check_cols=['id'], target_schema='main') }}"
    "select * from {{ ref('raw') }}{% endsnapshot %}\n",
    "macros/say.sql": "{% macro say(word) %}{{ log('said ' ~ word, info=True) }}{% endmacro %}\n"
    "{% macro breaks() %}{{ exceptions.raise_compiler_error('it broke on purpose') }}{% endmacro %}\n",
    "models/schema.yml": """
sources:
  - name: main
    tables:
      - name: raw
        config: {loaded_at_field: loaded, freshness: {error_after: {count: 1, period: day}}}
      - name: new
        identifier: raw
        config: {loaded_at_field: (now() at time zone 'UTC'), freshness: {error_after: {count: 1, period: day}}}
      - name: absent
        config: {loaded_at_field: loaded, freshness: {error_after: {count: 1, period: day}}}
models:
  - name: ver
    latest_version: 2
    versions: [{v: 1}, {v: 2}]
  - name: orders
    columns: [{name: id, data_tests: [unique, {not_null: {name: must_warn, severity: warn, where: "id = 1 or 1 = 1", warn_if: ">= 0"}}]}]
unit_tests:
  - name: rounds
    model: sales
    given: [{input: "ref('shop', 'orders')", rows: [{id: 7}]}]
    expect: {rows: [{id: 7}]}
""",
}
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "deps": ("DbtDepsLocalOperator", {}),
    "ls": ("DbtLSLocalOperator", {"select": "fqn:shop.orders", "install_deps": True}),
    "seed": ("DbtSeedLocalOperator", {"full_refresh": True, "threads": 2, "install_deps": True}),
    "run": ("DbtRunLocalOperator", {"nodes": ["model.shop.orders"]}),
    "build": ("DbtBuildLocalOperator", {"nodes": ["model.shop.sales", "unit_test.shop.sales.rounds"]}),
    "versions": ("DbtRunLocalOperator", {"nodes": ["model.shop.ver.v1"]}),
    "test": ("DbtTestLocalOperator", {"nodes": [MUST_WARN, "test.shop.add_up"]}),
    "snapshot": ("DbtSnapshotLocalOperator", {"select": ["history"]}),
    "source": ("DbtSourceLocalOperator", {}),
    "new source": ("DbtSourceLocalOperator", {"nodes": ["source.shop.main.new"]}),
    "stale source": ("DbtSourceLocalOperator", {"nodes": ["source.shop.main.raw"]}),
    "absent source": ("DbtSourceLocalOperator", {"nodes": ["source.shop.main.absent"]}),
    "compile": ("DbtCompileLocalOperator", {"select": ["ver.v1"]}),
    "operation": ("DbtRunOperationLocalOperator", {"macro_name": "say", "args": {"word": "{{ run_id }}"}}),
    "broken operation": ("DbtRunOperationLocalOperator", {"macro_name": "breaks"}),
    "bad": ("DbtRunLocalOperator", {"nodes": ["model.shop.bad"]}),
    "gone": ("DbtRunLocalOperator", {"nodes": ["model.shop.gone", "model.shop.orders"]}),
    "clone": ("DbtCloneLocalOperator", {"target": "copy", "select": ["fqn:shop.orders"], "dbt_cmd_flags": ["--state", "target"]}),
    "docs": ("DbtDocsLocalOperator", {}),
}
RUN = """
import json, sys
from pathlib import Path
import ledger_watcher_airflow
from ledger_watcher_airflow import ProfileConfig
from tests.operators.commands import context

said = {}
for name, (kind, arguments) in json.loads(sys.argv[2]).items():
    found = said[name] = {"warned": [], "error": None, "results": None, "beside": []}
    def artifacts(project_dir, word, found=found):
        target = Path(project_dir) / "target"
        found["word"], found["beside"] = word, sorted(path.name for path in Path(project_dir).iterdir())
        if (target / "run_results.json").exists():
            results = json.loads((target / "run_results.json").read_text())["results"]
            found["results"] = {one["unique_id"]: one["status"] for one in results if not one["unique_id"].startswith("operation.")}
        found["artifacts"] = sorted(path.name for path in target.iterdir()) if target.exists() else []
    if kind == "DbtTestLocalOperator":
        arguments["on_warning_callback"] = lambda context, found=found: found.update(warned=context["test_names"])
    print("STEP", name, flush=True)
    manifest = Path(sys.argv[1]) / "target" / "manifest.json"
    before = manifest.read_bytes() if manifest.exists() else None
    try:
        operator = getattr(ledger_watcher_airflow, kind)(
            task_id="it", project_dir=sys.argv[1], profile_config=ProfileConfig(profile_name="shop", profiles_yml_filepath=sys.argv[1] + "/profiles.yml"),
            callback=artifacts, callback_args={"word": name}, **arguments,
        )
        operator.execute(context("manual__1"))
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
    found["another manifest"] = before != (manifest.read_bytes() if manifest.exists() else None)
Path(sys.argv[3]).write_text(json.dumps(said))
"""


@dataclass
class Said:
    """What the steps came to, what was on the console, and the project as it is now."""

    steps: dict[str, dict[str, Any]]
    console: dict[str, str]
    project: Path


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    folder = tmp_path_factory.mktemp("local")
    project = folder / "shop"
    for name, text in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "operators")]), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    (folder / "tmp").mkdir()
    env["TMPDIR"] = str(folder / "tmp")
    command = [sys.executable, "-c", RUN, str(project), json.dumps(STEPS), str(folder / "said.json")]
    done = subprocess.run(command, check=False, cwd=folder, env={**env, "AIRFLOW_HOME": str(folder / "af")}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    console = {part.partition("\n")[0]: part for part in done.stdout.split("STEP ")[1:]}
    return Said(json.loads((folder / "said.json").read_text()), console, project)


@pytest.mark.parametrize(
    "step", [name for name in STEPS if name not in ("source", "stale source", "absent source", "broken operation", "bad", "gone")]
)
def test_it_succeeds(said: Said, step: str) -> None:
    assert said.steps[step]["error"] is None


@pytest.mark.parametrize(
    ("step", "statuses"),
    [
        ("seed", {"seed.shop.raw": "success"}),
        ("run", {"model.shop.orders": "success"}),
        ("build", {"unit_test.shop.sales.rounds": "pass", "model.shop.sales": "success"}),
        ("versions", {"model.shop.ver.v1": "success"}),
        ("test", {MUST_WARN: "warn", "test.shop.add_up": "pass"}),
        ("snapshot", {"snapshot.shop.history": "success"}),
        ("compile", {"model.shop.ver.v1": "success"}),
        ("clone", {"model.shop.orders": "success"}),
    ],
)
def test_dbt_works_on_exactly_what_was_meant(said: Said, step: str, statuses: dict[str, str]) -> None:
    """Not on the model of that name in another package, in the folder of that name, of another version; nor on other tests of a node."""
    assert said.steps[step]["results"] == statuses


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("bad", ["`dbt run` failed", "model.shop.bad: Runtime Error", 'column "no_such_column" not found']),
        ("source", ["`dbt source freshness` failed", "source.shop.main.raw: the newest data is of 2020-01-01", "source.shop.main.absent"]),
        ("absent source", ["`dbt source freshness` failed", "source.shop.main.absent: "]),
        ("broken operation", ["`dbt run-operation` failed", "it broke on purpose"]),
        ("gone", ["without a word about model.shop.gone", "deploy the same version"]),
    ],
)
def test_a_failure_is_told_in_dbts_words(said: Said, step: str, words: list[str]) -> None:
    error = said.steps[step]["error"]
    assert error.startswith("AirflowException: ")
    assert not [word for word in words if word not in error], error


def test_a_task_of_a_stale_source_is_skipped(said: Said) -> None:
    """As under WATCHER; the others of the project are not asked."""
    error = said.steps["stale source"]["error"]
    assert error.startswith("AirflowSkipException: source.shop.main.raw: the newest data is of 2020-01-01"), error
    assert "error_after 1 day" in error
    for step, mine in (("new source", "new"), ("stale source", "raw"), ("absent source", "absent")):
        assert [name for name in ("new", "raw", "absent") if f"main.{name}" in said.console[step]] == [mine], said.console[step]


def test_a_warning_is_told_to_its_callback(said: Said) -> None:
    assert said.steps["test"]["warned"] == ["must_warn"]


def test_what_dbt_says_is_in_the_log(said: Said) -> None:
    assert "shop.not_null" not in said.console["ls"]
    assert "\nshop.orders\n" in said.console["ls"]
    assert "said manual__1" in said.console["operation"]


def test_packages_are_installed_once(said: Said) -> None:
    """Tasks work side by side: none takes away what another one reads."""
    assert "Installing extra" in said.console["ls"], "nothing says yet whether what is there is what is wanted"
    assert "has what is wanted already" in said.console["seed"]
    assert "Installing" not in said.console["seed"]


def test_partial_parsing_goes_on_from_task_to_task(said: Said) -> None:
    full = [step for step, text in said.console.items() if "Unable to do partial parsing" in text]
    assert full == ["ls", "clone", "docs"], "the first one, and those around a change of target"


def test_a_callback_finds_the_project_with_the_artifacts_of_its_own_run(said: Said) -> None:
    found = said.steps["run"]
    assert found["word"] == "run"
    assert {"dbt_project.yml", "models", "target"} <= set(found["beside"])
    assert {"manifest.json", "run_results.json", "compiled", "run"} <= set(found["artifacts"])
    assert said.steps["bad"]["results"] == {"model.shop.bad": "error"}, "however dbt ended"


def test_tasks_of_nodes_leave_the_artifacts_of_the_project_alone(said: Said) -> None:
    """The manifest that a DAG is drawn from would change with each of them; what they compiled is there to be looked at."""
    changing = {step for step in said.steps if said.steps[step]["another manifest"]}
    assert not changing & {step for step, (_, arguments) in STEPS.items() if "nodes" in arguments}
    assert {"seed", "snapshot", "compile"} <= changing
    target = said.project / "target"
    assert (target / "compiled" / "shop" / "models" / "bad.sql").is_file()
    assert (target / "index.html").is_file()
    (left,) = said.project.parent.glob("tmp")
    assert not list(left.iterdir())
