"""Sources as tasks: a stale one is skipped, and so is what has no others.

The example project has no sources: it would be drawn without them. Give it some.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``, ``JAFFLE_LEDGER`` the ledger (a folder or ``s3://bucket/prefix``).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig, SourceRenderingBehavior

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))
ledger = os.environ.get("JAFFLE_LEDGER", "/tmp/ledgers")  # noqa: S108 - an example's default

DbtDag(
    "jaffle_sources",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
    execution_config=ExecutionConfig(ledger_uri=ledger),
    render_config=RenderConfig(
        source_rendering_behavior=SourceRenderingBehavior.WITH_TESTS_OR_FRESHNESS,
        source_pruning=True,  # without those that nothing reads
    ),
)
