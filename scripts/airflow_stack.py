"""A real Airflow on 127.0.0.1, for the end-to-end tests and the demo.

Api-server, scheduler with LocalExecutor (or Celery's and its workers), dag-processor and triggerers, in processes of their own, configured
only by environment variables. `airflow_nanny` starts and ends them; `airflow_client` has what one asks of them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType, TracebackType

import requests
from typing_extensions import Self

from scripts import airflow_nanny
from scripts.airflow_client import AirflowClient, StackError, until

__all__ = ["AirflowStack", "StackError"]

MARKER = "LEDGER_WATCHER_STACK"


class AirflowStack(AirflowClient):
    """One Airflow with all its state below `home`: a context manager around `start` and `stop`, and the client of what runs.

    Start it from a thread that lives as long as the stack: the kernel tells the nanny to end when that thread ends. It may be
    started again after `stop`, with the same database.

    :param env: more environment for all services; wins over what this class sets (`AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL`, ...).
    :param database_url: a SQLAlchemy URL of an existing database; SQLite in `home` without it.
    :param parallelism: worker processes of the LocalExecutor.
    :param workers: Celery workers, by service name, and the queue of each; `env` has `AIRFLOW__CELERY__BROKER_URL` and `..RESULT_BACKEND` then.
        Not waited for by `start`: their tasks wait in the broker.
    :param apart: more environment for single services (scheduler, triggerer-2, a worker, ...). Each of them is a process started anew in
        `home/<name>`, which is its AIRFLOW_HOME and its HOME, with its logs; it shares the DAGs' folder with the others, and no more.
    :param python: the interpreter of another environment with an Airflow of the same version, to run that.
    """

    def __init__(  # noqa: PLR0913 - each is something that a deployment varies
        self,
        home: Path,
        dags_folder: Path,
        *,
        env: Mapping[str, str] = MappingProxyType({}),
        database_url: str | None = None,
        parallelism: int = 8,
        triggerers: int = 1,
        workers: Mapping[str, str] = MappingProxyType({}),
        apart: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        python: str = sys.executable,
    ) -> None:
        self.home = home.resolve()
        name = str(uuid.uuid4())
        self.marker = f"{MARKER}={name}"
        self.log_folder = self.home / "logs-services"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        super().__init__(url, dags_folder.resolve(), database_url or f"sqlite:///{self.home}/airflow.db")
        self._env = {
            **_inherited(),
            **_configuration(self.home, self.url, parallelism),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags_folder),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._engine.url.render_as_string(hide_password=False),
            **({"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"} if workers else {}),
            **env,
            MARKER: name,
        }
        self._triggerers = triggerers
        if not database_url:
            # Beside one that writes, every other process waits for SQLite: 5 s if nothing else is said, and then Airflow's services end, on
            # a slow disk too. Much longer is no better: some hold the lock and wait for themselves, on a second connection, that long.
            self._env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] += "?timeout=15"
        self._services = {
            service: airflow_nanny.Service(argv, self._own(service, apart[service]) if service in apart else {})
            for service, argv in _commands(triggerers, workers).items()
        }
        self._python = python
        self._journal = airflow_nanny.Journal(self.log_folder / f"journal-{name}")
        self._nanny: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self, timeout: float = 120) -> None:
        """Migrate the database, start the services, and return when all of them are healthy.

        Raises StackError with the tail of its log when a service ends, and after `timeout` seconds. When anything interrupts it,
        KeyboardInterrupt too, nothing is left running.
        """
        self.log_folder.mkdir(parents=True, exist_ok=True)
        self._journal.path.unlink(missing_ok=True)
        for home in [self.home, *(Path(service.env["AIRFLOW_HOME"]) for service in self._services.values() if service.env)]:
            home.mkdir(exist_ok=True)
            (home / "airflow.cfg").touch()  # else each service writes the defaults into it
        try:
            self._run(timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process of the stack, within about two seconds, killing what does not end by itself. Idempotent.

        Raises StackError when a process cannot be ended.
        """
        self.close()
        nanny, self._nanny = self._nanny, None
        if nanny:
            nanny.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                nanny.wait(2 * airflow_nanny.GRACE)
        if not until(self._is_gone, airflow_nanny.GRACE):
            raise StackError(f"these processes could not be ended: {airflow_nanny.marked(self.marker)}")
        if nanny:
            nanny.wait()

    def pids(self) -> dict[str, int]:
        """The process id of every running service by name: api-server, scheduler, dag-processor, triggerer, triggerer-2, ..."""
        return self._journal.read()[0]

    def kill_service(self, name: str) -> None:
        """SIGKILL a service other than the api-server with all its processes; the nanny starts it again at once."""
        pid = self.pids()[name]
        for victim in (pid, *airflow_nanny.descendants(pid)):
            airflow_nanny.kill(victim)

    def kill_task(self, dag_id: str, run_id: str, task_id: str, *, supervisor: bool = False) -> None:
        """SIGKILL the process of a task that runs on a worker, together with what is below it; its supervisor too if asked to.

        Raises StackError if the task has no process, or if that is none of this stack's.
        """
        where = {"d": dag_id, "r": run_id, "t": task_id}
        rows = self.sql("select pid from task_instance where dag_id = :d and run_id = :r and task_id = :t", where)
        pid = rows[0][0] if rows else None
        if pid is None or self._nanny is None or pid not in airflow_nanny.descendants(self._nanny.pid):
            raise StackError(f"{dag_id} {run_id} {task_id} has no process here (pid {pid})")
        above = [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])] if supervisor else []
        for victim in (*above, pid, *airflow_nanny.descendants(pid)):
            airflow_nanny.kill(victim)

    def _run(self, timeout: float) -> None:
        began = time.time()
        command = [self._python, airflow_nanny.__file__, str(os.getpid()), str(self._journal.path)]
        with (self.log_folder / "nanny.log").open("wb") as log, tempfile.TemporaryFile("w+") as services:
            json.dump(self._services, services)
            services.seek(0)
            self._nanny = subprocess.Popen(
                command, env=self._env, cwd=self.home, start_new_session=True, stdin=services, stdout=log, stderr=log
            )
        if not until(lambda: self._is_healthy(began), timeout):
            raise StackError(f"Airflow is not healthy after {timeout} s (running: {', '.join(self.pids())}); see {self.log_folder}")

    def _own(self, service: str, env: Mapping[str, str]) -> dict[str, str]:
        """The environment of a service that stands apart."""
        home = str(self.home / service)
        return {"AIRFLOW_HOME": home, "HOME": home, "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": f"{home}/bundles", **env}

    def _is_gone(self) -> bool:
        left = airflow_nanny.marked(self.marker)
        for pid in left:
            airflow_nanny.kill(pid)
        return not left

    def _is_healthy(self, began: float) -> bool:
        """Whether all services beat since `began`, in seconds since the epoch; raises StackError when one ended."""
        ended = self._journal.read()[1]
        if self._nanny and self._nanny.poll() is not None:
            ended.setdefault("nanny", self._nanny.returncode)
        for name, code in ended.items():
            if name != "migrate" or code:
                log = self.log_folder / f"{name}.log"
                tail = log.read_text(errors="replace").splitlines()[-40:] if log.exists() else []
                raise StackError("\n".join([f"{name} ended with exit code {code}; the end of its log in {self.log_folder}:", *tail]))
        try:
            # The first request builds the execution API for seconds; a task that sent it would time out.
            self._http.get(f"{self.url}/execution/health", timeout=60)
            health = self._http.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
        except requests.RequestException:
            return False
        for name in ("scheduler", "triggerer", "dag_processor"):
            if health[name]["status"] != "healthy" or datetime.fromisoformat(health[name][f"latest_{name}_heartbeat"]).timestamp() < began:
                return False
        return self._triggerers == 1 or self.call("GET", "jobs?job_type=TriggererJob&is_alive=true")["total_entries"] >= self._triggerers


