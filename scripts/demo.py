"""``make demo``: a real Airflow runs an example dbt project; its nodes are shown live from the ledger.

Everything lies below ``.work/demo``; every process is ended when the demo ends or is interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from ledger_watcher.ledger import RunFollower, RunKey
from ledger_watcher.project import BUILDABLE, TESTS, NodeView, load_project
from ledger_watcher.report.table import follow
from ledger_watcher.storage import open_store
from scripts.airflow_stack import AirflowStack, StackError

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "operators" / "ledger_watcher_airflow" / "example_dags"
DAG_ID = "jaffle"
PATIENCE = 120.0


def main() -> int:
    """Run the demo; the exit code is 0 if the DAG run succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / ".work" / "demo", help="where everything is put (emptied first)")
    parser.add_argument("--keep", action="store_true", help="keep Airflow running at the end, until Ctrl-C")
    options = parser.parse_args()
    try:
        return run_demo(options.home.absolute(), keep=options.keep)
    except KeyboardInterrupt:
        print("\nInterrupted; everything that was started has been stopped.")
        return 130
    except (StackError, subprocess.CalledProcessError) as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1


def run_demo(home: Path, *, keep: bool) -> int:
    """Set up, run, show, say where things are, stop."""
    began = time.monotonic()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    project, ledger = home / "jaffle", home / "ledger"
    shutil.copytree(EXAMPLES / "dbt" / "jaffle", project)
    dags = home / "dags"
    dags.mkdir()
    shutil.copy(EXAMPLES / "jaffle.py", dags)
    env = {
        "JAFFLE_PROJECT_DIR": str(project),
        "JAFFLE_LEDGER": str(ledger),
        "JAFFLE_DUCKDB_PATH": str(home / "jaffle.duckdb"),
        "LEDGER_WATCHER_CACHE_DIR": str(home / "cache"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    print("Making the manifest of the example project (dbt parse) ...", flush=True)
    subprocess.run(
        [Path(sys.executable).with_name("dbt"), "parse", "--quiet", "--project-dir", project, "--profiles-dir", project],
        check=True,
        cwd=project,
        env={**os.environ, **env},
    )
    print("Starting Airflow: api-server, scheduler, dag-processor, triggerer ...", flush=True)
    with AirflowStack(home / "airflow", dags, env=env) as airflow:
        airflow.wait_for_dag(DAG_ID)
        run_id = airflow.trigger(DAG_ID)
        print(f"Airflow at {airflow.url}: run {run_id} of DAG {DAG_ID}, {time.monotonic() - began:.0f} s after the start\n", flush=True)
        state = _watch(airflow, ledger, run_id, load_project(project / "target" / "manifest.json").of_type(BUILDABLE | TESTS))
        tasks = airflow.task_instances(DAG_ID, run_id)
        print(f"\nDAG run: {state}; {len(tasks)} tasks, {sum(task['state'] == 'success' for task in tasks)} succeeded.")
        _say_where(ledger, run_id)
        if keep:
            print(f"\nAirflow goes on at {airflow.url} (no password needed) until Ctrl-C.")
            threading.Event().wait()
    print(f"\nEverything was stopped. The demo took {time.monotonic() - began:.0f} s. To look around in Airflow: make demo ARGS=--keep")
    return 0 if state == "success" else 1


def _watch(airflow: AirflowStack, ledger: Path, run_id: str, nodes: list[NodeView]) -> str:
    """Show the ledger while it grows; the run's state ends it too, so that a run that never wrote one cannot hang the demo."""
    deadline = time.monotonic() + PATIENCE

    def stop() -> bool:
        return time.monotonic() > deadline or airflow.run_state(DAG_ID, run_id) in ("success", "failed")

    follower = RunFollower(open_store(str(ledger)), RunKey(DAG_ID, run_id))
    follow(follower, expected=[node.unique_id for node in nodes], stop=stop)
    return airflow.wait_for_run(DAG_ID, run_id, PATIENCE)


def _say_where(ledger: Path, run_id: str) -> None:
    command = ".venv/bin/ledger-watcher"
    print(f"\nThe ledger is in {ledger}; look into it with")
    for line in (f"ls {ledger}", f"show {ledger}", f"show {ledger} --run-id {run_id} --json"):
        print(f"  {command} {line}")


if __name__ == "__main__":
    sys.exit(main())
