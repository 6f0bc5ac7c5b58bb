"""Projects behind a task that lets nobody through, and one whose producer gets no slot: their dbt is never started."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, get_current_context, task

from ledger_watcher_airflow import (
    DbtDag,
    DbtTaskGroup,
    ExecutionConfig,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
    SourceRenderingBehavior,
)

HERE = Path(os.environ["E2E_HOME"])
COMMON = {"schedule": None, "start_date": datetime(2026, 1, 1), "catchup": False}
SOURCES = {"plan_path": HERE / "sourced.json", "source_rendering_behavior": SourceRenderingBehavior.ALL}


def dbt(project: str, render: dict[str, object], **setup: object) -> dict[str, object]:
    return {
        "project_config": ProjectConfig(dbt_project_path=HERE / project),
        "profile_config": ProfileConfig(profile_name=project, profiles_yml_filepath=HERE / project / "profiles.yml"),
        "execution_config": ExecutionConfig(ledger_uri=str(HERE / "ledger"), setup_operator_args=setup),
        "render_config": RenderConfig(emit_datasets=False, **render),
    }


@task.branch
def way() -> list[str]:
    """No way at all, or an error."""
    if get_current_context()["dag_run"].conf["fail"]:
        raise RuntimeError("no way")
    return []


with DAG("gated", **COMMON):
    (
        way()
        >> [DbtTaskGroup("dbt", **dbt("broken", {})), DbtTaskGroup("sourced", **dbt("sourced", SOURCES))]
        >> EmptyOperator(task_id="after")
    )

with DAG("gated_anyway", **COMMON):  # its nodes' tasks run whatever was before them, so they wait for a producer that does not
    clean = EmptyOperator(task_id="clean").as_teardown()
    way() >> DbtTaskGroup("dbt", **dbt("broken", {}, trigger_rule="all_success"), operator_args={"trigger_rule": "all_done"}) >> clean

with DAG("gated_notice", **COMMON):
    way() >> DbtTaskGroup("dbt", **dbt("broken", {})) >> EmptyOperator(task_id="notice", trigger_rule="all_done")

DbtDag("held", **COMMON, **dbt("broken", {}, pool="no_such_pool"))