def _commands(triggerers: int, workers: Mapping[str, str]) -> dict[str, list[str]]:
    """What runs beside the api-server. The log servers listen on every interface, and on one machine the files are there to be read."""
    triggerer = ["triggerer", "--skip-serve-logs"]
    found = {"scheduler": ["scheduler", "--skip-serve-logs"], "dag-processor": ["dag-processor"], "triggerer": triggerer}
    found |= {f"triggerer-{number}": triggerer for number in range(2, triggerers + 1)}
    for name, queue in workers.items():
        one = ["--queues", queue, "--celery-hostname", f"{name}@%h", "--concurrency", "2"]
        found[name] = ["celery", "worker", "--skip-serve-logs", "--without-gossip", "--without-mingle", *one]
    return found


def _inherited() -> dict[str, str]:
    """This process's environment without its Airflow and its pytest, quiet, and able to keep compiled modules."""
    env = {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith(("AIRFLOW", "PYTEST_"))}
    if env.pop("PYTHONDONTWRITEBYTECODE", None):  # compiling Airflow in every process takes longer than all the rest
        cache = env.get("LEDGER_WATCHER_CACHE") or f"{sys.prefix}/cache"
        env.setdefault("PYTHONPYCACHEPREFIX", f"{cache}/pycache")
    return env | {
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",  # setproctitle would overwrite the marker in /proc/<pid>/environ
    }


def _configuration(home: Path, url: str, parallelism: int) -> dict[str, str]:
    """Airflow's settings as environment variables: everything in `home`, on loopback, quick to notice, with secrets of its own."""
    settings = {
        "core": {
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "dags_are_paused_at_creation": "False",
            "execution_api_server_url": f"{url}/execution/",
            "executor": "LocalExecutor",
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "hostname_callable": "platform.node",  # the default asks the name server
            "load_examples": "False",
            "min_serialized_dag_update_interval": "0",
            "mp_start_method": "fork",
            "parallelism": str(parallelism),
            "simple_auth_manager_all_admins": "True",
        },
        "api": {
            "base_url": url,
            "expose_stacktrace": "True",  # an error of the database says which one
            "host": "127.0.0.1",
            "port": url.rpartition(":")[2],
            "secret_key": secrets.token_hex(),
            "workers": "1",
        },
        "api_auth": {"jwt_secret": secrets.token_hex()},
        # A new or changed file is parsed within two seconds, an unchanged one every 30 seconds.
        "dag_processor": {
            "bundle_refresh_check_interval": "1",
            "dag_bundle_storage_path": str(home / "bundles"),
            "min_file_process_interval": "30",
            "refresh_interval": "1",
        },
        "logging": {
            "colored_console_log": "False",
            "namespace_levels": "http.access=WARNING",
            "uvicorn_logging_level": "WARNING",
        },
        "scheduler": {
            "job_heartbeat_sec": "1",
            "scheduler_heartbeat_sec": "1",
            "scheduler_idle_sleep_time": "0.3",
            # Seconds until a task whose worker is gone is noticed; 300 otherwise.
            "task_instance_heartbeat_timeout": "30",
            "task_instance_heartbeat_timeout_detection_interval": "3",
        },
        "triggerer": {"job_heartbeat_sec": "1"},
        "workers": {"min_heartbeat_interval": "1"},  # a worker is busy for up to this long after the end of its task
    }
    flat = {f"AIRFLOW__{section}__{key}".upper(): value for section, keys in settings.items() for key, value in keys.items()}
    return {"AIRFLOW_HOME": str(home), **flat}
