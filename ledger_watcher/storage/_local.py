"""Local and NFS-mounted folders."""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import suppress
from pathlib import Path

from ledger_watcher.errors import ConfigError, Denied, Exists, Missing, Transient

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}


class LocalStore:
    """Objects as files. A new one is written to a temporary file, synced, then hard-linked to its name.

    ``link`` is atomic and fails if the name is taken, on NFS too; opening with ``O_EXCL`` would show readers half-written files.
    """

    def __init__(self, path: str) -> None:
        try:
            folder = Path(path).expanduser()
        except RuntimeError as error:
            raise ConfigError(f"The ledger folder {path!r} cannot be found ({error}); write its whole path.") from error
        if not folder.is_absolute():
            folder = Path.cwd() / folder
        self._folder = folder

    @property
    def root(self) -> str:
        """The folder as a ``file://`` URI."""
        return f"file://{self._folder}"

    def create(self, key: str, data: bytes) -> None:
        """See :meth:`Store.create`: never ambiguous here, since the link either exists afterwards or does not."""
        target = self._folder / key
        temporary = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_synced(temporary, data)
                try:
                    os.link(temporary, target)
                except OSError:
                    # NFS may report failure for a link that it made (its answer was lost and the retry found the name taken).
                    if temporary.stat().st_nlink != 2:  # noqa: PLR2004 - our own name and the target
                        raise
            finally:
                with suppress(OSError):
                    temporary.unlink()
            _sync_folder(target.parent)
        except OSError as error:
            raise _translated("create", target, error) from error

    def get(self, key: str) -> bytes:
        """See :meth:`Store.get`."""
        path = self._folder / key
        try:
            return path.read_bytes()
        except OSError as error:
            raise _translated("get", path, error) from error

    def list(self, prefix: str) -> list[str]:
        """See :meth:`Store.list`; files whose name begins with a dot are not objects."""
        path = self._folder / prefix
        try:
            return sorted(entry.name for entry in os.scandir(path) if not entry.name.startswith("."))
        except OSError as error:
            if error.errno in _MISSING:
                return []
            raise _translated("list", path, error) from error

    def delete(self, key: str) -> None:
        """See :meth:`Store.delete`. Folders below the root that become empty go too, as prefixes do in an object store."""
        path = self._folder / key
        try:
            if not path.parent.resolve().is_relative_to(self._folder.resolve()):
                raise Denied("delete", str(path), "a link leads out of the ledger; nothing there is deleted")
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._folder:
                    break
                try:
                    folder.rmdir()
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        break
                    if error.errno != errno.ENOENT:  # another deleter took it
                        raise
        except OSError as error:
            if error.errno != errno.ENOTDIR:  # below a file there is nothing
                raise _translated("delete", path, error) from error


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder; their link is durable by itself
            raise
    finally:
        os.close(descriptor)


def _translated(operation: str, path: Path, error: OSError) -> Exception:
    mistake = _mistake(path, error)
    if mistake and (operation == "create" or error.errno == errno.ENAMETOOLONG):
        return ConfigError(f"{mistake} ({error})")
    if error.errno == errno.EEXIST:
        return Exists(operation, str(path), error)
    if error.errno in _MISSING and operation != "create":
        return Missing(operation, str(path), error)
    if error.errno in _DENIED:
        return Denied(operation, str(path), error)
    return Transient(operation, str(path), error)  # for create, ENOENT too: somebody removed a folder that was there a moment ago


def _mistake(path: Path, error: OSError) -> str | None:
    """What is wrong with the root, if that is why a file could not be created."""
    if error.errno == errno.EEXIST and error.filename2 is None:  # of mkdir; that of link is a lost race for the object
        return f"{error.filename or path} is no folder where a ledger needs one; choose another ledger URI"
    if error.errno == errno.ENOTDIR:
        return f"{path.parent} lies below a file, so it cannot hold a ledger; choose another ledger URI"
    if error.errno in (errno.ENOTSUP, errno.EMLINK):
        return f"The file system of {path.parent} has no hard links, which create-if-absent needs; use another folder or an object store"
    if error.errno == errno.ENAMETOOLONG:
        return f"{path} is too long a path for this file system; choose a shorter ledger URI, or shorter ids"
    return None
