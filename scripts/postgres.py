"""A private PostgreSQL for tests and benchmarks: a fresh cluster in a temporary folder, on a free port of the loopback interface.

The programs come from Debian's package (``scripts/system.sh postgresql``); nothing is installed here. PostgreSQL refuses to run as root,
so as root the cluster belongs to the package's user ``postgres``. It ends when the ``with`` block does, or when this process dies.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import final

HOST = "127.0.0.1"
USER = "ledger"
_ACCOUNT = "postgres"
_DEBIAN = Path("/usr/lib/postgresql")
_PATIENCE = 60.0
"""Seconds after which a server that does not answer is taken for broken."""


@final
@dataclass(slots=True)
class Postgres:
    """A running server between ``with Postgres() as server:`` and its end. ``user`` is a superuser who logs in with ``password``.

    ``settings`` are PostgreSQL's own, beside those that this class gives.

    :raises RuntimeError: PostgreSQL is not installed, or does not start: then with its log.
    """

    port: int = 0
    user: str = USER
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    settings: Mapping[str, str] = field(default_factory=dict)
    _folder: Path = field(default_factory=Path, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Postgres:
        programs = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        try:
            self._initialise(programs)
            self._start(programs)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def env(self) -> dict[str, str]:
        """The variables by which psql and every client library find the server."""
        return {"PGHOST": HOST, "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": self.password}

    @property
    def pid(self) -> int:
        """Process id of the server, for who wants to kill it.

        :raises RuntimeError: it does not run.
        """
        if self._process is None:
            raise RuntimeError("PostgreSQL does not run; enter the context first.")
        return self._process.pid

    def execute(self, sql: str, *, database: str = "postgres") -> str:
        """Run statements, each by itself, and return their rows: a line each, ``|`` between the fields.

        :raises RuntimeError: with PostgreSQL's message.
        """
        argv = [str(_programs() / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
        done = subprocess.run(argv, env={**os.environ, **self.env}, input=sql, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"PostgreSQL refused: {done.stderr.strip()}")
        return done.stdout.strip()

    def create_database(self, name: str) -> None:
        """An empty database."""
        self.execute(f'create database "{name}"')

    def stop(self) -> None:
        """End the server at once, whoever is connected, and delete the cluster. Again is the same as once."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)  # "immediate": there is nothing to keep
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _initialise(self, programs: Path) -> None:
        secret = self._folder / "password"
        secret.write_text(self.password)
        if os.geteuid() == 0:
            account = pwd.getpwnam(_ACCOUNT)
            for path in (self._folder, secret):
                os.chown(path, account.pw_uid, account.pw_gid)
        options = ["--auth=scram-sha-256", f"--username={self.user}", f"--pwfile={secret}", "--encoding=UTF8", "--no-locale", "--no-sync"]
        argv = [*_as_account(), str(programs / "initdb"), "-D", str(self._folder / "data"), *options]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=self._folder, check=False)
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stdout}{done.stderr}")
        secret.unlink()

    def _start(self, programs: Path) -> None:
        self.port = self.port or _free_port()
        settings = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": "", "fsync": "off", "max_connections": 100}
        options = [part for name, value in {**settings, **self.settings}.items() for part in ("-c", f"{name}={value}")]
        log = self._folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*_as_account("--pdeathsig=QUIT"), str(programs / "postgres"), "-D", str(self._folder / "data"), *options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        deadline = time.monotonic() + _PATIENCE
        ready = [str(programs / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text('utf-8', 'replace')}")
            time.sleep(0.05)


def _programs() -> Path:
    """The folder of the newest version's programs."""
    versions = [path for path in _DEBIAN.glob("*/bin") if (path / "initdb").exists()]
    if versions:
        return max(versions, key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    if found is None:
        raise RuntimeError("PostgreSQL is not installed; run: scripts/system.sh postgresql")
    return Path(found).resolve().parent


def _as_account(*options: str) -> list[str]:
    """What to put in front of a command, so that it does not run as root."""
    account = [f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--init-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *account, *options] if account or options else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
