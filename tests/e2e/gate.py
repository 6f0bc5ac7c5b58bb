"""A second api-server of a stack: under a base path, with users who log in and of whom not everybody may read every DAG."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import requests
from typing_extensions import Self

from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack, StackError

BASE = "/team/air"
PASSWORD = "secret"
AUTH = '''
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

class Gate(SimpleAuthManager):
    """Admins read every DAG, others the one that is called broken."""

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        named = details.id if details else None
        return (user.role == "admin" or named in (None, "broken")) and super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )
'''


class Gate:
    """The server while it is entered. ``ann`` is an admin, ``bob`` is not; both have the password :data:`PASSWORD`."""

    def __init__(self, stack: AirflowStack, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}{BASE}"
        folder.mkdir()
        (folder / "lw_gate_auth.py").write_text(AUTH)
        (folder / "passwords.json").write_text(json.dumps(dict.fromkeys(("ann", "bob"), PASSWORD)))
        self._log = folder / "api-server.log"
        self._env = {
            **stack._env,
            "PYTHONPATH": ":".join(filter(None, (str(folder), stack._env.get("PYTHONPATH")))),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__PORT": port,
            "AIRFLOW__CORE__AUTH_MANAGER": "lw_gate_auth.Gate",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ann:admin,bob:viewer",
        }

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "airflow", "api-server", "--apps", "core"]
            self._process = subprocess.Popen(command, env=self._env, stdout=log, stderr=log)
        if not until(self._answers, 120):
            self.__exit__(None, None, None)
            raise StackError(f"the second api-server does not answer:\n{self._log.read_text(errors='replace')[-3000:]}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise StackError(f"the second api-server ended:\n{self._log.read_text(errors='replace')[-3000:]}")
        try:
            return requests.get(f"{self.url}/api/v2/version", timeout=10).ok
        except requests.RequestException:
            return False

    def user(self, name: str | None) -> requests.Session:
        """What somebody asks with, with the cookie that a browser has; nobody's without a name."""
        session = requests.Session()
        session.trust_env = False
        if name is not None:
            answer = session.post(f"{self.url}/auth/token", json={"username": name, "password": PASSWORD}, timeout=30)
            session.cookies.set("_token", answer.json()["access_token"], path=BASE)
        return session
