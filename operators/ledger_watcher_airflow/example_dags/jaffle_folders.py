"""Task groups as the project's folders lie, owners and documentation from dbt, its tags on the DAG.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``, ``JAFFLE_LEDGER`` the ledger (a folder or ``s3://bucket/prefix``).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))
ledger = os.environ.get("JAFFLE_LEDGER", "/tmp/ledgers")  # noqa: S108 - an example's default

DbtDag(
    "jaffle_folders",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
    execution_config=ExecutionConfig(ledger_uri=ledger),
    render_config=RenderConfig(group_nodes_by_folder=True, enable_tag_inheritance=True, docs=True),
)
