"""Users' own tasks for some nodes, others changed a little, exposures as end points.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``, ``JAFFLE_LEDGER`` the ledger (a folder or ``s3://bucket/prefix``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseOperator, TaskGroup

from ledger_watcher_airflow import DbtDag, DbtNode, DbtResourceType, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))
ledger = os.environ.get("JAFFLE_LEDGER", "/tmp/ledgers")  # noqa: S108 - an example's default


def notify(node: DbtNode, task_id: str, task_group: TaskGroup | None, **_: Any) -> BaseOperator:
    """A task of one's own, with the id and the group that it is given."""
    return EmptyOperator(task_id=task_id, task_group=task_group, doc_md=f"{node.name} of {node.package_name} can be refreshed.")


def by_size(node: DbtNode, make_task: Callable[..., BaseOperator], **_: Any) -> BaseOperator:
    """The task that there would have been, with other arguments."""
    return make_task(pool="big") if "big" in node.tags else make_task()


DbtDag(
    "jaffle_converters",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
    execution_config=ExecutionConfig(ledger_uri=ledger),
    render_config=RenderConfig(
        node_converters={DbtResourceType.EXPOSURE: notify, DbtResourceType.MODEL: by_size},
        normalize_task_display_name=lambda node: node.name.replace("_", " "),
    ),
)
