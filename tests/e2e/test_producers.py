"""dbt in an environment without Airflow, on another host as far as it can tell, with the ledger on S3: the tasks show it all the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from ledger_watcher.ledger import RunFollower, RunKey
from ledger_watcher.state import RunState
from ledger_watcher.storage import open_store
from scripts.airflow_stack import AirflowStack
from tests.e2e.scenes import parse
from tests.e2e.sshd import ssh_server

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HOSTILE = 'it\'s "$(touch owned)" `touch owned` $HOME \\n ☃\nnext; line'  # no {{: dbt's own var() renders that
SAID = "select '{{ var('given', '') | replace(\"'\", \"''\") }}' as given, '{{ var('conf', '') | replace(\"'\", \"''\") }}' as conf\n"
PRODUCER = "dbt_producer_watcher"


@pytest.fixture(scope="module")
def dbt_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with dbt, this project and no Airflow, in the versions that the development environment has."""
    uv = str(ROOT / ".tools" / "bin" / "uv") if (ROOT / ".tools" / "bin" / "uv").exists() else shutil.which("uv")
    assert uv, "uv is needed; `make env` installs it"
    venv = tmp_path_factory.mktemp("elsewhere") / "venv"
    python = str(venv / "bin" / "python")
    wanted = ["dbt-core", "dbt-duckdb", "s3fs", "--editable", str(ROOT)]
    pins = venv.parent / "pins.txt"
    locked = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
    pins.write_text("\n".join(line.rstrip(" \\") for line in locked if line[:1].isalnum()))
    for command in (["venv", "--python", sys.executable, str(venv)], ["pip", "install", "--python", python, "-c", str(pins), *wanted]):
        done = subprocess.run([uv, *command], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert subprocess.run([python, "-c", "import airflow"], check=False, capture_output=True).returncode != 0
    return venv


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("producers")
    for name in ("by_bash", "by_ssh"):
        shutil.copytree(HERE / "projects" / "broken", folder / name)
        (folder / name / "models" / "said.sql").write_text(SAID)
    parse({folder / name: {"BROKEN_DUCKDB_PATH": ":memory:"} for name in ("by_bash", "by_ssh")})
    return folder


@pytest.fixture(scope="module")
def stack(projects: Path, dbt_venv: Path, s3: SimpleNamespace) -> Iterator[AirflowStack]:
    """An Airflow of its own; what the other host needs for S3 is that host's."""
    quiet = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    with ssh_server(projects / "sshd", {**s3.env, **quiet}) as connection:
        env = {
            **s3.env,
            **quiet,
            "E2E_HOME": str(projects),
            "E2E_DBT_VENV": str(dbt_venv),
            "E2E_S3_LEDGER": s3.ledger,
            "E2E_HOSTILE": HOSTILE,
            "AIRFLOW_CONN_ELSEWHERE": connection,
            "LEDGER_WATCHER_CACHE_DIR": str(projects / "cache"),
            "AIRFLOW__SCHEDULER__ALLOWED_RUN_ID_PATTERN": ".*",  # the widest that a deployment may choose
        }
        with AirflowStack(projects / "airflow", HERE / "producer_dags", env=env) as running:
            yield running


@pytest.mark.timeout(1800)  # makes an environment and starts an Airflow
@pytest.mark.parametrize("dag_id", ["by_bash", "by_ssh"])
def test_a_command_elsewhere_shows_in_every_task(stack: AirflowStack, projects: Path, s3: SimpleNamespace, dag_id: str) -> None:
    """Nodes fail in tasks of their own, so the producer is green; hostile values from the DAG file and from the run's conf arrive."""
    stack.wait_for_dag(dag_id, 240)
    run_id = stack.trigger(dag_id, run_id=f"it's {dag_id} $(touch owned) ☃", conf={"word": HOSTILE})
    assert stack.wait_for_run(dag_id, run_id, 600) == "failed"
    tasks = {ti["task_id"]: ti["state"] for ti in stack.task_instances(dag_id, run_id)}
    assert tasks == {
        PRODUCER: "success",
        "good.run": "success",
        "good.test": "success",
        "bad_run": "failed",
        "below_bad_run": "upstream_failed",
        "beside_run": "success",
        "tested.run": "success",
        "tested.test": "failed",
        "below_tested_run": "upstream_failed",
        "said_run": "success",
    }, stack.logs(dag_id, run_id, PRODUCER)
    assert "their own tasks show them, so the exit code is 0" in stack.logs(dag_id, run_id, PRODUCER)
    assert "no_such_column" in stack.logs(dag_id, run_id, "bad_run")
    with duckdb.connect(str(projects / dag_id / "broken.duckdb"), read_only=True) as warehouse:
        assert warehouse.sql("select given, conf from said").fetchall() == [(HOSTILE, HOSTILE)]
    assert not list(projects.rglob("owned"))
    assert not [path for path in (Path.home() / "owned", Path.cwd() / "owned") if path.exists()]
    watcher = str(Path(sys.executable).with_name("ledger-watcher"))
    shown = subprocess.run(
        [watcher, "show", s3.ledger, "--dag-id", dag_id, "--run-id", run_id, "--json"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **s3.env},
    )
    assert {node["unique_id"]: node["status"] for node in json.loads(shown.stdout)["nodes"]}["model.broken.bad"] == "error"
    recovers(stack, projects / dag_id, s3, run_id)
    goes_on(stack, projects / dag_id, s3, run_id)


def ledger(s3: SimpleNamespace, dag_id: str, run_id: str) -> RunState:
    client = {"endpoint_url": s3.url, "key": s3.env["AWS_ACCESS_KEY_ID"], "secret": s3.env["AWS_SECRET_ACCESS_KEY"]}
    return RunFollower(open_store(s3.ledger, storage_options=client), RunKey(dag_id=dag_id, run_id=run_id)).snapshot()


def recovers(stack: AirflowStack, project: Path, s3: SimpleNamespace, run_id: str) -> None:
    """A failed node, fixed and cleared, is built from its own task, through the producer's operator, and what is below it with it."""
    dag_id = project.name
    (project / "models" / "bad.sql").write_text('select id from {{ ref("good") }}\n')
    assert sorted(stack.clear(dag_id, run_id, ["bad_run"], downstream=True)) == ["bad_run", "below_bad_run"]
    assert stack.wait_for_run(dag_id, run_id, 600) == "failed"  # for the tests that fail as before
    said = stack.logs(dag_id, run_id, "bad_run", 2)
    tasks = {ti["task_id"]: (ti["state"], ti["try_number"]) for ti in stack.task_instances(dag_id, run_id)}
    assert tasks["bad_run"] == ("success", 2), said
    assert tasks["below_bad_run"] == ("success", 1)
    assert tasks[PRODUCER] == ("success", 1)
    assert tasks["tested.test"] == ("failed", 1)
    state = ledger(s3, dag_id, run_id)
    whole, recovery = (state.attempts[epoch].started for epoch in sorted(state.attempts))
    assert whole is not None
    assert recovery is not None
    assert (recovery.scope, recovery.task_id, recovery.clear_number) == ("only", "bad_run", 1)
    assert recovery.command == whole.command
    built = {name for name, node in state.nodes.items() if node.epoch == 2}
    assert built == {"model.broken.bad", "model.broken.below_bad"}


def goes_on(stack: AirflowStack, project: Path, s3: SimpleNamespace, run_id: str) -> None:
    """The producer, cleared with what failed, is told by its command what Airflow shows as done, and builds the rest."""
    dag_id = project.name
    (project / "models" / "tested.sql").write_text("select 2 as id\n")
    cleared = [PRODUCER, "below_tested_run", "tested.run", "tested.test"]
    assert stack.clear(dag_id, run_id, cleared) == sorted(cleared)
    assert stack.wait_for_run(dag_id, run_id, 600) == "success", stack.logs(dag_id, run_id, PRODUCER, 2)
    state = ledger(s3, dag_id, run_id)
    assert sorted(state.attempts) == [1, 2, 3]
    newest = [node.finished for node in state.nodes.values() if node.epoch == 3]
    built = {record.unique_id for record in newest if record is not None and record.source == "event"}
    carried = {record.unique_id for record in newest if record is not None and record.source == "carried_over"}
    assert {name.split(".")[2] for name in built if name.startswith("model.")} == {"tested", "below_tested"}
    assert {name.split(".")[2] for name in carried if name.startswith("model.")} == {"good", "bad", "below_bad", "beside", "said"}
    assert len(built) == 3
