"""The storage goes away in the middle of runs of a real Airflow, for minutes: nothing fails, no task goes to a worker, all ends well.

    python -m tests.soak.outage                      # 2 minutes for all, 2 for the writer alone, 4 for all: together 6 to 7 minutes
    python -m tests.soak.outage --seconds 20

While the storage is away dbt goes on, and ends. After each outage:

- the run and all of its tasks are ``success``, in their first try,
- nothing but the producer was on a worker,
- the ledger has one attempt, with an end,
- a task that waited for more than three minutes said in its log that the ledger cannot be read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from ledger_watcher.ledger import RunFollower, RunKey
from ledger_watcher.storage import open_store
from ledger_watcher_airflow.tail import NOTICE_AFTER
from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack
from tests.core.proxy import Forward, Proxy, Request, Response
from tests.core.servers import MotoServer
from tests.e2e.scenes import PRODUCER, prepare_projects
from tests.soak.checks import Broken, check_that

DAGS = Path(__file__).parent / "dags"
SLOW = ("first.sql", "slow.py", "slow_too.py", "below_slow.sql")
OUTAGES = {"for-all": (1, False), "for-the-writer": (1, True), "for-longer": (2, False)}
"""How many times as long as asked for, and whether only writes are cut off."""
RUN = "one"
PATIENCE = 600


class Gate:
    """Lets requests through, except those for buckets that are cut off."""

    def __init__(self) -> None:
        self.shut: dict[str, bool] = {}
        self.refused = dict.fromkeys(OUTAGES, 0)

    def __call__(self, request: Request, forward: Forward) -> Response:
        bucket = request.target.lstrip("/").split("/")[0].split("?")[0]
        if bucket in self.shut and (request.method != "GET" or not self.shut[bucket]):
            self.refused[bucket] += 1
            raise ConnectionResetError("the storage is away")
        return forward(request)


def main() -> int:
    """Run all outages at once; 1 if one of them broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="that the storage is away")
    seconds = parser.parse_args().seconds
    home = Path(tempfile.mkdtemp(prefix="outage-"))
    (home / "projects").mkdir()
    prepare_projects(home / "projects", dict.fromkeys(OUTAGES, SLOW))
    gate, server = Gate(), MotoServer()
    proxy = Proxy(server.port, gate)
    for bucket in OUTAGES:
        requests.put(f"{server.url}/{bucket}", timeout=30).raise_for_status()
    env = {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "OUTAGE_HOME": str(home / "projects"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    try:
        with AirflowStack(home / "airflow", DAGS, env=env) as airflow, ThreadPoolExecutor(len(OUTAGES)) as pool:
            for name in OUTAGES:
                airflow.wait_for_dag(name, PATIENCE)
            told = pool.map(lambda name: _outage(airflow, home / "projects" / name, gate, server.url, seconds), OUTAGES)
            broken = sum(told)
    finally:
        proxy.stop()
        server.stop()
    sys.stdout.write(f"{broken} of {len(OUTAGES)} outages broke a promise; what they left is in {home}\n")
    return min(broken, 1)


def _outage(airflow: AirflowStack, folder: Path, gate: Gate, url: str, seconds: float) -> bool:
    """One of them; whether it broke a promise."""
    name = folder.name
    times, writer_only = OUTAGES[name]
    away = seconds * times
    airflow.trigger(name, run_id=RUN)
    problem = "nothing"
    try:
        check_that(until((folder / "switch" / "slow.began").exists, PATIENCE), "dbt did not begin")
        check_that(until(lambda: _states(airflow, name).get("first_run") == "success", PATIENCE), "the first node was not shown")
        gate.shut[name] = writer_only
        began = time.monotonic()
        time.sleep(away / 2)
        (folder / "switch" / "slow.go").touch()  # dbt goes on to its end while the storage is away
        time.sleep(away / 2)
        states = _states(airflow, name)
        check_that(set(states.values()) <= {"success", "deferred", "running", None}, f"during the outage: {states}")
        check_that(states["slow_run"] == "deferred", f"slow_run is {states['slow_run']} without a record")
        del gate.shut[name]
        ended = airflow.wait_for_run(name, RUN, PATIENCE)
        after = time.monotonic() - began - away
        _check(airflow, name, ended, url, told=away > NOTICE_AFTER and not writer_only)
    except Broken as error:
        problem = str(error)
    finally:
        gate.shut.pop(name, None)
    refused = gate.refused[name]
    sys.stdout.write(f"{name}: away for {away:.0f} s, {refused} requests refused; broken: {problem}")
    sys.stdout.write(f"; ended {after:.0f} s after it\n" if problem == "nothing" else "\n")
    return problem != "nothing"


def _states(airflow: AirflowStack, name: str) -> dict[str, str | None]:
    return {ti["task_id"]: ti["state"] for ti in airflow.task_instances(name, RUN)}


def _check(airflow: AirflowStack, name: str, ended: str, url: str, *, told: bool) -> None:
    tasks = airflow.task_instances(name, RUN)
    check_that(ended == "success", f"the run is {ended}: {_states(airflow, name)}")
    check_that({(ti["state"], ti["try_number"]) for ti in tasks} == {("success", 1)}, f"tasks: {_states(airflow, name)}")
    logs = airflow.home.glob(f"logs/dag_id={name}/run_id={RUN}/task_id=*/attempt=*.log")
    workers = [path.parent.name for path in logs if ".trigger." not in path.name]
    check_that(workers == [f"task_id={PRODUCER}"], f"on workers: {workers}")
    options = {"endpoint_url": url, "key": "test", "secret": "test"}
    store = open_store(f"s3://{name}/ledgers", storage_options=options)
    state = RunFollower(store, RunKey(dag_id=name, run_id=RUN), whole=True).snapshot()
    check_that(state.ended and list(state.attempts) == [1], f"attempts in the ledger: {list(state.attempts)}")
    log = airflow.logs(name, RUN, "slow_run")
    check_that(not told or "the ledger cannot be read" in log, f"the log of slow_run does not say that the ledger cannot be read: {log}")


if __name__ == "__main__":
    sys.exit(main())
