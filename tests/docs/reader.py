"""One who follows the tutorial: ``python -m tests.docs.reader FOLDER`` runs its blocks in that folder, and does in Airflow what it says in between.

To be run in a network of its own, since ``airflow standalone`` listens on fixed ports. Prints, as JSON, the states of the tasks after the first run, the second, and the clear.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import requests

from scripts.airflow_client import AirflowClient, until
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "tutorial.md"
INSTALL = ("python3 -m venv", "pip install", "source venv/")
"""The environment that runs this has what they install; tests/packaging installs."""
PATIENCE = 400.0


class Reader:
    """Two shells in a folder, and a browser."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shells = {"first": dict(os.environ), "second": dict(os.environ)}

    def run(self, block: str, shell: str = "first", then: str = "") -> str:
        """What a block prints, up to the first command that fails; what it exports stays in its shell."""
        lines = [line for line in block.replace("/path/to/the/clone", str(ROOT)).splitlines() if not line.startswith(INSTALL)]
        script = "\n".join([*lines, 'env -0 > "$KEPT"', then])
        kept = self.folder / "environment"
        env = self.shells[shell] | {"KEPT": str(kept)}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{block}\nexit code {done.returncode}\n{done.stdout}")
        self.shells[shell] = dict(one.split("=", 1) for one in kept.read_text().split("\0") if one)
        return done.stdout

    def logged_in(self) -> AirflowClient:
        """As the user and with the password that Airflow has written down, when it is ready."""
        log, passwords = self.folder / "standalone.log", self.folder / "airflow" / "simple_auth_manager_passwords.json.generated"
        if not until(lambda: log.exists() and "Airflow is ready" in log.read_text(), PATIENCE):
            raise SystemExit(log.read_text())
        client = AirflowClient("http://localhost:8080", self.folder / "dags", f"sqlite:///{self.folder}/airflow/airflow.db")
        if not until(lambda: _answers(client.url), PATIENCE):  # the api-server is not asked before Airflow calls itself ready
            raise SystemExit(log.read_text())
        user = {"username": "admin", "password": json.loads(passwords.read_text())["admin"]}
        answer = requests.post(f"{client.url}/auth/token", json=user, timeout=60)
        client._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=60).ok
    except requests.ConnectionError:
        return False


def main() -> None:
    """From nothing to the end."""
    reader = Reader(Path(sys.argv[1]))
    (dag_file,) = blocks(PAGE, "python")
    project, record, look, parse, start, broken, mended, end = blocks(PAGE, "bash")
    began = time.monotonic()

    def say(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.1f} s  {what}\n")

    for step in (project, record, look, parse):
        reader.run(step)
        say(step.splitlines()[-1])
    (reader.folder / "dags" / "jaffle.py").write_text(dag_file)
    exports, command = start.splitlines()
    reader.run(exports, then=f"{command} > standalone.log 2>&1 &")
    airflow = reader.logged_in()
    say(command)
    airflow.wait_for_dag("jaffle", PATIENCE)
    airflow.call("PATCH", "dags/jaffle", json={"is_paused": False})
    found = []

    def states(run_id: str) -> None:
        say(f"the run is {airflow.wait_for_run('jaffle', run_id, PATIENCE)}")
        found.append({task["task_id"]: task["state"] for task in airflow.task_instances("jaffle", run_id)})

    states(airflow.trigger("jaffle"))
    reader.run(broken, "second")
    run_id = airflow.trigger("jaffle")
    states(run_id)
    reader.run(mended, "second")
    say(f"cleared: {airflow.clear('jaffle', run_id, ['regulars.run'], downstream=True)}")
    states(run_id)
    sys.stdout.write(json.dumps({"states": found, "ledger": reader.run(end, "second")}))


if __name__ == "__main__":
    main()
