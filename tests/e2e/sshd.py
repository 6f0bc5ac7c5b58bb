"""A real OpenSSH server on 127.0.0.1 with keys of its own, for one test run."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
AcceptEnv none
SetEnv {variables}
"""


@contextmanager
def ssh_server(folder: Path, env: Mapping[str, str]) -> Iterator[str]:
    """Yields the JSON of an Airflow connection to it; commands there have ``env`` and nothing of this process's environment."""
    subprocess.run([str(ROOT / "scripts" / "system.sh"), "openssh-server", "openssh-client"], check=True, capture_output=True)
    folder.mkdir()
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # as Debian's service does
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    variables = " ".join(f'"{name}={value}"' for name, value in env.items())
    config = folder / "sshd_config"
    config.write_text(_CONFIG.format(port=port, folder=folder, variables=variables))
    with subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stderr=(folder / "log").open("w")) as server:
        try:
            _wait_for(port, server, folder)
            yield json.dumps(
                {
                    "conn_type": "ssh",
                    "host": "127.0.0.1",
                    "port": port,
                    "login": getpass.getuser(),
                    "extra": {
                        "key_file": str(folder / "user_key"),
                        "no_host_key_check": False,
                        "host_key": (folder / "host_key.pub").read_text().rsplit(" ", 1)[0],
                    },
                }
            )
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"sshd does not listen: {(folder / 'log').read_text()}")
