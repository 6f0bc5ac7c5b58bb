"""A store for commands that make many requests, one of which may be throttled."""

from __future__ import annotations

from ledger_watcher.cli._runs import patiently
from ledger_watcher.storage import Store


class PatientStore:
    """A store whose requests, but for creates, are tried again when it is throttled."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.root = store.root

    def get(self, key: str) -> bytes:
        """See :class:`~ledger_watcher.storage.Store`."""
        return patiently(lambda: self._store.get(key))

    def list(self, prefix: str) -> list[str]:
        """See :class:`~ledger_watcher.storage.Store`."""
        return patiently(lambda: self._store.list(prefix))

    def create(self, key: str, data: bytes) -> None:
        """See :class:`~ledger_watcher.storage.Store`."""
        self._store.create(key, data)

    def delete(self, key: str) -> None:
        """See :class:`~ledger_watcher.storage.Store`."""
        patiently(lambda: self._store.delete(key))
