"""dbt anywhere that a command can run. Here on the worker; a pod, a container, a job take the same place.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``, ``JAFFLE_LEDGER`` the ledger (a folder or ``s3://bucket/prefix``).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, bash_producer

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))
ledger = os.environ.get("JAFFLE_LEDGER", "/tmp/ledgers")  # noqa: S108 - an example's default

# kubernetes_producer(image="..."), docker_producer(image="..."), ecs_producer(...), cloud_run_producer(...): what they run needs
# ledger-watcher, dbt, the project and the right to write the ledger. Nothing but the command goes there.
DbtDag(
    "jaffle_remote_command",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
    execution_config=ExecutionConfig(
        producer=bash_producer(),  # watcher=["/opt/dbt-venv/bin/ledger-watcher"] where it is not on PATH
        ledger_uri=ledger,
    ),
)
