"""What to call when: a node failed, a test warned, dbt has ended and its artifacts are there.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``, ``JAFFLE_LEDGER`` the ledger (a folder or ``s3://bucket/prefix``).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))
ledger = os.environ.get("JAFFLE_LEDGER", "/tmp/ledgers")  # noqa: S108 - an example's default


def tell_of_warnings(context: dict[str, Any]) -> None:
    """Called once for each task whose nodes warned."""
    print(context["ti"].task_id, list(zip(context["test_names"], context["test_results"], strict=True)))  # noqa: T201 - into its log


def tell_of_failure(context: dict[str, Any]) -> None:
    """Airflow's own callback, of the task of each node."""
    print(context["ti"].task_id, "failed")  # noqa: T201


def upload(project_dir: str, *, bucket: str) -> None:
    """Called when dbt has ended, however it ended; its artifacts are below ``target``."""
    print(sorted(path.name for path in Path(project_dir, "target").glob("*.json")), "would go to", bucket)  # noqa: T201


DbtDag(
    "jaffle_callbacks",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
    execution_config=ExecutionConfig(ledger_uri=ledger),
    on_warning_callback=tell_of_warnings,
    operator_args={"callback": upload, "callback_args": {"bucket": "dbt-artifacts"}},
    default_args={"on_failure_callback": tell_of_failure},
)
