"""`python -m benchmarks.parse [--json]`: what a DAG file costs whoever parses it, and Airflow's database, by size of the project.

Each parse is a fork of a process that has imported `airflow.sdk`, as in Airflow's dag-processor: the CPU time of the DAG file alone, at first and with
the project's view in its cache (the best of three), the import of this package included. Bytes are those of the serialized DAG, as JSON without spaces.
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
import json, os, sys, time
import airflow.sdk
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import DagSerialization

size = lambda value: len(json.dumps(value, separators=(",", ":")))
for turn, dag_file in enumerate(sys.argv[1:]):
    if os.fork() == 0:
        code, names = compile(open(dag_file).read(), dag_file, "exec"), {}
        began = time.process_time()
        exec(code, names)
        cpu = time.process_time() - began
        if turn:
            print(json.dumps({"cpu": cpu}), flush=True)
            os._exit(0)
        stored = DagSerialization.to_dict(names["dag"])
        tasks = [task["__var"] for task in stored["dag"]["tasks"]]
        ours = [size(task) for task in tasks if task["task_type"].endswith("WatcherOperator") and "Producer" not in task["task_type"]]
        print(json.dumps({"cpu": cpu, "tasks": len(tasks), "stored": size(stored), "consumers": len(ours), "of_consumers": sum(ours)}), flush=True)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(1)
"""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The raw figures.")
@click.option("--sizes", default=",".join(map(str, SIZES)), show_default=True, help="Models of the projects.")
def main(*, as_json: bool, sizes: str) -> None:
    """Measure each way to draw projects of these sizes; it takes a minute."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (int(one) for one in sizes.split(",")):
            project = write_project(Path(folder) / str(size), size)
            rows += [{"models": size, "way": way, **measured(project, render)} for way, render in WAYS.items()]
    about = f"python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    click.echo(json.dumps({"about": about, "rows": rows}, indent=1) if as_json else f"{table(rows)}\n\n{about}")


def measured(project: Path, render: str) -> dict[str, Any]:
    """What parsing a DAG file of this project costs, drawn in this way."""
    dag_file = project / "dag.py"
    dag_file.write_text(_DAG_FILE.format(project=str(project), render=render), "utf-8")
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "LEDGER_WATCHER_CACHE_DIR": f"{home}/cache"}
        argv = [sys.executable, "-c", _MEASURE, *[str(dag_file)] * (1 + _ROUNDS)]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise click.ClickException(done.stderr)
    first, *later = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {**first, "cpu_first": first["cpu"], "cpu": min(one["cpu"] for one in later)}


def table(rows: list[dict[str, Any]]) -> str:
    """A table for a page or a terminal."""
    lines = [
        "| models (and tests) | drawn as | tasks | CPU s, first | CPU s, cached | target | bytes stored | bytes a consumer |",
        "|---|---|---:|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        most = TARGETS.get(row["models"])
        target = "" if most is None else f"at most {most}: {'met' if row['cpu'] <= most else '**missed**'}"
        lines.append(
            f"| {row['models']:,} ({row['models'] * _TESTS // _TESTED:,}) | {row['way']} | {row['tasks']:,} | {row['cpu_first']:.2f} | {row['cpu']:.2f} | {target} "
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
