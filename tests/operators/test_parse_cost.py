"""Airflow parses a DAG file again and again, in new processes: what that takes for a project of a real size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.project.cache import CACHE_ENV
from tests.lister import Lister
from tests.projects import fhir_nodes, write_project

DAG_FILE = """
from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

dag = DbtDag(
    "fhir",
    project_config=ProjectConfig({project!r}),
    profile_config=ProfileConfig(profile_name="fhir"),
    execution_config=ExecutionConfig(ledger_uri="s3://company-data-platform/ledgers/prod"),
    render_config=RenderConfig({render}),
    default_args={{"retries": 1, "owner": "data"}},
)
"""

MEASURE = """
import json, sys, time
import airflow.sdk
from airflow.sdk import DAG, BaseOperator  # lazy names, which every DAG file uses

opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
before = set(sys.modules)
started = time.process_time()
names = {}
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), names)
cpu = time.process_time() - started
imported = sorted(set(sys.modules) - before)

from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization
stored = DagSerialization.to_dict(names["dag"])
print(json.dumps({
    "cpu": cpu,
    "tasks": len(names["dag"].tasks),
    "imported": imported,
    "opened": opened,
    "hash": SerializedDagModel.hash(stored),
    "stored": len(json.dumps(stored, separators=(",", ":"))),
}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "fhir", *fhir_nodes(), project="fhir")


def parse(project: Path, seed: int = 0, render: str = "") -> dict[str, Any]:
    """Parse the DAG file in a process of its own; its random seed is that of the hashes of strings, and so of the order of sets."""
    dag_file = project.parent / "fhir_dag.py"
    dag_file.write_text(DAG_FILE.format(project=str(project), render=render))
    env = {**os.environ, CACHE_ENV: str(project.parent / "cache"), "PYTHONHASHSEED": str(seed)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled after the first parse, as it is in a deployment
    done = subprocess.run([sys.executable, "-c", MEASURE, str(dag_file)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_a_parse_is_cheap_and_always_the_same(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = project / "target" / "manifest.json"
    first = parse(project, seed=1)
    assert str(manifest) in first["opened"]
    second = parse(project, seed=2)
    with capsys.disabled():
        print(  # noqa: T201 - the figure is what the test is for
            f"\nparse beyond `import airflow.sdk`: {first['cpu']:.2f} s CPU at first, "
            f"{second['cpu']:.2f} s from its cache; {second['tasks']} tasks, {second['stored']} bytes stored"
        )
    assert second["tasks"] == 1 + 198 + 2 + 1
    assert str(manifest) not in second["opened"]
    assert first["hash"] == second["hash"]
    check_light(second)


def check_light(parsed: dict[str, Any]) -> None:
    heavy = {"dbt", "s3fs", "botocore", "aiobotocore", "boto3", "gcsfs", "adlfs", "networkx", "agate", "sqlalchemy", "pandas"}
    for name in parsed["imported"]:
        assert name.partition(".")[0] not in heavy, name
        assert not name.startswith("ledger_watcher.capture"), name
        assert not name.startswith("ledger_watcher.report"), name
        assert not name.startswith("ledger_watcher.cli"), name


def test_a_parse_with_a_selection_starts_dbt_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A project of a real size has a file per node; they are looked at, and read only if one has changed."""
    nodes = fhir_nodes()
    for one in nodes:
        if one["resource_type"] == "model":
            file = project / one["original_file_path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(one["raw_code"])
    lister = Lister(project.parent)
    program = lister.write(*nodes, selected=tuple(one["unique_id"] for one in nodes))
    render = f"select='package:fhir', dbt_executable_path={str(program)!r}"
    first, second = (parse(project, seed, render) for seed in (1, 2))
    with capsys.disabled():
        print(f"\nthe same with a selection: {second['cpu']:.2f} s CPU from its cache")  # noqa: T201 - as above
    assert len(lister.said) == 1
    assert first["hash"] == second["hash"]
    assert second["tasks"] == 1 + 198 + 2 + 1
    assert not [path for path in second["opened"] if path.endswith(".sql")]
    check_light(second)
