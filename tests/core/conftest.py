"""Servers and the environment they need: no test here reaches, or has credentials for, a real cloud."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

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
