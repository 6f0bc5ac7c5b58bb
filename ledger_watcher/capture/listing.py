"""Asking dbt which nodes a command selects: ``dbt ls``, which needs the project and a profile, and no database."""

from __future__ import annotations

import fcntl
import logging
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from ledger_watcher import codec
from ledger_watcher.capture.argv import DbtCommand, without_output_variables
from ledger_watcher.capture.plan import list_command
from ledger_watcher.capture.request import CaptureRequest, Checked
from ledger_watcher.deps import install_deps
from ledger_watcher.errors import ConfigError
from ledger_watcher.project.cache import Cache, named
from ledger_watcher.project.manifest import parse_manifest
from ledger_watcher.project.question import Question
from ledger_watcher.project.selection import Selection
from ledger_watcher.project.view import ProjectView
from ledger_watcher.records import bounded_message

_MEANING = {
    **dict.fromkeys(("--select", "-s", "--models", "--model", "-m"), "select"),
    "--exclude": "exclude",
    "--selector": "selector",
}
_DECIDING = frozenset(
    {
        "--indirect-selection",
        "--state",
        *(f"--{prefix}resource-type{plural}" for prefix in ("", "exclude-") for plural in ("", "s")),
    }
)

PATIENCE = 900.0
"""Seconds for one ``dbt ls``, and for that of another process about the same."""

log = logging.getLogger(__name__)


def ask(
    question: Question, cache: Cache | None = None, *, started: Callable[[Question], AbstractContextManager[Question]] = nullcontext
) -> ProjectView:
    """dbt's answer: the nodes of the project as dbt sees them now, and which of them the command selects.

    Nothing is written to the project. The answer is kept in the cache, and with it what dbt needs to parse faster next time; one process at a
    time asks the same, and those that waited take its answer. Without a cache, nothing stays.

    :param started: makes of the question what dbt is started with, for as long as it runs: a profile, say.
    :raises ConfigError: dbt did not answer, with its own words.
    """
    with ExitStack() as stack:
        if cache is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ledger-watcher-ls-")))
        else:
            work = stack.enter_context(_alone(cache.folder / named("ls", question.project_dir, *question.command).removesuffix(".json")))
            known = question.known(cache)
            if known is not None:
                return known
        asked = stack.enter_context(started(question))
        if asked.deps:
            asked = _with_packages(asked, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ledger-watcher-deps-"))))
        view = _listed(asked, work)
        if cache is not None:
            question.keep(cache, view)
        return view


def selection_of(command: DbtCommand) -> Selection:
    """What of a command line selects. Its other words, such as flags and variables, may decide it, too: the project reads them."""
    found: dict[str, list[str]] = {"select": [], "exclude": [], "selector": []}
    for name, _, values in command.given(frozenset(_MEANING)):
        found[_MEANING[name]] += values
    options = tuple(word for _, places, _ in command.given(_DECIDING) for word in (command.argv[place] for place in places))
    return replace(Selection.of(found["select"], found["exclude"], found["selector"][-1] if found["selector"] else None), options=options)


def _listed(question: Question, work: Path) -> ProjectView:
    checked = _checked(question)
    target = work / "target"
    manifest = target / "manifest.json"
    manifest.unlink(missing_ok=True)
    argv = (*list_command(checked.command, checked.executable, in_process=question.in_process), "--target-path", str(target))
    env = {**without_output_variables(checked.env), "DBT_LOG_PATH": str(work / "logs"), "DBT_WRITE_JSON": "true"}
    log.info("dbt is asked which nodes are selected: %s", shlex.join(question.selection.words) or "all")
    try:
        done = subprocess.run(argv, cwd=checked.cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
        output = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            said = bounded_message(checked.masker().text(f"{output}\n{done.stderr.decode('utf-8', 'replace')}".strip()))
            raise ConfigError(f"`dbt ls` ended with exit code {done.returncode}: {said or 'it said nothing.'}")
        view = parse_manifest(manifest.read_bytes(), manifest)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"`dbt ls` did not say what is selected: {error}") from error
    ids = {str(codec.loads(line).get("unique_id")) for line in output.splitlines() if line.startswith("{")}
    chosen = None if ids >= view.nodes.keys() else frozenset(ids & view.nodes.keys())
    return replace(view, selected=chosen, selection=question.selection)


def _checked(question: Question) -> Checked:
    return Checked.of(_request(question))


def _request(question: Question) -> CaptureRequest:
    return CaptureRequest(command=question.command, in_process=question.in_process, project_dir=question.project_dir, env=question.env)


def _with_packages(question: Question, copy: Path) -> Question:
    """The same about a folder of links to the project, in which the packages are installed: the project may be read-only, or in use."""
    checked = _checked(question)
    own = checked.project.folder
    left_out = {checked.project.packages_path or "dbt_packages", "package-lock.yml"}
    for entry in own.iterdir():
        if entry.name not in left_out:
            (copy / entry.name).symlink_to(entry.absolute())
    with suppress(FileNotFoundError):
        (copy / "package-lock.yml").write_bytes((own / "package-lock.yml").read_bytes())
    question = replace(question, command=checked.command.in_project(str(copy)).argv, deps=False)
    lines: list[str] = []
    code = install_deps(_request(question), lines.append)
    if code:
        said = bounded_message("\n".join(lines))
        raise ConfigError(f"`dbt deps` ended with exit code {code}: {said or 'it said nothing.'}")
    return question


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """A folder that no other process works in meanwhile; one that is removed afterwards, if it cannot be made."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="ledger-watcher-ls-") as other:
            yield Path(other)
        return
    try:
        until = time.monotonic() + PATIENCE
        while not _locked(descriptor):
            if time.monotonic() > until:
                raise ConfigError(f"Another process has been asking dbt the same for {PATIENCE:.0f} s ({folder}); see what it is doing.")
            time.sleep(0.1)
        yield folder
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
