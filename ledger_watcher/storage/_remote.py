"""Object stores through fsspec."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ledger_watcher.errors import ConfigError, Missing, StorageError
from ledger_watcher.storage._classify import is_empty_object, translate

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}

# The libraries retry for 45 to 87 s on their own; the writer and the reader own their retries, so each request is made once.
S3_CLIENT_CONFIG: Mapping[str, Any] = {
    "retries": {"mode": "standard", "total_max_attempts": 1},
    "connect_timeout": 3,
    "read_timeout": 10,
}
"""Arguments of botocore's Config, for whoever builds an S3 filesystem."""


def split_uri(uri: str) -> tuple[str, str]:
    """Scheme and path of a ledger's root.

    :raises ConfigError: empty, with credentials, a query or a fragment, or without a bucket.
    """
    if not isinstance(uri, str) or not uri.strip():
        raise ConfigError(
            "The ledger URI is empty; give a folder or a URI such as s3://bucket/prefix (ExecutionConfig.ledger_uri, or --ledger)."
        )
    if "://" not in uri:
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", uri):  # it would become a local folder named "s3:"
            raise ConfigError(f"The ledger URI {uri!r} has one slash after its scheme; write two (s3://bucket/prefix), or a path.")
        return "file", uri
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise ConfigError("The ledger URI cannot be parsed; write scheme://bucket/prefix, or a path.") from None
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if "@" in parts.netloc:
        raise ConfigError(f"The ledger URI for {where} holds credentials; use ledger_conn_id or the cloud's own credential chain.")
    if parts.query or parts.fragment:
        raise ConfigError(f"The ledger URI for {where} has a query or fragment; only scheme://bucket/prefix, or a path, is meant.")
    if parts.scheme in ("file", "local"):
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise ConfigError(f"{uri!r} names no local folder; a local ledger is file:///absolute/path (three slashes), or a path.")
        return parts.scheme, parts.path
    if not parts.netloc and parts.scheme != "memory":
        raise ConfigError(f"The ledger URI {uri!r} names no bucket; write {parts.scheme}://bucket/prefix.")
    return parts.scheme, f"{parts.netloc}{parts.path}"


def check_scheme(uri: str) -> None:
    """Refuse a scheme that fsspec does not know, by its registry alone: nothing is imported, no request made.

    :raises ConfigError: unknown scheme.
    """
    from fsspec.registry import known_implementations, registry  # noqa: PLC0415 - keeps the import of the core small

    scheme, _ = split_uri(uri)
    if scheme not in known_implementations and scheme not in registry:
        raise ConfigError(f"The ledger URI {uri!r} has the unknown scheme {scheme!r}; use a folder, or s3://, gs://, abfs://.")


def filesystem_factory(uri: str, storage_options: Mapping[str, Any]) -> Callable[[], AbstractFileSystem]:
    """A function that builds the filesystem of ``uri`` with one try per request and no listings cache."""
    check_scheme(uri)
    scheme, _ = split_uri(uri)

    def build() -> AbstractFileSystem:
        import fsspec  # noqa: PLC0415

        options = dict(storage_options)
        if _EXTRAS.get(scheme) == "s3":
            options["config_kwargs"] = {**S3_CLIENT_CONFIG, **options.get("config_kwargs", {})}  # a proxy given there changes no time-out
        try:
            return fsspec.filesystem(scheme, **options)
        except ImportError as error:
            extra = _EXTRAS.get(scheme)
            hint = f"pip install 'ledger-watcher[{extra}]'" if extra else "install the fsspec implementation of that scheme"
            raise ConfigError(f"The ledger {uri} needs a library that is not installed here ({error}); {hint}.") from error
        except (TypeError, ValueError) as error:
            raise ConfigError(f"The ledger {uri} cannot be opened with these storage options ({error}); correct them.") from error

    return build


class FsspecStore:
    """Objects of one fsspec filesystem. The filesystem is built lazily and once per process: inherited ones break after a fork."""

    def __init__(self, uri: str, filesystem: Callable[[], AbstractFileSystem]) -> None:
        self._uri = uri.rstrip("/")
        self._path = split_uri(uri)[1].strip("/")
        self._build = filesystem
        self._instance: tuple[int, AbstractFileSystem] | None = None

    @property
    def root(self) -> str:
        """The root as given."""
        return self._uri

    def _filesystem(self) -> AbstractFileSystem:
        if self._instance is None or self._instance[0] != os.getpid():
            filesystem = self._build()
            if hasattr(filesystem, "retries"):  # s3fs' own loop around botocore's
                filesystem.retries = 1
            filesystem.dircache.use_listings_cache = False  # however it was built: behind a cache a new segment stays invisible
            self._instance = (os.getpid(), filesystem)
        return self._instance[1]

    def create(self, key: str, data: bytes) -> None:
        """See :meth:`Store.create`: one conditional PUT."""
        filesystem = self._filesystem()
        try:
            filesystem.pipe_file(f"{self._path}/{key}", data, mode="create")
        except Exception as error:
            raise translate("create", f"{self._uri}/{key}", error) from error

    def get(self, key: str) -> bytes:
        """See :meth:`Store.get`. ``start=0`` makes it one plain GET on every backend (storage facts, trap 3)."""
        filesystem = self._filesystem()
        try:
            data: bytes = filesystem.cat_file(f"{self._path}/{key}", start=0)
        except Exception as error:
            if is_empty_object(error):
                return b""
            raise translate("get", f"{self._uri}/{key}", error) from error
        return data

    def list(self, prefix: str) -> list[str]:
        """See :meth:`Store.list`."""
        filesystem = self._filesystem()
        folder = f"{self._path}/{prefix}".rstrip("/")
        try:
            paths = filesystem.ls(folder, detail=False, refresh=True)
        except Exception as error:
            problem = translate("list", f"{self._uri}/{prefix}", error)
            if isinstance(problem, Missing):
                return []
            raise problem from error
        below = {path.strip("/") for path in paths} - {folder.strip("/")}  # an object of the prefix's own name is not below it
        return sorted({path.rsplit("/", 1)[-1] for path in below})


__all__ = ["FsspecStore", "StorageError", "check_scheme", "filesystem_factory", "split_uri"]
