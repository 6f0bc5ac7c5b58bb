"""The temporary folder of one attempt, and what attempts that were killed left of theirs.

The folder is locked (``flock``) for as long as the process that made it lives, and dbt, which inherits the lock. The kernel lets go of
it however they end, so that an unlocked folder is nobody's and the next attempt on this machine removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

PREFIX = "ledger-watcher-run-"


class Workspace:
    """A folder of its own, removed on exit. ``inherited`` is for dbt: the file descriptor that holds the lock.

    Where folders cannot be locked (NFS) there is no lock, and nothing that was left is removed, since nobody can tell whose it is.
    """

    def __init__(self) -> None:
        sweep(Path(tempfile.gettempdir()))
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
            try:
                lock = _locked(self.path)
            except OSError:
                self.inherited: tuple[int, ...] = ()
                return
            if lock is not None:
                self.inherited = (lock,)
                if self.path.is_dir():
                    return
                os.close(lock)  # another attempt's sweep came between the two calls

    def folder(self, name: str) -> Path:
        """A new folder in it."""
        path = self.path / name
        path.mkdir()
        return path

    def __enter__(self) -> Workspace:  # noqa: PYI034 - Self is Python 3.11's
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        for descriptor in self.inherited:
            os.close(descriptor)


def sweep(parent: Path) -> None:
    """Remove the folders in ``parent`` that belong to this user and to no process any more. Never raises: others may be at it, too."""
    for path in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.lstat().st_uid == os.getuid() and (lock := _locked(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _locked(path: Path) -> int | None:
    """The lock on a folder as a file descriptor, ``None`` if somebody else has it or it is no folder (any more).

    :raises OSError: folders cannot be locked there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
