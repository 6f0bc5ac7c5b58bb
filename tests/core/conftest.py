"""Servers and the environment they need: no test here reaches, or has credentials for, a real cloud."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.core.ceph import Ceph
from tests.core.emulators import Azurite, GcsEmulator, S3rver
from tests.core.proxy import Proxy
from tests.core.servers import MotoServer, StubServer

settings.register_profile(
    "core", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a shared machine; nothing here is about time
settings.load_profile("core")


@pytest.fixture(autouse=True)
def no_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that open nothing, and no configuration or metadata service of this machine."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for name in [name for name in os.environ if name.startswith(("AZURE_", "GOOGLE_", "GCSFS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    """One S3 server for all tests; each takes a bucket of its own."""
    server = MotoServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def stub_server() -> Iterator[StubServer]:
    """One stub for all tests: a client of s3fs for each would take longer than its tests."""
    server = StubServer()
    yield server
    server.stop()


@pytest.fixture
def stub(stub_server: StubServer) -> StubServer:
    """An S3 that answers as the test says, empty."""
    stub_server.reset()
    return stub_server


@pytest.fixture(scope="session")
def s3_proxy(moto: MotoServer) -> Iterator[Proxy]:
    """In front of moto."""
    proxy = Proxy(moto.port)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsEmulator]:
    """One GCS for all tests."""
    server = GcsEmulator()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """One Azure for all tests."""
    server = Azurite()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3rver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3rver]:
    """An S3 that no ledger can be kept on."""
    server = S3rver(tmp_path_factory.mktemp("s3rver"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A second real S3, where it is asked for: it takes its time, and packages of the system."""
    if not os.environ.get("LEDGER_WATCHER_CEPH"):
        pytest.skip("Ceph starts for 15 s and is installed by apt: make test-ceph")
    server = Ceph(tmp_path_factory.mktemp("ceph"))
    yield server
    server.stop()
