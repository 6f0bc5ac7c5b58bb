"""The kinds of run, and the DAG files of those that Airflow does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.airflow._projects import PROFILE
from benchmarks.airflow._servers import BUCKET


@dataclass(frozen=True, slots=True)
class Arm:
    """A kind of run. ``environment``: its folder in ``.work/bench``; ``mode`` of whose ``ExecutionMode``, ``None`` for dbt alone."""

    name: str
    title: str
    environment: str = "own"
    mode: str | None = None
    s3: bool = False
    flags: tuple[str, ...] = ()
    """That it gives dbt beside those of a plain one: dbt parses anew where those of the run before were others (``vars_hash`` in dbt's parser/manifest.py)."""
    execution: str = ""
    """More arguments of its ``ExecutionConfig``."""

    def dag_id(self, project: str) -> str:
        """Of this kind of run of a project."""
        return f"{project}_{self.name}"


ARMS = {
    arm.name: arm
    for arm in (
        Arm("cli", "`dbt build`"),
        Arm("watcher", "WATCHER, ledger in a folder", mode="WATCHER"),
        Arm("s3", "WATCHER, ledger on S3 (moto)", mode="WATCHER", s3=True),
        Arm("early", "WATCHER, tasks start with the run", mode="WATCHER", execution=", start_with_run=True"),
        Arm("local", "LOCAL", mode="LOCAL"),
        Arm("cosmos", "astronomer-cosmos WATCHER", environment="cosmos", mode="WATCHER", flags=("--profile", PROFILE, "--target", "dev")),
    )
}
DBT = ARMS["cli"]

_OWN = """# airflow dag
from datetime import datetime

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ExecutionMode, ProfileConfig, ProjectConfig

dag = DbtDag(
    {dag_id!r},
    schedule=None,
    start_date=datetime(2026, 1, 1),
    project_config=ProjectConfig({project!r}),
    profile_config=ProfileConfig(profile_name={profile!r}, profiles_yml_filepath={profiles!r}),
    execution_config=ExecutionConfig(execution_mode=ExecutionMode.{mode}{ledger}{execution}),
)
"""
_COSMOS = """# airflow dag
from datetime import datetime

from cosmos import DbtDag, ExecutionConfig, ExecutionMode, LoadMode, ProfileConfig, ProjectConfig, RenderConfig

dag = DbtDag(
    dag_id={dag_id!r},
    schedule=None,
    start_date=datetime(2026, 1, 1),
    project_config=ProjectConfig(dbt_project_path={project!r}, manifest_path={manifest!r}),
    profile_config=ProfileConfig(profile_name={profile!r}, target_name="dev", profiles_yml_filepath={profiles!r}),
    execution_config=ExecutionConfig(execution_mode=ExecutionMode.{mode}),
    render_config=RenderConfig(load_method=LoadMode.DBT_MANIFEST),
)
"""


def write_dag(arm: Arm, project: str, folder: Path, *, dags: Path, ledgers: Path) -> None:
    """The DAG file of a project in ``folder``, with the defaults of whoever runs it."""
    root = f"s3://{BUCKET}/bench" if arm.s3 else str(ledgers)
    text = (_COSMOS if arm.environment == "cosmos" else _OWN).format(
        dag_id=arm.dag_id(project),
        project=str(folder),
        manifest=str(folder / "target" / "manifest.json"),
        profile=PROFILE,
        profiles=str(folder / "profiles.yml"),
        mode=arm.mode,
        execution=arm.execution,
        ledger=f", ledger_uri={root!r}" if arm.mode == "WATCHER" else "",
    )
    (dags / f"{arm.dag_id(project)}.py").write_text(text, "utf-8")
