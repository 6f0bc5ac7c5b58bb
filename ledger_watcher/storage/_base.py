"""The capabilities that a ledger needs of a storage, and how to get one from a URI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ledger_watcher.errors import ConfigError
from ledger_watcher.storage._local import LocalStore
from ledger_watcher.storage._remote import FilesystemFactory, FsspecStore
from ledger_watcher.storage._uri import split_uri

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Store(Protocol):
    """A place for immutable objects under one root. Keys are relative, with ``/`` between their parts.

    Every method may raise :class:`~ledger_watcher.errors.Denied` and :class:`~ledger_watcher.errors.Transient`. Methods are
    synchronous and may be called from any thread.
    """

    @property
    def root(self) -> str:
        """The root as a URI, for messages."""

    def create(self, key: str, data: bytes) -> None:
        """Create the object if it is absent; no client ever observes a partially written one.

        :raises Exists: an object of that key is there (perhaps from an earlier try of this very call).
        :raises Ambiguous: the object may or may not have been created: read it back.
        """

    def get(self, key: str) -> bytes:
        """The whole object, in one request, past any listings cache.

        :raises Missing: there is no such object.
        """

    def list(self, prefix: str) -> list[str]:
        """Names directly below ``prefix``, sorted; an absent prefix has none."""

    def delete(self, key: str) -> None:
        """Remove the object; that there is none is success. For retention of whole runs only: inside a chain, a deletion is damage."""


def open_store(
    uri: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
    filesystem: Callable[[], AbstractFileSystem] | None = None,
) -> Store:
    """The store at ``uri``: a path or ``file://`` URI is local, everything else goes through fsspec.

    Nothing is read or written yet, and no cloud library is imported before the first request.

    :param storage_options: given to the fsspec filesystem (endpoint, credentials by reference, ...).
    :param filesystem: builds the filesystem instead (an Airflow connection, for example); called once per process.
    :raises ConfigError: the URI cannot be that of a ledger.
    """
    scheme, path = split_uri(uri)
    if scheme in ("file", "local"):
        if storage_options:
            raise ConfigError(f"storage_options {sorted(storage_options)} have no meaning for the local ledger {uri!r}; remove them.")
        return LocalStore(path)
    return FsspecStore(uri, filesystem or FilesystemFactory(uri, dict(storage_options or {})))
