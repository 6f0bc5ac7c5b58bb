"""The deployment's only DAG: the project is in the home of one worker, and in the DAGs' folder is its manifest."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig

DbtDag(
    "shop",
    schedule=None,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=1)},
    project_config=ProjectConfig("~/shop", manifest_path=Path(__file__).with_name("shop.json")),
    profile_config=ProfileConfig(profile_name="shop"),
    execution_config=ExecutionConfig(ledger_uri=os.environ["SHOP_LEDGER"], setup_operator_args={"queue": "dbt"}),
)
