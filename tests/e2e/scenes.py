"""What the recovery tests stage: projects made of some of the models of projects/recovery, and what became of a run of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger_watcher.ledger import RunFollower, RunKey
from ledger_watcher.records import AttemptFinished, AttemptStarted, NodeFinished, NodeStarted, Outcome
from ledger_watcher.storage import open_store
from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack, StackError

PRODUCER = "dbt_producer_watcher"
SOURCE = Path(__file__).parent / "projects" / "recovery"
_PARSE = """
import json, os, sys
from dbt.cli.main import dbtRunner
for folder, env in json.loads(sys.argv[1]).items():
    os.environ.update(env)
    done = dbtRunner().invoke(["--quiet", "parse", "--project-dir", folder, "--profiles-dir", folder])
    if not done.success:
        sys.exit(f"{folder}: {done.exception}")
"""


def parse(projects: Mapping[Path, Mapping[str, str]]) -> None:
    """Make the manifest of each project, as a deployment has it: by one process, with these variables in turn, and with the flags that DAGs give."""
    given = json.dumps({str(folder): dict(env) for folder, env in projects.items()})
    env = {**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    subprocess.run([sys.executable, "-c", _PARSE, given], check=True, cwd=next(iter(projects)), env=env)


def prepare_projects(home: Path, projects: Mapping[str, Sequence[str]]) -> None:
    """A folder per project with these files of the source's models, its switches all off, and its manifest."""
    parsed: dict[tuple[str, ...], Path] = {}
    for name, models in projects.items():
        if tuple(models) not in parsed:
            parsed[tuple(models)] = home / name
            _write_project(home / name, models)
    parse({folder: {"RECOVERY_RUN": "one"} for folder in parsed.values()})
    for name, models in projects.items():
        if not (home / name).exists():
            shutil.copytree(parsed[tuple(models)], home / name)


def _write_project(folder: Path, models: Sequence[str]) -> None:
    (folder / "models").mkdir(parents=True)
    (folder / "switch").mkdir()
    for file in ("dbt_project.yml", "profiles.yml", *(f"models/{model}" for model in models)):
        shutil.copy(SOURCE / file, folder / file)
    if folder.name == "wide":
        for number in range(50):
            (folder / "models" / f"leaf_{number:02}.sql").write_text('select * from {{ ref("gate") }}\n')


@dataclass
class Attempt:
    """One attempt as the ledger tells it; nodes by the names of the project."""

    started: AttemptStarted
    begun: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    carried: set[str] = field(default_factory=set)
    finished: AttemptFinished | None = None

    @property
    def built(self) -> dict[str, int]:
        """How often each node ran. dbt begins what it skips, too."""
        return {name: times for name, times in self.begun.items() if self.outcomes.get(name) is not Outcome.SKIPPED}

    @property
    def recovery(self) -> bool:
        return self.started.scope == "only"


class Scene:
    """One DAG of recovery_dags, and one run of it at a time."""

    def __init__(self, airflow: AirflowStack, home: Path, dag_id: str) -> None:
        self.airflow = airflow
        self.ledger = home / "ledger"
        self.folder = home / "recovery" / dag_id
        self.dag_id = dag_id

    def start(self, run_id: str = "one") -> None:
        self.airflow.wait_for_dag(self.dag_id, 120)
        self.airflow.trigger(self.dag_id, run_id=run_id, conf={"warehouse": run_id})

    def end(self, run_id: str = "one", timeout: float = 400) -> str:
        return self.airflow.wait_for_run(self.dag_id, run_id, timeout)

    def switch(self, name: str) -> Path:
        return self.folder / "switch" / name

    def open_gate(self) -> None:
        self.switch("gate.csv").write_text("id\n1\n")

    def tasks(self, run_id: str = "one") -> dict[str, str]:
        return {ti["task_id"]: ti["state"] for ti in self.airflow.task_instances(self.dag_id, run_id)}

    def tries(self, run_id: str = "one") -> dict[str, int]:
        return {ti["task_id"]: ti["try_number"] for ti in self.airflow.task_instances(self.dag_id, run_id)}

    def reach(self, task_id: str, *states: str, run_id: str = "one", timeout: float = 240) -> None:
        """Wait for a state of a task."""
        if not until(lambda: self.tasks(run_id)[task_id] in states, timeout):
            raise StackError(f"{task_id} of {self.dag_id} is not {states} after {timeout} s: {self.tasks(run_id)}")

    def touched(self, name: str, timeout: float = 240) -> None:
        """Wait for a switch that a model sets."""
        if not until(self.switch(name).exists, timeout):
            raise StackError(f"no model of {self.dag_id} set {name} within {timeout} s: {self.tasks()}")

    def clear(self, *task_ids: str, downstream: bool = False, only_failed: bool = False, run_id: str = "one") -> list[str]:
        chosen = list(task_ids) or None
        return self.airflow.clear(self.dag_id, run_id, chosen, downstream=downstream, only_failed=only_failed)

    def log(self, task_id: str, try_number: int = 1, run_id: str = "one") -> str:
        return self.airflow.logs(self.dag_id, run_id, task_id, try_number)

    def workers(self, run_id: str = "one") -> Counter[str]:
        """How often each task was on a worker: only a worker writes attempt=N.log; the triggerer's files end in .trigger.<job>.log."""
        logs = self.airflow.home.glob(f"logs/dag_id={self.dag_id}/run_id={run_id}/task_id=*/attempt=*.log")
        return Counter(path.parent.name.removeprefix("task_id=") for path in logs if ".trigger." not in path.name)

    def watchers(self, task_id: str, run_id: str = "one") -> set[str]:
        """The triggerers that the first try of a task has been in, by the logs that each of them writes."""
        logs = self.airflow.home.glob(f"logs/dag_id={self.dag_id}/run_id={run_id}/task_id={task_id}/attempt=1.log.trigger.*.log")
        return {path.name for path in logs}

    def attempts(self, run_id: str = "one") -> list[Attempt]:
        """All attempts in the ledger, oldest first."""
        return attempts_of(str(self.ledger), RunKey(dag_id=self.dag_id, run_id=run_id))


def attempts_of(ledger: str, run: RunKey) -> list[Attempt]:
    """All attempts of a run, oldest first."""
    follower = RunFollower(open_store(ledger), run, whole=True)
    found: dict[int, Attempt] = {}
    while (entries := follower.advance()) is not None:
        for entry in entries:
            _fold(found, entry.epoch, entry.record)
    return [found[epoch] for epoch in sorted(found)]


def _fold(found: dict[int, Attempt], epoch: int, record: object) -> None:
    match record:
        case AttemptStarted():
            found[epoch] = Attempt(record)
        case NodeStarted():
            found[epoch].begun[_name(record.unique_id)] += 1
        case NodeFinished():
            found[epoch].outcomes[_name(record.unique_id)] = record.outcome
            if record.source == "carried_over":
                found[epoch].carried.add(_name(record.unique_id))
        case AttemptFinished():
            found[epoch].finished = record


def _name(unique_id: str) -> str:
    return unique_id.split(".")[2]
