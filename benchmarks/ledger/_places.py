"""Empty roots on each kind of storage, with the number of requests that reached it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger_watcher.storage import LocalStore, Store, open_store


@dataclass(frozen=True)
class Place:
    """``requests()`` counts what reached the server since it started; in a folder, and nowhere else, calls of the store."""

    name: str
    open: Callable[[], Store]
    requests: Callable[[], int]


@dataclass
class Counted:
    """A store, with the number of calls and the bytes created by the folder of their key (``seg``, ``ckpt``)."""

    inner: Store
    calls: int = 0
    created: dict[str, list[int]] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """Of the store."""
        return self.inner.root

    def create(self, key: str, data: bytes) -> None:
        """Counted."""
        self.calls += 1
        self.inner.create(key, data)
        self.created.setdefault(key.rpartition("/")[0].rpartition("/")[2], []).append(len(data))

    def get(self, key: str) -> bytes:
        """Counted."""
        self.calls += 1
        return self.inner.get(key)

    def list(self, prefix: str) -> list[str]:
        """Counted."""
        self.calls += 1
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        """Counted."""
        self.calls += 1
        self.inner.delete(key)


@contextmanager
def local() -> Iterator[Place]:
    """A folder."""
    with tempfile.TemporaryDirectory(prefix="ledger-watcher-bench-") as folder:
        store = Counted(LocalStore(folder))
        yield Place("local", lambda: store, lambda: store.calls)


@contextmanager
def s3() -> Iterator[Place]:
    """moto's server."""
    from tests.core.servers import CREDENTIALS, MotoServer  # noqa: PLC0415 - takes seconds

    server = MotoServer()
    try:
        uri = f"s3://{server.bucket()}/ledger"
        options = {**CREDENTIALS, "endpoint_url": server.url, "client_kwargs": {"region_name": "us-east-1"}}
        yield Place("S3 (moto)", _opener(uri, options), lambda: len(server.requests))
    finally:
        server.stop()


@contextmanager
def gcs() -> Iterator[Place]:
    """gcp-storage-emulator."""
    from tests.core.emulators import GcsEmulator  # noqa: PLC0415

    server = GcsEmulator()
    try:
        uri = f"gs://{server.bucket()}/ledger"
        options = {"endpoint_url": server.proxy.url, "token": "anon", "project": "p"}
        yield Place("GCS (gcp-storage-emulator)", _opener(uri, options), lambda: len(server.proxy.requests))
    finally:
        server.stop()


@contextmanager
def azure() -> Iterator[Place]:
    """Azurite.

    :raises FileNotFoundError: it is not installed.
    """
    from tests.core.emulators import TOOLS, Azurite  # noqa: PLC0415

    if not (Path(TOOLS) / "azurite-blob").exists():
        raise FileNotFoundError("azurite is not installed here: make tools")
    server = Azurite()
    try:
        options = {"connection_string": server.connection_string()}
        yield Place("Azure (azurite)", _opener(f"abfs://{server.bucket()}/ledger", options), lambda: len(server.proxy.requests))
    finally:
        server.stop()


KINDS = {"local": local, "s3": s3, "gcs": gcs, "azure": azure}


def _opener(uri: str, options: dict[str, Any]) -> Callable[[], Store]:
    os.environ.update(AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    return lambda: open_store(uri, storage_options=options)


@contextmanager
def places(*names: str) -> Iterator[list[Place]]:
    """Some of :data:`KINDS`."""
    with ExitStack() as stack:
        yield [stack.enter_context(KINDS[name]()) for name in names]
