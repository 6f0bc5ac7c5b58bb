"""PostgreSQL for Airflow and for dbt, counted; S3, counted."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from benchmarks.airflow._projects import SCHEMA
from scripts.postgres import Postgres

BUCKET = "ledgers"
_SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track": "top"}
_TRANSITIONS = """
create table if not exists bench_transition (
  at timestamptz not null default clock_timestamp(), dag_id text, run_id text, task_id text, old text, new text);
create or replace function bench_transition() returns trigger language plpgsql security definer as $$
begin
  insert into bench_transition (dag_id, run_id, task_id, old, new) values (new.dag_id, new.run_id, new.task_id, old.state, new.state);
  return null;
end $$;
create or replace trigger bench_transition after update of state on task_instance for each row
  when (old.state is distinct from new.state) execute function bench_transition();
"""


@dataclass(frozen=True, slots=True)
class Databases:
    """One cluster: the database ``warehouse`` of the user ``dbt``, and one for each Airflow, of the user ``airflow``.

    What the benchmark itself asks, it asks as another user, so that it does not count.
    """

    server: Postgres

    def create_all(self, airflows: tuple[str, ...]) -> None:
        """Users and databases."""
        self.server.execute("create extension pg_stat_statements")
        for user in ("airflow", "dbt"):
            self.server.execute(f"create role {user} login password '{self.server.password}'")
        for name, owner in (("warehouse", "dbt"), *((name, "airflow") for name in airflows)):
            self.server.execute(f"create database {name} owner {owner}")

    def url(self, airflow: str) -> str:
        """SQLAlchemy's, for an Airflow."""
        return f"postgresql+psycopg2://airflow:{self.server.password}@127.0.0.1:{self.server.port}/{airflow}"

    def watch_tasks(self, airflow: str) -> None:
        """From now on, keep when each task instance changed its state, to the moment of the statement, in ``bench_transition``."""
        self.server.execute(_TRANSITIONS, database=airflow)

    def empty_warehouse(self) -> None:
        """As before the first run of dbt."""
        self.server.execute(f"set client_min_messages = warning; drop schema if exists {SCHEMA} cascade", database="warehouse")

    def reset(self) -> None:
        """Start counting anew."""
        self.server.execute("select pg_stat_statements_reset()")

    def statements(self, airflow: str) -> int:
        """What this Airflow executed since the reset; begin, commit and rollback are not counted."""
        ours = f"select oid from pg_database where datname = '{airflow}'"  # noqa: S608 - ours
        user = "select oid from pg_roles where rolname = 'airflow'"
        calls = f"select coalesce(sum(calls), 0) from pg_stat_statements where dbid = ({ours}) and userid = ({user})"  # noqa: S608 - ours
        return int(self.server.execute(f"{calls} and query !~* '^(begin|commit|rollback)'"))

    def writes(self, airflow: str, table: str) -> int:
        """Rows inserted and updated in a table, ever."""
        query = f"select n_tup_ins + n_tup_upd from pg_stat_user_tables where relname = '{table}'"  # noqa: S608 - ours
        return int(self.server.execute(query, database=airflow) or 0)


@contextmanager
def databases(*airflows: str) -> Iterator[Databases]:
    """A new cluster, gone at the end."""
    with Postgres(settings=_SETTINGS) as server:
        found = Databases(server)
        found.create_all(airflows)
        yield found


@dataclass(frozen=True, slots=True)
class Bucket:
    """moto's server in a process of its own. ``env`` points every S3 client at it."""

    pid: int
    env: dict[str, str]
    log: Path

    def requests(self) -> int:
        """That it has answered."""
        return self.log.read_text("utf-8", "replace").count(' HTTP/1.1"')


@contextmanager
def bucket(log: Path) -> Iterator[Bucket]:
    """S3 with an empty bucket. Its log, where every request is a line, is the count."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    env = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with log.open("wb") as out:
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(argv, stdout=out, stderr=out, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    try:
        session = requests.Session()
        retries = Retry(total=60, connect=60, backoff_factor=0.1, backoff_max=0.5)
        session.mount("http://", HTTPAdapter(max_retries=retries))
        session.put(f"{url}/{BUCKET}", timeout=5).raise_for_status()
        yield Bucket(server.pid, env, log)
    finally:
        server.terminate()
        server.wait(timeout=10)
