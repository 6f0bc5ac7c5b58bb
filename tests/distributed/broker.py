"""A private Redis for as long as a ``with`` block, on a free port of the loopback interface; Debian's ``redis-server``."""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.airflow_client import until


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """The URL of its database 0, with a password. It keeps nothing, and ends when this process does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    password = secrets.token_hex(16)
    settings = {"bind": "127.0.0.1", "port": port, "requirepass": password, "save": '""', "appendonly": "no", "dir": folder}
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig=TERM", "redis-server", "-"], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder
        )
    try:
        assert server.stdin is not None
        server.stdin.write("".join(f"{name} {value}\n" for name, value in settings.items()).encode())
        server.stdin.close()
        assert until(lambda: _answers(port), 30), (folder / "redis.log").read_text()
        yield f"redis://:{password}@127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(timeout=10)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith(b"-NOAUTH")
    except OSError:
        return False
