"""A distributed Airflow on one machine: run by ``make test-distributed``, whose environment has Celery and no dbt.

Scheduler, DAG processor, two triggerers and two Celery workers, each in a folder of its own that is its home, with its own environment; Redis,
PostgreSQL for metadata and as the warehouse, and S3 between them. Without ``LEDGER_WATCHER_DISTRIBUTED`` nothing here is collected.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.airflow_stack import AirflowStack
from scripts.postgres import HOST, Postgres
from tests.distributed.broker import redis
from tests.e2e.moto import moto_server

HERE = Path(__file__).parent
DBT = HERE.parents[1] / ".work" / "dbt" / "1.11" / "bin"
PLAIN_PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"
HOST_NAME = "import os\n\n\ndef name():\n    return os.path.basename(os.environ['AIRFLOW_HOME'])\n"

collect_ignore_glob = [] if "LEDGER_WATCHER_DISTRIBUTED" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """With the databases ``airflow`` and ``warehouse``."""
    with Postgres() as server:
        for name in ("airflow", "warehouse"):
            server.create_database(name)
        server.execute("create sequence shop_tries", database="warehouse")
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[SimpleNamespace]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Path:
    """Of all services: the project in the home of one worker, the manifest with the DAG."""
    folder = tmp_path_factory.mktemp("distributed")
    project = folder / "worker-dbt" / "shop"
    shutil.copytree(HERE / "project", project)
    shutil.copytree(HERE / "dags", folder / "dags")
    (folder / "lib").mkdir()
    (folder / "lib" / "host.py").write_text(HOST_NAME)
    subprocess.run([DBT / "dbt", "--quiet", "parse"], check=True, cwd=project, env={**os.environ, **postgres.env})
    shutil.copy(project / "target" / "manifest.json", folder / "dags" / "shop.json")
    return folder


@pytest.fixture(scope="session")
def airflow(home: Path, postgres: Postgres, s3: SimpleNamespace) -> Iterator[AirflowStack]:
    """What each service is told: the ledger's credentials to those that open it, the warehouse and dbt to one worker."""
    database = f"postgresql+psycopg2://{postgres.user}:{postgres.password}@{HOST}:{postgres.port}/airflow"
    apart: dict[str, dict[str, str]] = {
        "scheduler": {},
        "dag-processor": {},
        "triggerer": s3.env,
        "triggerer-2": s3.env,
        "worker-default": s3.env,
        "worker-dbt": {**s3.env, **postgres.env, "PATH": f"{DBT}:{PLAIN_PATH}"},
    }
    with redis(home) as broker:
        env = {
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "host.name",  # each service is a host of its own
            "PATH": PLAIN_PATH,
            "PYTHONPATH": f"{home / 'lib'}:{os.environ.get('PYTHONPATH', '')}",
            "SHOP_LEDGER": s3.ledger,
        }
        workers = {"worker-default": "default", "worker-dbt": "dbt"}
        stack = AirflowStack(home, home / "dags", env=env, database_url=database, triggerers=2, workers=workers, apart=apart)
        stack.start(timeout=300)
        try:
            yield stack
        finally:
            stack.stop()
