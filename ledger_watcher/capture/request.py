"""What a caller asks for, checked before anything is started or written, and what it gets back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ledger_watcher.capture.argv import DbtCommand
from ledger_watcher.capture.artifacts import Project
from ledger_watcher.capture.inprocess import check_installed
from ledger_watcher.errors import ConfigError
from ledger_watcher.records import EndedBy
from ledger_watcher.state import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """What to run.

    ``command`` begins with the dbt executable; ``project_dir`` is where it is started; ``env`` is added to the environment. ``plan`` holds
    the unique_ids that are to be built, if the caller knows them, and ``plan_source`` says who does. ``forward`` takes the lines of dbt's
    console (default: standard output); in-process, dbt writes them itself. ``grace`` is the time in seconds between SIGINT, SIGTERM and
    SIGKILL.
    """

    command: tuple[str, ...]
    in_process: bool = False
    project_dir: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    plan: tuple[str, ...] | None = None
    plan_source: str = "caller"
    try_number: int | None = None
    clear_number: int | None = None
    producer_started_at: datetime | None = None
    forward: Callable[[str], None] | None = None
    grace: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureResult:
    """How it went.

    ``exit_code`` is dbt's: 0 success, 1 nodes failed, 2 anything else; ``128 + n`` if signal ``n`` killed it. ``end_sha256`` is the hash of
    the ledger's end, ``None`` if that could not be written. ``state`` is the whole run, earlier attempts included. ``problems`` are those
    of capturing; none of them changed what dbt did.
    """

    exit_code: int | None
    ended_by: EndedBy
    end_sha256: str | None
    state: RunState
    message: str | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A request that can be run: the command, the path of its executable, the project, the whole environment, the working directory."""

    command: DbtCommand
    executable: str
    project: Project
    env: Mapping[str, str]
    cwd: Path

    @classmethod
    def of(cls, request: CaptureRequest) -> Checked:
        """Check a request.

        :raises ConfigError: no dbt command, no project, no dbt.
        """
        cwd = (request.project_dir or Path()).absolute()
        if not cwd.is_dir():
            raise ConfigError(f"The project folder {cwd} does not exist; correct --project-dir.")
        env = {**os.environ, **request.env}
        command = DbtCommand.parse(request.command)
        project = Project.of(command, env, cwd, upwards=request.project_dir is None)
        executable = command.argv[0]
        if request.in_process:
            check_installed()
        else:
            executable = _executable(executable, env, cwd)
        return cls(command=command, executable=executable, project=project, env=env, cwd=cwd)


def _executable(name: str, env: Mapping[str, str], cwd: Path) -> str:
    places = [Path.cwd(), cwd] if os.sep in name else []  # a relative path is the caller's, dbt starts elsewhere
    candidates = [str(place / name) for place in places] or [name]
    found = next((path for candidate in candidates if (path := shutil.which(candidate, path=env.get("PATH")))), None)
    if found is None:
        raise ConfigError(
            f"The executable {name!r} was not found; install dbt in this environment (pip install dbt-core and an adapter), "
            "put its folder on PATH, or begin the command with its path (.venv/bin/dbt build ...)."
        )
    return found
