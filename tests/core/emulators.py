"""Storage servers on 127.0.0.1 that are other people's programs, each as a process (or a thread) of the tests."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
import secrets
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests

from tests.core.proxy import PATIENCE, Forward, Proxy, Request, Response

TOOLS = Path(__file__).parents[2] / ".tools/npm/node_modules/.bin"


def end_with_the_tests() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: also if the tests are killed


class Program:
    """A server that says on its standard output where it listens."""

    def __init__(self, *command: str, **environment: str) -> None:
        if not Path(command[0]).exists():
            pytest.fail(f"{Path(command[0]).name} is not installed here: make tools")
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=end_with_the_tests,  # noqa: PLW1509 - one call of libc
        )
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if found := re.search(r"listen\w* on (?:http://)?127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            pytest.fail(f"{command[0]} did not start: {said}")
        threading.Thread(target=self._process.stdout.read, daemon=True).start()  # so that it never waits for a reader

    def stop(self) -> None:
        """End it and wait for its end."""
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE)


class Azurite:
    """Azure's own emulator of Blob storage, with an account made up for it."""

    def __init__(self) -> None:
        self.account, self.key = "ledgers", base64.b64encode(secrets.token_bytes(32)).decode()
        self._program = Program(
            str(TOOLS / "azurite-blob"),
            *(
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                "0",
                "--inMemoryPersistence",
                "--silent",
                "--skipApiVersionCheck",
                "--disableTelemetry",
            ),
            AZURITE_ACCOUNTS=f"{self.account}:{self.key}",
        )
        self.proxy = Proxy(self._program.port)

    def connection_string(self, key: str | None = None) -> str:
        """For the storage options, or the environment."""
        endpoint = f"{self.proxy.url}/{self.account}"
        return f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={key or self.key};BlobEndpoint={endpoint};"

    def bucket(self) -> str:
        """A new container."""
        from azure.storage.blob import BlobServiceClient

        name = f"container-{uuid.uuid4().hex[:12]}"
        with BlobServiceClient.from_connection_string(self.connection_string()) as client:
            client.create_container(name)
        return name

    def stop(self) -> None:
        self.proxy.stop()
        self._program.stop()


class GcsEmulator:
    """gcp-storage-emulator, which ignores preconditions; ``proxy`` honours that of a create, ``bare`` is without it."""

    def __init__(self) -> None:
        from gcp_storage_emulator.server import create_server

        self._server = create_server("127.0.0.1", 0, in_memory=True)
        self._server.start()
        self._server._api._httpd.socket.listen(128)  # it has one thread and a queue of five
        port = self._server._api._httpd.server_port
        self._one_at_a_time = threading.Lock()
        self.proxy = Proxy(port, self._conditionally)
        self.bare = f"http://127.0.0.1:{port}"

    def bucket(self) -> str:
        """A new bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        requests.post(f"{self.bare}/storage/v1/b?project=p", json={"name": name}, timeout=PATIENCE).raise_for_status()
        return name

    def stop(self) -> None:
        self.proxy.stop()
        self._server.stop()

    def _conditionally(self, request: Request, forward: Forward) -> Response:
        url = urlsplit(request.target)
        with self._one_at_a_time:
            if parse_qs(url.query).get("ifGenerationMatch") == ["0"]:
                name = json.loads(request.body.split(b"\n\n", 1)[1].split(b"\n", 1)[0])["name"]
                target = f"/storage/v1{url.path.removeprefix('/upload/storage/v1')}/{quote(name, safe='')}"
                if forward(Request("GET", target)).status == 200:
                    error = {"error": {"code": 412, "message": "An object of that name is there."}}
                    return Response(412, [("Content-Type", "application/json")], json.dumps(error).encode())
            return forward(request)


class S3rver:
    """An S3 that ignores conditions."""

    def __init__(self, folder: Path) -> None:
        self._program = Program(
            str(TOOLS / "s3rver"),
            *("-d", str(folder), "-a", "127.0.0.1", "-p", "0", "--no-vhost-buckets", "--allow-mismatched-signatures"),
            *("--configure-bucket", "bucket"),
        )
        self.url = f"http://127.0.0.1:{self._program.port}"

    def stop(self) -> None:
        self._program.stop()


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    """Any answer will do."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            requests.get(url, timeout=PATIENCE)
        except requests.ConnectionError:  # noqa: PERF203 - it is waited for
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server never answered"
            time.sleep(0.1)
        else:
            return
