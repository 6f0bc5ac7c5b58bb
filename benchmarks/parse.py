"""`python -m benchmarks.parse [--json]`: what a DAG file costs whoever parses it, and Airflow's database, by size of the project.

Each parse is a fork of a process that has imported `airflow.sdk`, as in Airflow's dag-processor: the CPU time of the DAG file alone, at first and with
the project's view in its cache (the best of three), the import of this package included; and that of an equal DAG beside it, the same tasks, groups and
edges, of nothing but Airflow's own sensors and ``set_upstream``. Bytes are those of the serialized DAG, as JSON without spaces.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

SIZES = (185, 1000, 3000)
WAYS = {
    "a task per node": "RenderConfig()",
    "and its documentation": "RenderConfig(docs=True)",
    "task groups by folder": "RenderConfig(group_nodes_by_folder=True)",
    "a task per folder (60)": 'RenderConfig(granularity="folder")',
}
TARGETS = {185: 0.3, 1000: 1.0}
"""CPU seconds beyond the import of Airflow, from the cache."""
_FOLDERS = 60
_TESTS = 2
_TESTED = 2
"""Every second model has two tests."""
_ROUNDS = 3

_DAG_FILE = """
from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

dag = DbtDag(
    "big",
    project_config=ProjectConfig({project!r}),
    profile_config=ProfileConfig(profile_name="big"),
    execution_config=ExecutionConfig(ledger_uri="s3://company-data-platform/ledgers/prod"),
    render_config={render},
    default_args={{"retries": 1, "owner": "data"}},
)
"""
_MEASURE = """
import gc, json, os, sys, time
import airflow.sdk
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, TaskGroup
from airflow.serialization.serialized_objects import DagSerialization

size = lambda value: len(json.dumps(value, separators=(",", ":")))

def drawn_plainly(dag):
    began = time.process_time()
    groups, made = {None: None}, {}

    def like(group):
        if group.group_id not in groups:
            groups[group.group_id] = TaskGroup(group.label, parent_group=like(group.parent_group))
        return groups[group.group_id]

    with DAG(dag.dag_id, default_args=dag.default_args):
        for task in dag.tasks:
            group = like(task.task_group)
            made[task.task_id] = BaseSensorOperator(task_id=task.label, timeout=60, **({"task_group": group} if group else {}))
        for task in dag.tasks:
            made[task.task_id].set_upstream([made[one] for one in sorted(task.upstream_task_ids)])
    return time.process_time() - began

gc.freeze()  # as airflow/dag_processing/manager.py: what Airflow has imported is not looked through in each parse
for turn, dag_file in enumerate(sys.argv[1:]):
    if os.fork() == 0:
        code, names = compile(open(dag_file).read(), dag_file, "exec"), {}
        began = time.process_time()
        exec(code, names)
        cpu = time.process_time() - began
        if turn:
            print(json.dumps({"cpu": cpu, "plain": drawn_plainly(names["dag"])}), flush=True)
            os._exit(0)
        stored = DagSerialization.to_dict(names["dag"])
        tasks = [task["__var"] for task in stored["dag"]["tasks"]]
        ours = [size(task) for task in tasks if task["task_type"].endswith("WatcherOperator") and "Producer" not in task["task_type"]]
        print(json.dumps({"cpu": cpu, "tasks": len(tasks), "stored": size(stored), "consumers": len(ours), "of_consumers": sum(ours)}), flush=True)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(1)
"""
_VERSION = """
import sys
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization

