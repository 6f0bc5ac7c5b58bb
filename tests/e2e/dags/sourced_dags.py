"""Sources, one of them stale, and a test that fails when all is built; drawn from a plan that leaves a model out."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import (
    DbtDag,
    ExecutionConfig,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
    SourceRenderingBehavior,
    TestBehavior,
)

HERE = Path(os.environ["E2E_HOME"])

DbtDag(
    "sourced",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=HERE / "sourced"),
    profile_config=ProfileConfig(profile_name="sourced", profiles_yml_filepath=HERE / "sourced" / "profiles.yml"),
    execution_config=ExecutionConfig(ledger_uri=str(HERE / "ledger")),
    render_config=RenderConfig(
        plan_path=HERE / "sourced.json",
        source_rendering_behavior=SourceRenderingBehavior.ALL,
        test_behavior=TestBehavior.AFTER_ALL,
    ),
)
