"""Files that a DAG is drawn from: a manifest, a plan, the output of ``dbt ls``. Each lies at a path or at any URI that fsspec knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger_watcher.errors import ConfigError, LedgerWatcherError
from ledger_watcher.project.cache import write_whole

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from ledger_watcher.storage import FsspecStore


@dataclass(frozen=True, slots=True)
class Place:
    """One file. Nothing is read, and no library of a cloud imported, before a method is called.

    Its methods raise :class:`OSError` for a local file and :class:`~ledger_watcher.errors.LedgerWatcherError` for a remote one.
    """

    name: str
    _store: FsspecStore | None = None

    @classmethod
    def of(
        cls,
        where: str | Path,
        *,
        filesystem: Callable[[], AbstractFileSystem] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Place:
        """The file at a path or URI; ``filesystem`` and ``storage_options`` as for :func:`~ledger_watcher.storage.open_store`.

        :raises ConfigError: no such URI can be.
        """
        uri = str(where)
        if "://" not in uri or uri.startswith(("file://", "local://")):
            path = uri.partition("://")[2] or uri
            return cls(str(Path(path).expanduser().absolute()))
        from ledger_watcher.storage import FsspecStore, open_store  # noqa: PLC0415 - only for a remote one

        folder, _, _ = uri.rpartition("/")
        try:
            store = open_store(folder, filesystem=filesystem, storage_options=storage_options)
        except LedgerWatcherError as error:
            raise ConfigError(f"{uri!r} cannot be read: {error}") from error
        return cls(uri, store if isinstance(store, FsspecStore) else None)

    @property
    def is_remote(self) -> bool:
        """Whether it lies in another place than this machine's folders."""
        return self._store is not None

    def version(self) -> str | None:
        """What changes when the file does, without reading it (for a remote one, in one request); ``None`` if its storage says no such thing."""
        if self._store is not None:
            return self._store.version(self._key)
        stat = Path(self.name).stat()
        return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"

    def read(self) -> bytes:
        """The whole file."""
        return self._store.get(self._key) if self._store is not None else Path(self.name).read_bytes()

    def write(self, data: bytes) -> None:
        """Create or replace the file as a whole."""
        if self._store is not None:
            self._store.replace(self._key, data)
        else:
            write_whole(Path(self.name), data)

    @property
    def _key(self) -> str:
        return self.name.rpartition("/")[2]