names = {}
exec(open(sys.argv[1]).read(), names)
print("version", SerializedDagModel.hash(DagSerialization.to_dict(names["dag"])))
"""
"""Airflow writes a new version of a DAG when this hash is another (``SerializedDagModel.write_dag``)."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The raw figures.")
@click.option("--parses", default=20, show_default=True, help="How often the first project is parsed to count versions of its DAG.")
@click.option("--sizes", default=",".join(map(str, SIZES)), show_default=True, help="Models of the projects.")
def main(*, as_json: bool, parses: int, sizes: str) -> None:
    """Measure each way to draw projects of these sizes; it takes a minute."""
    rows, found = [], set[str]()
    models = [int(one) for one in sizes.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        for size in models:
            project = write_project(Path(folder) / str(size), size)
            rows += [{"models": size, "way": way, **measured(project, render)} for way, render in WAYS.items()]
        if parses:
            found = versions(Path(folder) / str(models[0]), parses)
    about = f"python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    told = f"{parses} parses of {models[0]} models, each in a process with a hash seed of its own: {len(found)} version(s) of the DAG"
    raw = {"about": about, "rows": rows, "parses": parses, "versions": sorted(found)}
    click.echo(json.dumps(raw, indent=1) if as_json else "\n\n".join([table(rows), *([told] if parses else []), about]))


def measured(project: Path, render: str) -> dict[str, Any]:
    """What parsing a DAG file of this project costs, drawn in this way."""
    dag_file = project / "dag.py"
    dag_file.write_text(_DAG_FILE.format(project=str(project), render=render), "utf-8")
    with tempfile.TemporaryDirectory() as home:
        said = _said(_MEASURE, [str(dag_file)] * (1 + _ROUNDS), home)
    first, *later = [json.loads(line) for line in said if line.startswith("{")]
    return {**first, "cpu_first": first["cpu"], **{name: min(one[name] for one in later) for name in ("cpu", "plain")}}


def versions(project: Path, parses: int) -> set[str]:
    """The hashes of the DAG, a task per node, of so many parses, the first of which fills the cache."""
    dag_file = project / "dag.py"
    dag_file.write_text(_DAG_FILE.format(project=str(project), render=next(iter(WAYS.values()))), "utf-8")
    with tempfile.TemporaryDirectory() as home:
        said = [_said(_VERSION, [str(dag_file)], home, PYTHONHASHSEED=str(seed)) for seed in range(1, parses + 1)]
    return {line for lines in said for line in lines if line.startswith("version ")}


def _said(code: str, arguments: list[str], home: str, **more: str) -> list[str]:
    """The lines that this program prints, in an Airflow of its own."""
    own = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "LEDGER_WATCHER_CACHE_DIR": f"{home}/cache"}
    argv = [sys.executable, "-c", code, *arguments]
    env = {**os.environ, **own, **more}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # else each parse would compile this package; in a deployment, pip has
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise click.ClickException(done.stderr)
    return done.stdout.splitlines()


def table(rows: list[dict[str, Any]]) -> str:
    """A table for a page or a terminal."""
    lines = [
        "| models (and tests) | drawn as | tasks | CPU s, first | CPU s, cached | of Airflow's sensors | target | bytes stored | bytes a consumer |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        most = TARGETS.get(row["models"])
        target = "" if most is None else f"at most {most}: {'met' if row['cpu'] <= most else '**missed**'}"
        lines.append(
            f"| {row['models']:,} ({row['models'] * _TESTS // _TESTED:,}) | {row['way']} | {row['tasks']:,} | {row['cpu_first']:.2f} | {row['cpu']:.2f} | {row['plain']:.2f} | {target} "
            f"| {row['stored']:,} | {row['of_consumers'] / row['consumers']:,.0f} |"
        )
    return "\n".join(lines)


def write_project(folder: Path, models: int) -> Path:
    """A project of so many models, every second one with two tests, each with a description and code, in 60 folders, two parents a model."""
    nodes: dict[str, Any] = {}
    for i in range(models):
        name, place = f"customer_orders_{i:04}", f"models/area_{i * _FOLDERS // models:02}"
        parents = [f"model.big.customer_orders_{j:04}" for j in sorted({i // 2, i // 3}) if 0 < j < i]
        more = {"config": {"materialized": "table"}, "relation_name": f'"big"."main"."{name}"', "raw_code": "select 1 as x\n" * 40}
        nodes[f"model.big.{name}"] = {
            **_node("model", name, f"{place}/{name}.sql", parents),
            **more,
            "description": f"Orders, part {i}. " * 5,
        }
        for test in ("not_null", "unique") if i % _TESTED == 0 else ():
            uid = f"{test}_{name}_id"
            nodes[f"test.big.{uid}.{i:010x}"] = {
                **_node("test", uid, f"{place}/schema.yml", [f"model.big.{name}"]),
                "unique_id": f"test.big.{uid}.{i:010x}",
            }
    manifest = {
        "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "project_name": "big"},
        "nodes": nodes,
    }
    (folder / "target").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text("name: big\nprofile: big\n", "utf-8")
    (folder / "target" / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return folder


def _node(kind: str, name: str, path: str, parents: list[str]) -> dict[str, Any]:
    return {
        "unique_id": f"{kind}.big.{name}",
        "resource_type": kind,
        "package_name": "big",
        "name": name,
        "original_file_path": path,
        "depends_on": {"nodes": parents},
    }


if __name__ == "__main__":
    main()
