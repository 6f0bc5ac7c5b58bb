"""The stack that the end-to-end tests and the demo run on: it runs a task, says why it cannot, and leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.airflow_client import until
from scripts.airflow_nanny import marked
from scripts.airflow_stack import AirflowStack, StackError

ROOT = Path(__file__).parents[2]
NAP = f"9{os.getpid()}"  # seconds, and the name of this test's process
DAG = f"""
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG("tiny", schedule=None):
    BashOperator(task_id="first", bash_command="echo said $WORD in {{{{ run_id }}}}")
with DAG("sleepy", schedule=None):
    # A session of its own and no environment: nothing ties this process to the stack but its ancestors.
    BashOperator(task_id="sleep", bash_command="exec sleep {NAP}", env={{"PATH": "/usr/bin:/bin"}})
with DAG("failing", schedule=None) as dag:
    BashOperator(task_id="bad", bash_command="exit 3") >> BashOperator(task_id="after", bash_command="true")
"""
INTERRUPTED = """
import sys
from pathlib import Path
from scripts.airflow_stack import AirflowStack

stack = AirflowStack(Path(sys.argv[1]), Path(sys.argv[1]) / "dags")
print(stack.marker, flush=True)
stack.start()
print("started", flush=True)
"""


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack_dags")
    (folder / "tiny.py").write_text(DAG)
    return folder


def sleepers() -> list[int]:
    """Processes of the task that no marker finds."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if cmdline.read_bytes() == f"sleep\0{NAP}\0".encode():
                found.append(int(cmdline.parent.name))
    return found


def test_it_runs_tasks_and_leaves_nothing(tmp_path: Path, dags: Path) -> None:
    with AirflowStack(tmp_path / "home", dags, env={"WORD": "hello"}, triggerers=2) as stack:
        assert sorted(stack.pids()) == ["api-server", "dag-processor", "scheduler", "triggerer", "triggerer-2"]
        assert set(stack.pids().values()) < set(marked(stack.marker))

        stack.wait_for_dag("tiny")
        run_id = stack.trigger("tiny")
        assert stack.wait_for_run("tiny", run_id, 60) == "success"
        assert [(task["task_id"], task["state"]) for task in stack.task_instances("tiny", run_id)] == [("first", "success")]
        assert f"said hello in {run_id}" in stack.logs("tiny", run_id, "first")
        assert stack.sql("select state from task_instance where run_id = :r", {"r": run_id}) == [("success",)]

        run_id = stack.trigger("failing", run_id="of_mine")
        assert stack.wait_for_run("failing", run_id, 60) == "failed"
        assert stack.clear("failing", run_id, ["bad"], downstream=True, only_failed=True) == ["after", "bad"]
        assert stack.wait_for_run("failing", run_id, 60) == "failed"
        assert "exit code 3" in stack.logs("failing", run_id, "bad", try_number=2)
        stack.set_state("failing", run_id, "bad", "success")
        assert stack.sql("select state from task_instance where task_id = 'bad'") == [("success",)]

        (dags / "broken.py").write_text("from airflow.sdk import DAG, no_such_name")
        with pytest.raises(StackError, match="no_such_name"):
            stack.wait_for_dag("broken")
        (dags / "broken.py").write_text("from airflow.sdk import DAG\ndag = DAG('broken', schedule=None)")
        stack.wait_for_dag("broken")

        run_id = stack.trigger("sleepy")
        assert until(lambda: bool(sleepers()), 60)
        with pytest.raises(StackError, match=r"sleep +running +try 1"):
            stack.wait_for_run("sleepy", run_id, 0)
    assert marked(stack.marker) == []
    assert sleepers() == []
    stack.stop()


def test_a_service_that_ends_is_reported_with_its_log(tmp_path: Path, dags: Path) -> None:
    stack = AirflowStack(tmp_path / "home", dags, env={"AIRFLOW__CORE__EXECUTOR": "no.such.Executor"})
    with pytest.raises(StackError, match=r"(?s)scheduler ended with exit code 1; .*no\.such"):
        stack.start()
    assert marked(stack.marker) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("processes", [1, 3])
def test_a_start_that_is_interrupted_leaves_nothing(tmp_path: Path, how: signal.Signals, processes: int) -> None:
    """However the program that starts it ends, and whether or not there are services yet."""
    program = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(program, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        marker = starter.stdout.readline().strip()
        assert until(lambda: len(marked(marker)) >= processes, 60)
        starter.send_signal(how)
        assert "started" not in starter.stdout.read()
    assert starter.returncode == -how
    assert until(lambda: not marked(marker), 5)
