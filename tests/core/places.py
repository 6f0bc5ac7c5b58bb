"""An empty root on each kind of storage that the tests know."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.storage import Store, open_store
from tests.core.ceph import Ceph
from tests.core.emulators import Azurite, GcsEmulator
from tests.core.proxy import Proxy
from tests.core.servers import CREDENTIALS
from tests.core.stores import MemoryStore

HTTP = ["s3", "gcs", "azure", "ceph"]
KINDS = ["local", "test", "memory", *HTTP]


@dataclass
class Place:
    """A root, and how to open it; each store is a client of its own, as in another process."""

    uri: str
    options: dict[str, Any] | None = None
    proxy: Proxy | None = None
    opener: Callable[[], Store] | None = field(default=None, repr=False)

    def open(self, **more: object) -> Store:
        if self.opener is not None:
            return self.opener()
        return open_store(self.uri, storage_options=None if self.options is None else {**self.options, **more})

    def elsewhere(self, bucket: str) -> Store:
        """The same account, another bucket."""
        return open_store(f"{self.uri.partition('://')[0]}://{bucket}/ledger", storage_options=self.options)

    @property
    def wire(self) -> Proxy:
        """Where the requests pass."""
        assert self.proxy is not None
        return self.proxy


def place_of(kind: str, request: pytest.FixtureRequest) -> Place:
    """A new, empty root."""
    if kind == "local":
        folder: Path = request.getfixturevalue("tmp_path")
        return Place(str(folder / "ledger"))
    if kind == "test":
        shared = MemoryStore()
        return Place(shared.root, opener=lambda: shared)
    if kind == "memory":
        return Place(f"memory://{uuid.uuid4().hex}/ledger")
    if kind == "gcs":
        gcs: GcsEmulator = request.getfixturevalue("gcs")
        gcs.proxy.reset()
        return Place(f"gs://{gcs.bucket()}/ledger", {"endpoint_url": gcs.proxy.url, "token": "anon", "project": "p"}, gcs.proxy)
    if kind == "azure":
        azurite: Azurite = request.getfixturevalue("azurite")
        azurite.proxy.reset()
        return Place(f"abfs://{azurite.bucket()}/ledger", {"connection_string": azurite.connection_string()}, azurite.proxy)
    server: Any = request.getfixturevalue("moto" if kind == "s3" else "ceph")
    proxy: Proxy = request.getfixturevalue("s3_proxy") if kind == "s3" else server.proxy
    assert kind == "s3" or isinstance(server, Ceph)
    proxy.reset()
    return Place(f"s3://{server.bucket()}/ledger", {**CREDENTIALS, "endpoint_url": proxy.url}, proxy)
