"""Where dbt runs: environments, projects, and runs that are started once and looked at by many tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, final

from ledger_watcher.ledger import ChainReader, list_runs
from ledger_watcher.records import HookFinished, NodeFinished, Record
from ledger_watcher.state import Attempt, RunState
from ledger_watcher.storage import LocalStore
from scripts.postgres import Postgres

ROOT = Path(__file__).parents[2]
KITCHEN = ROOT / "tests" / "core" / "fixtures" / "kitchen-sink"
PROJECTS = Path(__file__).parent / "projects"
VERSIONS: list[str] = os.environ.get("DBT_VERSIONS", "").split()
CORE = [version for version in VERSIONS if version != "fusion"]
ADAPTERS = ("duckdb", "postgres")
MODES = ("subprocess", "in_process")
PATIENCE = 900.0
"""Seconds after which a run is taken for lost. A bound for broken code, never a pause."""


@dataclass(frozen=True)
class Installation:
    """An environment that scripts/dbt_venvs.sh made."""

    version: str

    @property
    def bin(self) -> Path:
        return ROOT / ".work" / "dbt" / self.version / "bin"

    @property
    def since(self) -> tuple[int, ...]:
        """(1, 9), to compare versions; Fusion is newer than all."""
        return (2, 0) if self.version == "fusion" else tuple(int(part) for part in self.version.split("."))

    @property
    def env(self) -> dict[str, str]:
        """That of a shell with the environment activated; nothing of the one that runs the tests."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "LEDGER_WATCHER_", "PG"))}
        more = {"LD_LIBRARY_PATH": str(self.bin.parent / "lib")} if self.version == "fusion" else {}
        return {**env, **more, "PATH": f"{self.bin}:{env['PATH']}", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}

    def cli(self, *args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run ledger-watcher with dbt's console and the errors kept apart. Fusion's environment has no Python packages: it uses the tests'."""
        program = str(self.bin / "ledger-watcher")
        argv = [program] if self.version != "fusion" else [str(ROOT / ".venv" / "bin" / "ledger-watcher")]
        return run([*argv, *args], env=env or self.env)


def run(argv: list[str], *, env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run to the end, with its output as text."""
    return subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False)


@dataclass
class Project:
    """A dbt project in a folder and with a database of its own. ``env`` holds what its profile asks for."""

    folder: Path
    installation: Installation
    env: dict[str, str]

    def write(self, name: str, text: str) -> None:
        """Add or replace a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a file's text; it must be there."""
        text = (self.folder / name).read_text("utf-8")
        assert old in text
        (self.folder / name).write_text(text.replace(old, new), "utf-8")

    @property
    def whole_env(self) -> dict[str, str]:
        return {**self.installation.env, **self.env}

    def dbt(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Plain dbt."""
        return run(["dbt", *command], env=self.whole_env, cwd=self.folder)

    def artifact(self, name: str) -> dict[str, Any]:
        """What dbt left in target/."""
        found: dict[str, Any] = json.loads((self.folder / "target" / name).read_bytes())
        return found

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """run_results.json by unique_id."""
        return {result["unique_id"]: result for result in self.artifact("run_results.json")["results"]}


@dataclass
class Captured:
    """A dbt command that ran through ``ledger-watcher run``."""

    project: Project
    ledger: Path
    process: subprocess.CompletedProcess[str]

    @classmethod
    def of(cls, project: Project, command: tuple[str, ...], *, mode: str = "subprocess", plan: list[str] | None = None) -> Captured:
        """Run it. With a plan it goes through the Python API, as Airflow's producer does."""
        ledger = project.folder.with_name(f"{project.folder.name}-ledger")
        if plan is None:
            options = ["--ledger", str(ledger), "--project-dir", str(project.folder), *(["--in-process"] if mode == "in_process" else [])]
            return cls(project, ledger, project.installation.cli("run", *options, "--", "dbt", *command, env=project.whole_env))
        script = [str(project.installation.bin / "python"), str(Path(__file__).parent / "planned.py")]
        argv = [*script, str(ledger), str(project.folder), mode, json.dumps(plan), "dbt", *command]
        return cls(project, ledger, run(argv, env=project.whole_env))

    @property
    def code(self) -> int:
        return self.process.returncode

    def cli(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """A reading command of ours on the ledger."""
        return self.project.installation.cli(name, str(self.ledger), *options)

    def show(self) -> dict[str, Any]:
        """``ledger-watcher show --json``."""
        shown = self.cli("show", "--json")
        assert shown.returncode == 0, shown.stderr
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

    @cached_property
    def records(self) -> list[Record]:
        store = LocalStore(str(self.ledger))
        (key,) = list_runs(store)
        return [entry.record for entry in ChainReader(store, key).read()]

    @cached_property
    def state(self) -> RunState:
        store = LocalStore(str(self.ledger))
        (key,) = list_runs(store)
        state = RunState()
        state.apply(ChainReader(store, key).read())
        return state

    @property
    def attempt(self) -> Attempt:
        attempt = self.state.attempt
        assert attempt is not None, self.process.stderr
        return attempt

    @property
    def finished(self) -> dict[str, NodeFinished]:
        return {unique_id: node.finished for unique_id, node in self.state.nodes.items() if node.finished is not None}

    @property
    def hooks(self) -> dict[str, HookFinished]:
        return self.attempt.hooks

    def of_kind(self, kind: type[Record], unique_id: str) -> list[Any]:
        """The records of one kind about one node, in their order."""
        return [record for record in self.records if isinstance(record, kind) and getattr(record, "unique_id", None) == unique_id]

    def bytes(self) -> bytes:
        """Everything in the ledger, chain and artifacts."""
        return b"\n".join(path.read_bytes() for path in sorted(self.ledger.rglob("*")) if path.is_file())


@final
@dataclass
class Lab:
    """Starts each run once, some of them side by side."""

    folder: Path
    postgres: Postgres
    workers: int
    _runs: dict[object, Future[Any]] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(init=False)

    def __enter__(self) -> Lab:
        self._pool = ThreadPoolExecutor(self.workers)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, key: object, work: Callable[[], Any]) -> None:
        """Start something that is not under way yet."""
        if key not in self._runs:
            self._runs[key] = self._pool.submit(work)

    def result(self, key: object) -> Any:  # noqa: ANN401
        """What became of it, when it has ended."""
        return self._runs[key].result()

    def kitchen(self, version: str, adapter: str, name: str) -> Project:
        """The kitchen sink with more failures in it, for a version and an adapter."""
        installation = Installation(version)
        folder = self.folder / f"{version}-{adapter}-{name}"
        shutil.copytree(KITCHEN, folder)
        shutil.copytree(PROJECTS / "more", folder, dirs_exist_ok=True)
        env = {"KITCHEN_DB": str(folder / "kitchen.duckdb")}
        if adapter == "postgres":
            shutil.copytree(PROJECTS / "postgres", folder, dirs_exist_ok=True)
            (folder / "models" / "base" / "py_model.py").unlink()
            env = self._database(folder.name)
        project = Project(folder, installation, env)
        project.replace("dbt_project.yml", "FUNCPATHS", 'function-paths: ["functions"]' if installation.since >= (1, 11) else "")
        if version == "fusion":  # it refuses what 1.8 and 1.9 ask for
            project.replace("models/base/schema.yml", "{to: ref('ok_view'), field: id}", "{arguments: {to: ref('ok_view'), field: id}}")
            project.replace("models/more/schema.yml", "{values: ['1'],", "{arguments: {values: ['1']},")
        if adapter == "postgres":
            table = "create or replace table ext.raw_ext as"
            project.replace(
                "dbt_project.yml", f'  - "{table}', f'  - "drop table if exists ext.raw_ext"\n  - "{table.replace("or replace ", "")}'
            )
        return project

    def small(self, version: str, name: str) -> Project:
        """A small project on PostgreSQL: model ``bad`` fails, ``below`` depends on it, ``good`` has a test that warns, sources are stale."""
        folder = self.folder / f"{version}-{name}"
        shutil.copytree(PROJECTS / "small", folder)
        shutil.copy(PROJECTS / "postgres" / "profiles.yml", folder)
        return Project(folder, Installation(version), self._database(folder.name))

    def _database(self, name: str) -> dict[str, str]:
        self.postgres.create_database(name)
        env = {**self.postgres.env, "KITCHEN_DB": name, "DBT_ENV_SECRET_PASSWORD": self.postgres.password}
        del env["PGPASSWORD"]
        return env


def kitchen_command(version: str) -> tuple[str, ...]:
    """``dbt build`` of three batches; 1.8 knows no batches."""
    since = Installation(version).since
    return ("build",) if since < (1, 9) else ("build", "--event-time-start", "2026-01-01", "--event-time-end", "2026-01-04")
