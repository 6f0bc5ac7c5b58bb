"""What a caller asks for, checked before anything is started or written, and what it gets back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ledger_watcher.capture.argv import NARROWABLE, DbtCommand
from ledger_watcher.capture.artifacts import Project
from ledger_watcher.capture.freshness import SkipChoice
from ledger_watcher.capture.inprocess import check_installed
from ledger_watcher.capture.redact import Masker
from ledger_watcher.capture.secrets import known_secrets
from ledger_watcher.emit.emitter import check_emitters
from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger.keys import KEY, KEY_FILE
from ledger_watcher.records import EndedBy
from ledger_watcher.state import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """What to run.

    An attempt goes on from those before it in the ledger: it builds what is not done. Done is what succeeded in the attempts before that
    have the same ``clear_number`` (``None`` outside Airflow), and what is in ``done``: in Airflow, the nodes whose tasks are ``success``
    now. With another ``clear_number`` than the attempt before it, somebody cleared, and only ``done`` counts. If nothing is done, the
    command runs as it is. ``resume`` goes on across clear numbers, ``fresh`` from nothing, and ``only`` builds these unique_ids exactly,
    their tests only if they are among them.

    With ``freshness``, ``dbt source freshness`` runs before the build, of ``sources`` (``None``: all of the project), and again in every
    attempt. Nodes with no other sources above them than stale ones are skipped, or those that ``freshness_skip`` returns instead; nodes
    below a source that could not be checked are skipped as below a failed node. With ``tests_last``, a ``dbt build`` builds everything
    before the first test runs, and no test keeps a node from being built; those of failed nodes are skipped.

    ``command`` begins with the dbt executable; ``project_dir`` is where it is started; ``env`` is added to the environment. The values of
    the variables in ``redact_env`` are secret, as those of ``DBT_ENV_SECRET_*`` always are. ``plan`` holds
    the unique_ids that are to be built in the whole run, if the caller knows them, and ``plan_source`` says who does; without it,
    ``dbt ls`` is asked when an attempt goes on from another. ``selected``: the plan is what the command selects; else
    the command may select less, so that dbt is asked if it selects at all. ``exactly``: the plan is what is built, whatever the command selects. ``forward`` takes the lines of dbt's
    console (default: standard output); in-process, dbt writes them itself. Attempts that
    started before ``since`` belong to a run of the same name that was deleted: nothing of them counts. ``after`` is the attempt that must be the newest one, or none
    begins; ``task_id`` is the Airflow task that runs this. ``grace`` is the time in seconds between SIGINT, SIGTERM and
    SIGKILL. ``emit`` names those who are told of the run meanwhile, see :mod:`ledger_watcher.emit`.
    """

    command: tuple[str, ...]
    in_process: bool = False
    project_dir: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    redact_env: frozenset[str] = frozenset()
    plan: tuple[str, ...] | None = None
    plan_source: str = "caller"
    selected: bool = False
    exactly: bool = False
    done: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    fresh: bool = False
    resume: bool = False
    freshness: bool = False
    sources: frozenset[str] | None = None
    freshness_skip: SkipChoice | None = None
    tests_last: bool = False
    since: datetime | None = None
    after: int | None = None
    task_id: str | None = None
    try_number: int | None = None
    clear_number: int | None = None
    producer_started_at: datetime | None = None
    forward: Callable[[str], None] | None = None
    grace: float = 10.0
    emit: tuple[str, ...] = ()


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
    """A request that can be run: the command, the path of its executable, the project, dbt's environment, the working directory.

    ``secrets`` are the texts that are not to be recorded.
    """

    command: DbtCommand
    executable: str
    project: Project
    env: Mapping[str, str]
    cwd: Path
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    def masker(self, folders: Iterable[tuple[str, str]] = ()) -> Masker:
        """What takes the secrets out."""
        return Masker(self.secrets, folders)

    @property
    def recorded(self) -> tuple[str, ...]:
        """The command as the ledger has it, without what may be secret."""
        mask = self.masker().text
        return tuple(mask(part) for part in self.command.redacted())

    @classmethod
    def of(cls, request: CaptureRequest) -> Checked:
        """Check a request.

        :raises ConfigError: no dbt command, no project, no dbt; what is to be built is contradictory.
        """
        cwd = (request.project_dir or Path()).absolute()
        if not cwd.is_dir():
            raise ConfigError(f"The project folder {cwd} does not exist; correct --project-dir.")
        env = {**os.environ, **request.env}
        command = DbtCommand.parse(request.command)
        check_emitters(request.emit)
        _check_scope(request, command)
        project = Project.of(command, env, cwd, upwards=request.project_dir is None)
        executable = command.argv[0]
        if request.in_process:
            check_installed()
        else:
            executable = _executable(executable, env, cwd)
        secrets = known_secrets(command, env, cwd, project.folder, {KEY, *request.redact_env})
        dbt_env = {name: value for name, value in env.items() if name not in (KEY, KEY_FILE)}
        return cls(command=command, executable=executable, project=project, env=dbt_env, cwd=cwd, secrets=secrets)


def _check_scope(request: CaptureRequest, command: DbtCommand) -> None:
    if request.fresh and request.resume:
        raise ConfigError("An attempt cannot be both fresh (ignore the attempts before) and a resume (go on from them); choose one.")
    if request.only is not None and (request.fresh or request.resume):
        raise ConfigError("An attempt that builds only some nodes is neither fresh nor a resume; leave that out.")
    if request.exactly and not request.plan:
        raise ConfigError("The nodes to build are to be exactly those of the plan, and there is none; name them.")
    if (request.sources is not None or request.freshness_skip is not None) and not request.freshness:
        raise ConfigError(
            "Sources, or a function that decides what they hold back, are named but not to be checked; ask for freshness too."
        )
    if request.tests_last and command.subcommand != "build":
        raise ConfigError(
            f"`dbt {command.subcommand}` does not both build and test, so that no tests can come last; that is for `dbt build`."
        )
    if (request.only is not None or request.resume or request.freshness or request.exactly) and command.subcommand not in NARROWABLE:
        known = ", ".join(sorted(NARROWABLE))
        raise ConfigError(f"`dbt {command.subcommand}` cannot be told which nodes to build; the commands that can are {known}.")


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
