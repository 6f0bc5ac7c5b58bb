"""Projects of any size that nobody builds: a manifest, the order in which their nodes end, and a DAG file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAYERS = 20
WAYS = {"": "", "folder": ", a task per folder", "early": ", tasks start with the run"}
_PARTS = 3
"""Folders of each layer."""
_DAG = """# airflow dag
import sys
from datetime import datetime

from airflow.providers.standard.operators.bash import BashOperator

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig


def replay(command):
    words = {words!r}
    return BashOperator(
        **{{**command.task_args, "task_id": command.task_id}},
        bash_command=" ".join(["exec", *words, {dag_id!r}, "'{{{{ run_id }}}}'"]),
        append_env=True,
    )


dag = DbtDag(
    {dag_id!r},
    schedule=None,
    start_date=datetime(2026, 1, 1),
    project_config=ProjectConfig({project!r}),
    profile_config=ProfileConfig(profile_name="big"),
    execution_config=ExecutionConfig(ledger_uri={ledger!r}, producer=replay, start_with_run={early}),
    render_config=RenderConfig(emit_datasets=False, granularity={granularity!r}),
)
"""


@dataclass(frozen=True, slots=True)
class Size:
    """``models`` in 20 layers, each with two parents in the layer above.

    ``way``: nothing, ``folder`` (a task for each of 60 folders instead of each model) or ``early`` (tasks start with the run).
    """

    models: int
    way: str = ""

    @staticmethod
    def parse(text: str) -> Size:
        """Of ``1000``, ``1000:early`` or ``3000:folder``.

        :raises ValueError: it is neither, or less than three models for each layer.
        """
        number, _, way = text.partition(":")
        if way not in WAYS or int(number) < _PARTS * LAYERS:
            raise ValueError(text)
        return Size(int(number), way)

    @property
    def dag_id(self) -> str:
        """Of its DAG."""
        return f"scale_{self.models}{self.way and '_'}{self.way}"

    def nodes(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Name, folder and the numbers of the parents of each model, parents first."""
        found: list[tuple[str, str, tuple[int, ...]]] = []
        above: range = range(0)
        for layer in range(LAYERS):
            row = range(layer * self.models // LAYERS, (layer + 1) * self.models // LAYERS)
            for place, _ in enumerate(row):
                parents = sorted({above[(place + more) % len(above)] for more in (0, 1)}) if above else []
                folder = f"layer_{layer:02}_{place * _PARTS // len(row)}"
                found.append((f"orders_{layer:02}_{place:04}", folder, tuple(parents)))
            above = row
        return found

    def task_of(self) -> dict[str, str]:
        """The task of each node."""
        return {unique_id(name): f"models_{folder}_build" if self.way == "folder" else f"{name}_run" for name, folder, _ in self.nodes()}


def unique_id(name: str) -> str:
    """dbt's."""
    return f"model.big.{name}"


def write(size: Size, home: Path, *, dags: Path, python: str, rate: float) -> None:
    """The project below ``home``, and its DAG."""
    folder, nodes = home / size.dag_id, size.nodes()
    (folder / "target").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text("name: big\nprofile: big\n", "utf-8")
    order = folder / "order"
    order.write_text("\n".join(unique_id(name) for name, _, _ in nodes), "utf-8")
    models: dict[str, Any] = {
        unique_id(name): {
            "unique_id": unique_id(name),
            "resource_type": "model",
            "package_name": "big",
            "name": name,
            "original_file_path": f"models/{place}/{name}.sql",
            "config": {"materialized": "table"},
            "depends_on": {"nodes": [unique_id(nodes[number][0]) for number in parents]},
        }
        for name, place, parents in nodes
    }
    metadata = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "project_name": "big"}
    (folder / "target" / "manifest.json").write_text(json.dumps({"metadata": metadata, "nodes": models}), "utf-8")
    ledger = str(home / "ledger")
    text = _DAG.format(
        words=[python, str(Path(__file__).with_name("_replay.py")), str(order), str(rate), ledger],
        dag_id=size.dag_id,
        project=str(folder),
        ledger=ledger,
        granularity="folder" if size.way == "folder" else "node",
        early=size.way == "early",
    )
    (dags / f"{size.dag_id}.py").write_text(text, "utf-8")
