"""``dbt deps`` before a command, by the same dbt and in the same project."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from ledger_watcher.capture.argv import DbtCommand
from ledger_watcher.capture.request import CaptureRequest, Checked

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


def deps_command(command: DbtCommand, executable: str, *, in_process: bool) -> tuple[str, ...]:
    """The command with ``deps`` in place of what it runs, and of its options those that ``deps`` has."""
    before = command.argv[command.program + 1 : command.command]
    launcher = (sys.executable, "-m", "dbt.cli.main") if in_process else (executable, *command.argv[1 : command.program + 1])
    after = [f"{name}={value}" for name in _SHARED if (value := command.option(name)) is not None and not _stated(before, name)]
    return (*launcher, *before, "deps", *after)


def _stated(before: tuple[str, ...], name: str) -> bool:
    return any(word.partition("=")[0] == name for word in before)
