"""The jaffle project as DAGs: on a local ledger, on S3, and as task groups in a bigger DAG."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup

from ledger_watcher_airflow import (
    DbtDag,
    DbtResourceType,
    DbtTaskGroup,
    ExecutionConfig,
    InvocationMode,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
)

HERE = Path(os.environ["E2E_HOME"])
COMMON = {"schedule": None, "start_date": datetime(2026, 1, 1), "catchup": False}


def dbt(project: str, ledger: str, **execution: object) -> dict[str, object]:
    """Each DAG has a project folder and a DuckDB file of its own: DuckDB lets one process write at a time."""
    folder = HERE / project
    env = {"JAFFLE_DUCKDB_PATH": str(folder / "jaffle.duckdb")}
    if project == "jaffle_local":
        env["LEDGER_WATCHER_EMIT"] = "openlineage"
    return {
        "project_config": ProjectConfig(dbt_project_path=folder, env_vars=env),
        "profile_config": ProfileConfig(profile_name="jaffle", profiles_yml_filepath=folder / "profiles.yml"),
        "execution_config": ExecutionConfig(ledger_uri=ledger, **execution),
    }


LOCAL = str(HERE / "ledger")
FOLDERS = RenderConfig(
    group_nodes_by_folder=True,
    node_converters={DbtResourceType.SEED: lambda task_id, task_group, **_: EmptyOperator(task_id=task_id, task_group=task_group)},
    docs=True,
)

DbtDag("jaffle_local", **COMMON, **dbt("jaffle_local", LOCAL), render_config=RenderConfig(emit_datasets=False))
DbtDag("jaffle_s3", **COMMON, **dbt("jaffle_s3", os.environ["E2E_S3_LEDGER"], invocation_mode=InvocationMode.SUBPROCESS))

with DAG("jaffle_group", **COMMON):
    before, after = EmptyOperator(task_id="before"), EmptyOperator(task_id="after")
    before >> DbtTaskGroup("dbt", **dbt("jaffle_group", LOCAL)) >> after

with DAG("jaffle_two_groups", **COMMON):  # of the same id, one of them two groups deep, whose tasks are called as if there were none
    with TaskGroup("first") as first:
        DbtTaskGroup("dbt", **dbt("jaffle_first", LOCAL), render_config=FOLDERS)
    with TaskGroup("second") as second, TaskGroup("inner"):
        DbtTaskGroup("dbt", prefix_group_id=False, **dbt("jaffle_second", LOCAL), render_config=RenderConfig(granularity="folder"))
    first >> second >> EmptyOperator(task_id="after")
