"""S3 as a process of its own: moto's server on a free port of the loopback interface."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import requests

BUCKET = "ledgers"


@contextmanager
def moto_server() -> Iterator[SimpleNamespace]:
    """``url``, the ``env`` that points any S3 client at it, and ``ledger``, a root in a bucket that is there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    env = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        session = requests.Session()
        retries = requests.adapters.Retry(total=60, connect=60, backoff_factor=0.1, backoff_max=0.5)
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        session.put(f"{url}/{BUCKET}", timeout=5).raise_for_status()
        yield SimpleNamespace(url=url, env=env, ledger=f"s3://{BUCKET}/e2e")
    finally:
        server.terminate()
        server.wait(timeout=10)
