"""The nanny of an AirflowStack: a script, one process per stack, that forks Airflow's services and ends all that runs below it.

It imports Airflow once for all services: separate starts take twice as long on two cores. It is the reaper of orphans below it
(PR_SET_CHILD_SUBREAPER), so it finds task processes that left their session or dropped their environment too, and it is told by
the kernel when the program that started the stack is gone, however that ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

GRACE = 2.0  # seconds from SIGTERM to SIGKILL
# Imported once, before the forks: what two of the services need.
COMMON = (
    "airflow.__main__",
    "airflow.api_fastapi.app",
    "airflow.api_fastapi.auth.managers.simple.simple_auth_manager",
    "airflow.api_fastapi.execution_api.routes",
    "airflow.cli.commands.db_command",
)
# Declaring its routes is much of the api-server's start, and needs no database yet.
ROUTES = ("airflow.api_fastapi.core_api.routes.public", "airflow.api_fastapi.core_api.routes.ui")
OTHERS = (
    "airflow.cli.commands.dag_processor_command",
    "airflow.cli.commands.scheduler_command",
    "airflow.cli.commands.triggerer_command",
    "airflow.executors.local_executor",
    "airflow.sdk.execution_time.task_runner",  # for the scheduler's workers
)
_PDEATHSIG, _SUBREAPER = 1, 36  # <linux/prctl.h>


class Service(NamedTuple):
    """`airflow <argv>`. Forked, if `env` is empty; else a process started anew in its `AIRFLOW_HOME`, with `env` over the nanny's environment."""

    argv: list[str]
    env: Mapping[str, str]

    def become(self) -> None:
        """Make this process the service. It returns at the end of a forked one only."""
        if self.env:
            os.chdir(self.env["AIRFLOW_HOME"])
            os.execve(sys.executable, [sys.executable, "-m", "airflow", *self.argv], {**os.environ, **self.env})  # noqa: S606 - argv, as all of this project
        sys.argv = ["airflow", *self.argv]
        importlib.import_module("airflow.__main__").main()


MIGRATE = Service(["db", "migrate"], {})
API_SERVER = Service(["api-server"], {})


class Journal:
    """What became of the services: a file of lines `<name> started <pid>` and `<name> ended <exit code>`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, event: str, number: int) -> None:
        """Append one line in one write."""
        with self.path.open("a") as file:
            file.write(f"{name} {event} {number}\n")

    def read(self) -> tuple[dict[str, int], dict[str, int]]:
        """The pids of the services that run, and the exit codes (minus the signal for a kill) of those that ended."""
        running: dict[str, int] = {}
        ended: dict[str, int] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            name, event, number = line.split()
            here, there = (running, ended) if event == "started" else (ended, running)
            here[name] = int(number)
            there.pop(name, None)
        return running, ended


class Nanny:
    """Forks the services and watches over them; in a forked process, `run` returns the service that it is to become.

    :param services: what runs beside the api-server, by name.
    """

    def __init__(self, journal: Journal, services: Mapping[str, Service]) -> None:
        self.pid = os.getpid()
        self._journal = journal
        self._running: dict[int, str] = {}
        self._services = services

    def run(self) -> Service:
        """Start everything and wait until told to end (SystemExit), in the nanny; return at once in a service."""
        _import(COMMON)
        gc.freeze()
        migrated, tell = os.pipe()
        if not (migration := self._fork("migrate")):
            return MIGRATE
        if not self._fork("api-server"):
            gc.set_threshold(100_000, 50, 50)  # a million objects are made, all of them to stay
            _import(ROUTES)
            os.read(migrated, 1)
            return API_SERVER
        _import(OTHERS)
        _pid, status = os.waitpid(migration, 0)
        if self._ended(migration, status):
            sys.exit("the database could not be migrated")
        os.write(tell, b"1")
        gc.freeze()
        for name, service in self._services.items():
            if not self._fork(name):
                return service
        while True:
            pid, status = os.wait()
            gone = self._running.get(pid, "")
            # Killed, and started again, as a service manager does. One that ends on its own has a reason, which is reported.
            if self._ended(pid, status) == -signal.SIGKILL and gone in self._services and not self._fork(gone):
                return self._services[gone]

    def end(self) -> None:
        """SIGTERM to the services, and after a grace SIGKILL to every descendant; returns when there is none."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for pid in self._running:
            kill(pid, signal.SIGTERM)  # not yet waited for, so the pid is theirs
        deadline = time.monotonic() + GRACE
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid:
                self._ended(pid, status)
                continue
            if not self._running or time.monotonic() > deadline:
                for descendant in descendants(self.pid):
                    kill(descendant)
            time.sleep(0.02)

    def _fork(self, name: str) -> int:
        """The pid of the new service, or 0 in it: a session of its own, its log as output, ended with the nanny."""
        if pid := os.fork():
            self._running[pid] = name
            self._journal.write(name, "started", pid)
            return pid
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        end_with_parent(self.pid)
        log = os.open(self._journal.path.with_name(f"{name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        gc.enable()
        return 0

    def _ended(self, pid: int, status: int) -> int:
        """Note the end of a service (or of an orphan below one) and return its exit code."""
        code = os.waitstatus_to_exitcode(status)
        if name := self._running.pop(pid, None):
            self._journal.write(name, "ended", code)
        return code


def end_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the thread that started this process ends; exit if it already has."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def descendants(ancestor: int) -> set[int]:
    """The pids of all processes below `ancestor`, zombies included."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: set[int] = set()
    fringe = [ancestor]
    while fringe:
        new = children.get(fringe.pop(), [])
        found.update(new)
        fringe += new
    return found


def marked(marker: str) -> list[int]:
    """The pids of the processes with `marker` (a `NAME=value`) in the environment they were started with; zombies have none."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            if marker.encode() in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal, if the process is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def main() -> None:
    """Arguments: the pid of the program that started the stack, and the journal (logs are beside it). Input: the services, as JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    end_with_parent(int(sys.argv[1]))
    del sys.path[0]  # this folder
    gc.disable()  # nothing but imports up to the forks
    services = {name: Service(*parts) for name, parts in json.load(sys.stdin).items()}  # not an argument: everyone sees those
    nanny = Nanny(Journal(Path(sys.argv[2])), services)
    try:
        service = nanny.run()
    finally:
        if os.getpid() == nanny.pid:
            nanny.end()
    service.become()


if __name__ == "__main__":
    main()
