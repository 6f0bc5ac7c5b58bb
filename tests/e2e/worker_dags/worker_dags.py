"""Nodes' tasks that wait on workers, and some that only end there because a function is to be called."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

HERE = Path(os.environ["E2E_HOME"])
CALLED = HERE / "called"


def dag(dag_id: str, **operator_args: object) -> None:
    folder = HERE / dag_id
    DbtDag(
        dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        project_config=ProjectConfig(dbt_project_path=folder, env_vars={"BROKEN_DUCKDB_PATH": str(folder / "broken.duckdb")}),
        profile_config=ProfileConfig(profile_name="broken", profiles_yml_filepath=folder / "profiles.yml"),
        execution_config=ExecutionConfig(ledger_uri=str(HERE / "ledger")),
        render_config=RenderConfig(emit_datasets=False),  # not what is looked at there
        operator_args=operator_args,
    )


def note(kind: str, task_id: str, content: object) -> None:
    CALLED.mkdir(exist_ok=True)
    (CALLED / f"{kind}-{task_id}.json").write_text(json.dumps(content))


def succeeded(context: Any) -> None:  # noqa: ANN401 - Airflow's context
    note("success", context["ti"].task_id, str(context["ti"].state))


def failed(context: Any) -> None:  # noqa: ANN401 - as above
    note("failure", context["ti"].task_id, None)


def warned(context: Any) -> None:  # noqa: ANN401 - as above
    note("warning", context["ti"].task_id, dict(zip(context["test_names"], context["test_results"], strict=True)))


def keep_artifacts(project_dir: str, context: Any, name: str) -> None:  # noqa: ANN401 - as above
    results = json.loads((Path(project_dir) / "target" / name).read_text())["results"]
    note("artifacts", context["ti"].task_id, sorted(result["unique_id"] for result in results))


dag("without_triggerer", deferrable=False, mode="reschedule", poke_interval=3)
dag("waits_in_place", deferrable=False)
dag(
    "called_back",
    on_success_callback=succeeded,
    on_failure_callback=failed,
    on_warning_callback=warned,
    callback=keep_artifacts,
    callback_args={"name": "run_results.json"},
)
