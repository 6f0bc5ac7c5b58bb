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
from tests.projects import fhir_nodes, real_manifest, write_project

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

VARIED_FILE = """
from airflow.sdk import DAG

from ledger_watcher_airflow import DbtDag, DbtResourceType, DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

words = ["nightly", "finance", "marts", "core", "gdpr"]
given = dict(
    project_config=ProjectConfig({project!r}),
    profile_config=ProfileConfig(profile_name="kitchen"),
    execution_config=ExecutionConfig(ledger_uri="s3://company-data-platform/ledgers/prod"),
    operator_args=dict(vars=dict.fromkeys(words, 1), env=dict.fromkeys(words, "1"), pool_slots=2),
)
all_of_it = dict(source_rendering_behavior="all", exposures=True, docs=True, enable_tag_inheritance=True)
fine = DbtDag("fine", **given, render_config=RenderConfig(group_nodes_by_folder=True, **all_of_it), tags=set(words))
coarse = DbtDag("coarse", **given, render_config=RenderConfig(granularity="tag", **all_of_it))
told = DbtDag("told", **given, render_config=RenderConfig(asset_mode="per_node", test_behavior="build"))
with DAG("bigger", tags=set(words)) as bigger:
    converted = {{DbtResourceType.SEED: lambda make_task, **_: make_task(doc_md="a seed")}}
    first = DbtTaskGroup("first", **given, render_config=RenderConfig(node_converters=converted))
    last = DbtTaskGroup("last", **given, render_config=RenderConfig(test_behavior="after_all"))
    first >> last
"""
"""Of a project with groups and owners, tags, tests, unit tests, sources, exposures, versions, functions and descriptions, all that is drawn of those."""

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
drawn = []
for _ in range(int(sys.argv[3]) if sys.argv[2:] else 0):
    varied = {}
    exec(compile(open(sys.argv[2]).read(), sys.argv[2], "exec"), varied)
    drawn.append({dag.dag_id: SerializedDagModel.hash(DagSerialization.to_dict(dag)) for dag in varied.values() if isinstance(dag, DAG)})
print(json.dumps({
    "cpu": cpu,
    "tasks": len(names["dag"].tasks),
    "imported": imported,
    "opened": opened,
    "hash": SerializedDagModel.hash(stored),
    "varied": drawn,
    "stored": len(json.dumps(stored, separators=(",", ":"))),
}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "fhir", *fhir_nodes(), project="fhir")


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    """A DAG file of the kitchen-sink project, of which dbt 1.11 wrote the manifest."""
    folder = write_project(tmp_path / "kitchen", project="kitchen")
    (folder / "target" / "manifest.json").write_bytes(real_manifest("1.11"))
    file = tmp_path / "varied_dag.py"
    file.write_text(VARIED_FILE.format(project=str(folder)))
    return file


def parse(project: Path, seed: int = 0, render: str = "", more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Parse the DAG file in a process of its own; its random seed is that of the hashes of strings, and so of the order of sets.

    :param more: another DAG file, and how often that is parsed in the same process.
    """
    dag_file = project.parent / "fhir_dag.py"
    dag_file.write_text(DAG_FILE.format(project=str(project), render=render))
    env = {**os.environ, CACHE_ENV: str(project.parent / "cache"), "PYTHONHASHSEED": str(seed)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled after the first parse, as it is in a deployment
    done = subprocess.run([sys.executable, "-c", MEASURE, str(dag_file), *more], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_a_parse_is_cheap_and_always_the_same(project: Path, varied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first parse reads a manifest, the others a cache. Airflow writes a new version of a DAG when its hash is another (``SerializedDagModel.write_dag``)."""
    manifest = project / "target" / "manifest.json"
    first = parse(project, seed=1, more=(str(varied), "10"))
    assert str(manifest) in first["opened"]
    second = parse(project, seed=2, more=(str(varied), "10"))
    with capsys.disabled():
        print(  # noqa: T201 - the figure is what the test is for
            f"\nparse beyond `import airflow.sdk`: {first['cpu']:.2f} s CPU at first, "
            f"{second['cpu']:.2f} s from its cache; {second['tasks']} tasks, {second['stored']} bytes stored"
        )
    assert second["tasks"] == 1 + 198 + 2 + 1
    assert str(manifest) not in second["opened"]
    assert first["hash"] == second["hash"]
    parses = [*first["varied"], *second["varied"]]
    assert (len(parses), set(parses[0])) == (20, {"fine", "coarse", "told", "bigger"})
    assert all(one == parses[0] for one in parses)
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
