"""Ceph's RADOS gateway from Debian's packages: one monitor, one OSD in memory. Another real S3, strict, with its own shapes of errors."""

from __future__ import annotations

import shutil
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.core.emulators import end_with_the_tests, wait_until_it_answers
from tests.core.proxy import PATIENCE, Proxy

CONFIG = """
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{monitor}/0]
auth cluster required = none
auth service required = none
auth client required = none
public network = 127.0.0.0/8
ms bind msgr2 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
[mon]
mon data = {folder}/mon
mon data avail warn = 1
mon data avail crit = 1
[osd]
osd data = {folder}/osd
osd objectstore = memstore
[client]
keyring = {folder}/none
rgw frontends = beast endpoint=127.0.0.1:{gateway}
"""


def free_port() -> int:
    """A port that was free a moment ago: Ceph cannot say which one it took."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Ceph:
    """Takes about 15 s to start."""

    def __init__(self, folder: Path) -> None:
        if missing := [
            name for name in ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool") if not shutil.which(name)
        ]:
            pytest.fail(f"{', '.join(missing)} is not installed here: make test-ceph")
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        fsid, monitor, gateway = str(uuid.uuid4()), free_port(), free_port()
        for name in ("mon", "osd"):
            (folder / name).mkdir()
        (folder / "ceph.conf").write_text(CONFIG.format(fsid=fsid, monitor=monitor, gateway=gateway, folder=folder))
        try:
            self._run("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{monitor}/0]", "--fsid", fsid, str(folder / "monmap"))
            self._ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", str(folder / "monmap"))
            self._start("ceph-mon", "-i", "a", "-f")
            self._ceph("ceph", "osd", "new", fsid, "0")
            self._ceph("ceph", "osd", "crush", "add", "0", "1.0", "root=default")
            self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", fsid)
            self._start("ceph-osd", "-i", "0", "-f")
            user = ("--uid", "t", "--display-name", "t", "--access-key", "testing", "--secret-key", "testing")
            self._ceph("radosgw-admin", "user", "create", *user)
            self._start("radosgw", "-n", "client.rgw", "-f")
            wait_until_it_answers(f"http://127.0.0.1:{gateway}/", self._processes[-1])
        except BaseException:
            self._end()
            raise
        self.proxy = Proxy(gateway)

    def bucket(self) -> str:
        """A new bucket."""
        import boto3

        name = f"bucket-{uuid.uuid4().hex[:12]}"
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=self.proxy.url, **keys).create_bucket(Bucket=name)
        return name

    def stop(self) -> None:
        self.proxy.stop()
        self._end()

    def _end(self) -> None:
        for process in reversed(self._processes):
            process.kill()  # nothing of it is kept
            process.wait(PATIENCE)

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True, cwd=self._folder)

    def _ceph(self, program: str, *arguments: str) -> None:
        self._run(program, "-c", str(self._folder / "ceph.conf"), *arguments)

    def _start(self, program: str, *arguments: str) -> None:
        with (self._folder / f"{program}.out").open("wb") as out:
            command = (program, "-c", str(self._folder / "ceph.conf"), *arguments)
            self._processes.append(
                subprocess.Popen(command, stdout=out, stderr=out, cwd=self._folder, preexec_fn=end_with_the_tests)  # noqa: PLW1509
            )
