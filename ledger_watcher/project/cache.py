"""Where what was found out once is kept: a folder of this machine, and, if set, a storage that several machines share.

A cache is only ever an optimisation: what cannot be kept is found out again, and what is in it is found by a hash of all that it depends on.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ledger_watcher.errors import Exists, LedgerWatcherError, Missing

if TYPE_CHECKING:
    from ledger_watcher.storage import Store

CACHE_ENV = "LEDGER_WATCHER_CACHE_DIR"
KEPT_DAYS = 30
"""A file of the folder that nobody has read for so long goes when another one comes. The shared place is for its own lifecycle rules."""
_A_DAY = 86_400.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cache:
    """Files by name. ``shared`` is asked for what ``folder`` does not have, and gets what is new; if it is out of reach, that is logged."""

    folder: Path
    shared: Store | None = None

    @classmethod
    def local(cls) -> Cache:
        """The folder that the environment names, or the user's."""
        # Not Path.expanduser: it raises where there is no home folder (containers that run as an arbitrary user).
        folder = os.environ.get(CACHE_ENV) or f"{os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')}/ledger_watcher"  # noqa: PTH111
        return cls(Path(folder))

    def get(self, name: str) -> bytes | None:
        """What is kept under this name."""
        file = self.folder / name
        with suppress(OSError):
            data = file.read_bytes()
            if file.stat().st_mtime < time.time() - _A_DAY:
                os.utime(file)  # it is in use
            return data
        if self.shared is None:
            return None
        try:
            data = self.shared.get(name)
        except Missing:
            return None
        except LedgerWatcherError as error:
            log.warning("The shared cache cannot be asked: %s", error)
            return None
        self._keep(name, data)
        return data

    def put(self, name: str, data: bytes) -> None:
        """Keep it, if that is possible; in the shared place, only if there is nothing of that name."""
        self._keep(name, data)
        if self.shared is None:
            return
        try:
            self.shared.create(name, data)
        except Exists:
            pass
        except LedgerWatcherError as error:
            log.warning("The shared cache cannot be written: %s", error)

    def _keep(self, name: str, data: bytes) -> None:
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / name, data)
            for file in self.folder.glob("*.json"):
                if file.stat().st_mtime < time.time() - KEPT_DAYS * _A_DAY:
                    file.unlink()


def write_whole(path: Path, data: bytes) -> None:
    """The whole file or none: somebody may be reading it.

    :raises OSError: it cannot be written.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except OSError:  # a full disk, say: leave nothing behind, parse after parse
        Path(temporary).unlink()
        raise


def named(kind: str, *parts: object) -> str:
    """The name of what depends on these parts, and on nothing else."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{kind}-{digest[:32]}.json"
