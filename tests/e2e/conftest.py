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
from tests.e2e.scenes import parse
from tests.e2e.statements import FOLDER_ENV

HERE = Path(__file__).parent
PROJECTS = HERE / "projects"
EXAMPLES = HERE.parents[1] / "operators" / "ledger_watcher_airflow" / "example_dags" / "dbt"


@pytest.fixture(scope="session")
def s3() -> Iterator[SimpleNamespace]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the projects, their databases and the local ledger are."""
    folder = tmp_path_factory.mktemp("e2e")
    own = PROJECTS / "broken", {"BROKEN_DUCKDB_PATH": str(folder / "own" / "own.duckdb")}  # its manifest names the database
    sources = {
        "jaffle_local": (EXAMPLES / "jaffle", {}),
        "regions": (PROJECTS / "regions", {"REGIONS_DUCKDB_PATH": ":memory:"}),
        "broken": (PROJECTS / "broken", {"BROKEN_DUCKDB_PATH": ":memory:"}),
        "own": own,
        "each": (PROJECTS / "each", {"EACH_DUCKDB_PATH": ":memory:"}),
        "sourced": (PROJECTS / "sourced", {}),
    }
    for name, (source, _) in sources.items():
        shutil.copytree(source, folder / name)
    write_counted(folder / "counted")
    parse({**{folder / name: env for name, (_, env) in sources.items()}, folder / "counted": {}})
    plan(folder / "sourced", "--selector", "shown")
    for name in ("jaffle_s3", "jaffle_group", "jaffle_first", "jaffle_second"):
        shutil.copytree(folder / "jaffle_local", folder / name)
    for name in ("no_bucket", "told"):
        shutil.copytree(folder / "broken", folder / name)
    return folder


def write_counted(project: Path) -> None:
    """Two layers of fifteen views: enough of them that a statement for each node shows."""
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text("name: counted\nprofile: counted\n")
    (project / "profiles.yml").write_text(
        f"counted: {{target: dev, outputs: {{dev: {{type: duckdb, path: '{project}/counted.duckdb'}}}}}}\n"
    )
    for number in range(15):
        (project / "models" / f"upper_{number:02}.sql").write_text("select 1 as id\n")
        (project / "models" / f"lower_{number:02}.sql").write_text(f"select id from {{{{ ref('upper_{number:02}') }}}}\n")  # noqa: S608 - ours


def plan(project: Path, *words: str) -> None:
    """A plan of what these words select, beside the project; and the manifest goes, so that nothing else can be drawn."""
    tools = Path(sys.executable).parent
    dbt = [tools / "dbt", "build", "--project-dir", project, "--profiles-dir", project, *words]
    command = [tools / "ledger-watcher", "plan", "--output", project.with_suffix(".json"), "--", *dbt]
    subprocess.run(command, check=True, env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"})
    (project / "target" / "manifest.json").unlink()


@pytest.fixture(scope="session")
def airflow(home: Path, s3: SimpleNamespace) -> Iterator[AirflowStack]:
    """The real thing: scheduler with LocalExecutor, dag-processor, two triggerers, api-server."""
    env = {
        **s3.env,
        "E2E_HOME": str(home),
        "E2E_S3_LEDGER": s3.ledger,
        "LEDGER_WATCHER_CACHE_DIR": str(home / "cache"),
        "JAFFLE_LEDGER": str(home / "ledger"),  # of the example DAGs, and what they ask of a deployment
        "AIRFLOW_CONN_JAFFLE_DUCKDB": "duckdb://",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "OPENLINEAGE__TRANSPORT__TYPE": "file",  # for whoever asks for it: a DAG's LEDGER_WATCHER_EMIT
        "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH": str(home / "openlineage.jsonl"),
        "OPENLINEAGE__TRANSPORT__APPEND": "true",
        FOLDER_ENV: str(home / "statements"),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",  # a file is parsed when it changes; again and again costs a third of a core
    }
    (home / "statements").mkdir()
    (home / "airflow" / "config").mkdir(parents=True)
    shutil.copy(HERE / "statements.py", home / "airflow" / "config" / "airflow_local_settings.py")
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
