"""What the pages' Python needs to be a DAG file that Airflow can import: the places it names, and what it leaves out with ``...``."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

from ledger_watcher.project import load_project
from ledger_watcher.project.plan import pack_plan
from tests.projects import node, write_project

IMPORTS = """
from datetime import datetime
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task_group
from ledger_watcher_airflow import *
"""
"""What short examples take for granted; those of the README and the tutorial import what they use."""

USUAL = """
__usual = dict(
    project_config=__import__("ledger_watcher_airflow").ProjectConfig("/opt/dbt/shop"),
    profile_config=__import__("ledger_watcher_airflow").ProfileConfig(profile_name="shop"),
    execution_config=__import__("ledger_watcher_airflow").ExecutionConfig(ledger_uri="s3://bucket/ledgers"),
)
"""


class _Filled(ast.NodeTransformer):
    """In the call of a DAG or group, ``...`` stands for the arguments that each has and this one does not name."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        rest = [one for one in node.args if not (isinstance(one, ast.Constant) and one.value is Ellipsis)]
        if len(rest) == len(node.args):
            return node
        named = {keyword.arg for keyword in node.keywords}
        given = ast.parse(f"{{name: value for name, value in __usual.items() if name not in {named!r}}}", mode="eval").body
        name = [] if rest or "dag_id" in named else [ast.Constant("example")]
        return ast.Call(node.func, [*rest, *name], [*node.keywords, ast.keyword(None, given)])


def dag_file(blocks: list[str], folder: Path, *, imports: str = "") -> str:
    """The blocks of a page, one after the other, as a DAG file whose places are in that folder."""
    text = imports + USUAL + "\n".join(textwrap.dedent(block) for block in blocks)
    text = ast.unparse(ast.fix_missing_locations(_Filled().visit(ast.parse(text))))
    text = text.replace(", plan_conn_id='aws_default'", "")  # no provider of Amazon's here; tests/e2e/test_s3.py has such a connection
    for there, here in (("/opt/", folder / "opt"), ("~/", folder / "home"), ("s3://bucket/shop/", folder / "bucket" / "shop")):
        text = text.replace(f"'{there}", f"'{here}/")
    return "# a dag of airflow\n" + text


def places(folder: Path) -> None:
    """The projects, profiles, manifests and plans that the pages name, of a few nodes."""
    for at, project in (("opt/dbt/jaffle", "jaffle"), ("opt/dbt/shop", "shop"), ("opt/shop", "shop"), ("home/shop", "shop")):
        place = write_project(folder / at, *_nodes(project), project=project)
        (place / "profiles.yml").write_text(f"{project}: {{target: dev, outputs: {{dev: {{type: duckdb, path: ':memory:'}}}}}}\n")
    manifest = folder / "opt" / "dbt" / "shop" / "target" / "manifest.json"
    for at, content in (
        ("opt/airflow/dags/shop.json", manifest.read_bytes()),
        ("bucket/shop/plan.json", pack_plan(load_project(manifest))),
        ("opt/dbt-venv/bin/dbt", b"#!/bin/sh\n"),
    ):
        (folder / at).parent.mkdir(parents=True, exist_ok=True)
        (folder / at).write_bytes(content)
        (folder / at).chmod(0o755)


def _nodes(project: str) -> Iterator[dict[str, object]]:
    yield node(f"seed.{project}.raw_customers")
    yield node(f"model.{project}.customers", f"seed.{project}.raw_customers", tags=["daily"])
    yield node(f"test.{project}.unique_customers.1", f"model.{project}.customers")
    yield node(f"model.{project}.orders", f"model.{project}.customers", config={"materialized": "table", "meta": {}})
    yield node(f"snapshot.{project}.orders_history", f"model.{project}.orders")
