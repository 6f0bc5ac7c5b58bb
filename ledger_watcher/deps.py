"""``dbt deps`` before a command, by the same dbt and in the same project."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ledger_watcher.capture.argv import DbtCommand
from ledger_watcher.capture.request import CaptureRequest, Checked

_PROJECT_FILE = "dbt_project.yml"
_STAMP = ".ledger-watcher-deps"
_SHARED = ("--project-dir", "--profiles-dir", "--profile", "--target", "--vars")


def install_deps(request: CaptureRequest, say: Callable[[str], None]) -> int:
    """Run ``dbt deps`` for the command of ``request`` to its end, and return its exit code; ``say`` takes its lines.

    It is a process of its own, for an in-process dbt too: dbt can be invoked once in a process.

    :raises ConfigError: the command, the project or dbt is not usable.
    """
    checked = Checked.of(request)
    mask = checked.masker().text
    argv = deps_command(checked.command, checked.executable, in_process=request.in_process)
    with subprocess.Popen(
        argv,
        cwd=checked.cwd,
        env=dict(checked.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            say(mask(line.rstrip("\n")))
    return process.returncode


def install_deps_once(request: CaptureRequest, say: Callable[[str], None]) -> int:
    """The same for tasks that work on one project at the same time: one of them installs, and none if it is done already.

    ``dbt deps`` begins with the removal of what is installed, which another task may be reading. So it runs under a lock on
    dbt_project.yml, and is passed over while the files that say what is to be installed are those of the last time.

    :raises ConfigError: as :func:`install_deps`.
    """
    checked = Checked.of(request)
    folder = checked.project.folder
    with (folder / _PROJECT_FILE).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system gives it up when its holder dies
        packages = folder / (checked.project.packages_path or checked.env.get("DBT_PACKAGES_INSTALL_PATH") or "dbt_packages")
        stamp = packages / _STAMP
        if stamp.is_file() and stamp.read_text() == _wanted(folder):
            say(f"dbt deps: {packages} has what is wanted already")
            return 0
        code = install_deps(request, say)
        if code == 0 and packages.is_dir():
            stamp.write_text(_wanted(folder))  # dbt deps removes it together with the rest
        return code


def _wanted(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (_PROJECT_FILE, "packages.yml", "dependencies.yml", "package-lock.yml"):
        file = folder / name
        digest.update(f"{name}\0".encode() + (file.read_bytes() if file.is_file() else b"") + b"\0")
    return digest.hexdigest()


def deps_command(command: DbtCommand, executable: str, *, in_process: bool) -> tuple[str, ...]:
    """The command with ``deps`` in place of what it runs, and of its options those that ``deps`` has."""
    before = command.argv[command.program + 1 : command.command]
    launcher = (sys.executable, "-m", "dbt.cli.main") if in_process else (executable, *command.argv[1 : command.program + 1])
    after = [f"{name}={value}" for name in _SHARED if (value := command.option(name)) is not None and not _stated(before, name)]
    return (*launcher, *before, "deps", *after)


def _stated(before: tuple[str, ...], name: str) -> bool:
    return any(word.partition("=")[0] == name for word in before)
