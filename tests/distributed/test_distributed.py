"""One run on Celery: who did what on which host, with a failing node that is retried and a triggerer that is killed."""

from __future__ import annotations

import importlib.util
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, text

from ledger_watcher.ledger import RunKey
from ledger_watcher.records import Outcome
from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack
from scripts.postgres import HOST, Postgres
from tests.distributed.conftest import PLAIN_PATH
from tests.e2e.scenes import PRODUCER, Attempt, attempts_of

pytestmark = pytest.mark.timeout(900)
RUN = {"d": "shop", "r": "one"}
NODES = {"colours_seed", "first.run", "first.test", "held_run", "below_held_run", "flaky_run", "below_flaky_run"}
LOCK = 4711
"""That of the model `held`, which is held up while a session of the test has it."""
WAITING = "select count(*) from pg_locks where locktype = 'advisory' and not granted"


@dataclass(frozen=True)
class Told:
    """What is left of the run when it has ended."""

    state: str
    killed: int
    """Id of the triggerer's job that was killed while it waited for ``held``."""
    attempts: list[Attempt]


@pytest.fixture(scope="module")
def told(airflow: AirflowStack, home: Path, postgres: Postgres, s3: SimpleNamespace) -> Iterator[Told]:
    """The run, with dbt held up until the triggerer that has the task of ``held`` is killed."""
    warehouse = create_engine(f"postgresql+psycopg2://{postgres.user}:{postgres.password}@{HOST}:{postgres.port}/warehouse")
    airflow.wait_for_dag("shop", 120)
    with warehouse.connect() as connection:
        connection.execute(text(f"select pg_advisory_lock({LOCK})"))
        airflow.trigger("shop", run_id="one")
        assert until(lambda: postgres.execute(WAITING) == "1", 180), airflow.task_instances("shop", "one")
        assert until(lambda: bool(_triggerer_of(airflow, "held_run")), 120), _states(airflow)
        ((killed, host),) = _triggerer_of(airflow, "held_run")
        assert until(lambda: "held_run/-1/1 " in _held_by(home).get(killed, ""), 60), _held_by(home)
        airflow.kill_service(host)
        connection.execute(text(f"select pg_advisory_unlock({LOCK})"))
    warehouse.dispose()
    state = airflow.wait_for_run("shop", "one", 300)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3.env.items():
            environment.setenv(name, value)
        yield Told(state, killed, attempts_of(s3.ledger, RunKey(dag_id="shop", run_id="one")))


def _states(airflow: AirflowStack) -> dict[str, str | None]:
    return {task["task_id"]: task["state"] for task in airflow.task_instances("shop", "one")}


def _triggerer_of(airflow: AirflowStack, task_id: str) -> list[tuple[int, str]]:
    """The job that has this task's trigger, and its host; nothing before a triggerer has taken it."""
    rows = airflow.sql(
        "select job.id, job.hostname from task_instance ti join trigger on trigger.id = ti.trigger_id join job on job.id = trigger.triggerer_id "
        "where ti.dag_id = :d and ti.run_id = :r and ti.task_id = :t",
        {**RUN, "t": task_id},
    )
    return [(job, host) for job, host in rows]


def _logs(home: Path, task_id: str) -> dict[str, set[str]]:
    """The log files of a task, by the host that wrote them."""
    found = defaultdict(set)
    for file in home.glob(f"*/logs/dag_id=shop/run_id=one/task_id={task_id}/*"):
        found[file.relative_to(home).parts[0]].add(file.name)
    return dict(found)


def _held_by(home: Path) -> dict[int, str]:
    """The log of `held` in each triggerer that had it, by the id of the triggerer's job."""
    files = home.glob("triggerer*/logs/dag_id=shop/run_id=one/task_id=held_run/attempt=1.log.trigger.*.log")
    return {int(file.name.split(".")[-2]): file.read_text() for file in files}


def test_dbt_is_on_one_host_only() -> None:
    assert importlib.util.find_spec("dbt") is None
    assert shutil.which("dbt", path=PLAIN_PATH) is None


def test_every_task_succeeds(told: Told, airflow: AirflowStack) -> None:
    assert told.state == "success"
    assert _states(airflow) == dict.fromkeys({PRODUCER, "dbt_assets", *NODES}, "success")


def test_only_what_runs_dbt_is_on_the_host_that_has_it(told: Told, airflow: AirflowStack, home: Path) -> None:
    """The producer and the recovery; the task of the asset events is on the other; no other node's task was on any."""
    rows = airflow.sql("select task_id, queue, hostname, pid from task_instance where dag_id = :d and run_id = :r", RUN)
    on_workers = {task_id: (queue, host) for task_id, queue, host, pid in rows if pid is not None}
    assert on_workers == {PRODUCER: ("dbt", "worker-dbt"), "flaky_run": ("dbt", "worker-dbt"), "dbt_assets": ("default", "worker-default")}
    for task_id in NODES - {"flaky_run"}:
        assert not {"worker-dbt", "worker-default"} & set(_logs(home, task_id)), task_id
    assert _logs(home, PRODUCER) == {"worker-dbt": {"attempt=1.log"}}
    assert _logs(home, "flaky_run")["worker-dbt"] == {"attempt=2.log"}
    assert _logs(home, "dbt_assets")["worker-default"] == {"attempt=1.log"}, "after the triggerer, where it begins"


def test_a_failed_node_is_built_by_a_recovery(told: Told, airflow: AirflowStack) -> None:
    first, recovery = told.attempts
    assert first.outcomes["flaky"] is Outcome.FAILED
    assert recovery.recovery
    assert recovery.built == {"flaky": 1, "below_flaky": 1}
    tries = {task["task_id"]: task["try_number"] for task in airflow.task_instances("shop", "one")}
    assert tries == {**dict.fromkeys({PRODUCER, "dbt_assets", *NODES}, 1), "flaky_run": 2}


def test_a_killed_triggerer_loses_nothing(told: Told, home: Path) -> None:
    """It waited for the node; another one saw the node's end."""
    ended = {job: "model.shop.held: success" in log for job, log in _held_by(home).items()}
    assert ended.pop(told.killed) is False
    assert list(ended.values()).count(True) == 1


def test_what_was_built_is_told_once(told: Told, airflow: AirflowStack) -> None:
    rows = airflow.sql("select asset.uri, count(*) from asset_event join asset on asset.id = asset_event.asset_id group by asset.uri")
    assert dict(rows) == {
        f"x-dbt://warehouse/shop/{name}": 1 for name in ("colours", "first", "held", "below_held", "flaky", "below_flaky")
    }
