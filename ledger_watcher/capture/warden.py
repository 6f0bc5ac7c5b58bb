"""Sees to it that dbt ends when whoever started it is killed: a small process that outlives both, and escalates as its parent would have.

The system itself sends dbt SIGINT then (PDEATHSIG), but a dbt whose adapter cannot cancel its queries goes on until they have ended, beside
the next attempt.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

_WATCH = """
import os, select, signal, sys
pid, grace = int(sys.argv[1]), float(sys.argv[2])
watch = os.pidfd_open(pid)
if not os.read(0, 1):
    dbt = select.poll()
    dbt.register(watch, select.POLLIN)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if dbt.poll(grace * 1000):
            break
        os.killpg(pid, number)
"""
"""Its standard input is a pipe from its parent: a byte means that dbt has ended, the end of the pipe that the parent has."""


class Warden:
    """Watches over one dbt, the leader of a process group, from its start to :meth:`dismiss`. Linux only; elsewhere it does nothing.

    :param grace: seconds from the death of this process to SIGTERM, and from there to SIGKILL, both to dbt's whole process group.
    """

    def __init__(self, pid: int, grace: float) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if sys.platform.startswith("linux"):
            argv = [sys.executable, "-I", "-S", "-c", _WATCH, str(pid), str(grace)]
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True
            )

    def dismiss(self) -> None:
        """dbt has ended."""
        if self._process is not None:
            with suppress(BrokenPipeError):
                self._process.communicate(b".")
