"""One real Airflow, one real S3 server (moto) and the projects that the end-to-end tests run, started once per session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.airflow_stack import AirflowStack
from scripts.postgres import HOST, Postgres
from tests.e2e.moto import moto_server

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "operators" / "ledger_watcher_airflow" / "example_dags" / "dbt"


@pytest.fixture(scope="session")
def s3() -> Iterator[SimpleNamespace]:
    with moto_server() as server:
        yield server


def prepare(source: Path, target: Path, env: dict[str, str]) -> None:
    """A copy of a dbt project with its manifest, as a deployment has it."""
    shutil.copytree(source, target)
    dbt = Path(sys.executable).with_name("dbt")
    subprocess.run(
        [dbt, "parse", "--project-dir", target, "--profiles-dir", target, "--quiet"],
        check=True,
        cwd=target,
        env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", **env},
    )


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the projects, their databases and the local ledger are."""
    folder = tmp_path_factory.mktemp("e2e")
    prepare(EXAMPLES / "jaffle", folder / "jaffle_local", {})
    prepare(HERE / "projects" / "regions", folder / "regions", {"REGIONS_DUCKDB_PATH": ":memory:"})
    for name in ("jaffle_s3", "jaffle_group", "jaffle_first", "jaffle_second"):
        shutil.copytree(folder / "jaffle_local", folder / name)
    prepare(HERE / "projects" / "broken", folder / "broken", {"BROKEN_DUCKDB_PATH": ":memory:"})
    for name in ("no_bucket", "told"):
        shutil.copytree(folder / "broken", folder / name)
    prepare(HERE / "projects" / "broken", folder / "own", {"BROKEN_DUCKDB_PATH": str(folder / "own" / "own.duckdb")})  # names the database
    prepare(HERE / "projects" / "each", folder / "each", {"EACH_DUCKDB_PATH": ":memory:"})
    prepare(HERE / "projects" / "sourced", folder / "sourced", {})
    return folder


@pytest.fixture(scope="session")
def airflow(home: Path, s3: SimpleNamespace) -> Iterator[AirflowStack]:
    """The real thing: scheduler with LocalExecutor, dag-processor, two triggerers, api-server."""
    env = {
        **s3.env,
        "E2E_HOME": str(home),
        "E2E_S3_LEDGER": s3.ledger,
        "LEDGER_WATCHER_CACHE_DIR": str(home / "cache"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    dags = home / "dags"
    shutil.copytree(HERE / "dags", dags)
    with _database() as url, AirflowStack(home / "airflow", dags, env=env, database_url=url, triggerers=2) as stack:
        yield stack


@contextmanager
def _database() -> Iterator[str | None]:
    """Where Airflow keeps its metadata: in SQLite, or, with LEDGER_WATCHER_E2E_DATABASE=postgresql, in a PostgreSQL of its own."""
    name = os.environ.get("LEDGER_WATCHER_E2E_DATABASE", "sqlite")
    if name == "sqlite":
        yield None
        return
    if name != "postgresql":
        pytest.fail(f"LEDGER_WATCHER_E2E_DATABASE={name}: only sqlite and postgresql are known")
    with Postgres() as server:
        server.create_database("airflow")
        yield f"postgresql+psycopg2://{server.user}:{server.password}@{HOST}:{server.port}/airflow"
