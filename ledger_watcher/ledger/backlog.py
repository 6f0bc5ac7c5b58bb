"""What waits for the storage: in memory up to a bound, behind that in a local file, never out of order."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1024 * 1024


class Backlog:
    """A queue of encoded records. Not thread-safe: its user holds a lock.

    The file has no name while it is used, so nothing is left behind however the process ends. When it has grown to ``disk_bytes``,
    or cannot be written, lines that may be dropped are dropped and counted; the others go on waiting in memory.
    """

    def __init__(self, memory_bytes: int, disk_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes
        self._front: deque[bytes] = deque()
        self._file: BinaryIO | None = None
        self._read_at = self._write_at = 0
        self._behind: deque[bytes] = deque()  # came when the file could take no more
        self._count = 0
        self.nbytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._count

    def put(self, line: bytes, *, droppable: bool = False) -> None:
        """Add a line at the end. ``droppable``: rather lose it, counted in ``dropped``, than pass the bounds."""
        if self._file is None and not self._behind and self._held() + len(line) <= self._memory_bytes:
            self._front.append(line)
        elif not self._spill(line):
            if droppable:
                self.dropped += 1
                return
            self._behind.append(line)
        self._count += 1
        self.nbytes += len(line) + 1

    def take(self, limit: int) -> list[bytes]:
        """The lines at the front, at most ``limit`` bytes of them but at least one; none if nothing waits."""
        lines: list[bytes] = []
        size = 0
        while self._refill() and (not lines or size + len(self._front[0]) < limit):
            lines.append(self._front.popleft())
            size += len(lines[-1]) + 1
        self._count -= len(lines)
        self.nbytes -= size
        return lines

    def untake(self, lines: list[bytes]) -> None:
        """Put lines that were taken back to the front."""
        self._front.extendleft(reversed(lines))
        self._count += len(lines)
        self.nbytes += sum(len(line) + 1 for line in lines)

    def save(self, path: Path, first: bytes) -> None:
        """Write ``first`` and all lines to a new file that only this user may read, and forget them.

        :raises OSError: it cannot be written.
        """
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(first + b"\n")
            while lines := self.take(_CHUNK):
                out.write(b"\n".join(lines) + b"\n")
            out.flush()
            os.fsync(out.fileno())

    def clear(self) -> None:
        """Forget everything."""
        self._front.clear()
        self._behind.clear()
        self._close_file()
        self._count = self.nbytes = 0

    def _held(self) -> int:
        return self.nbytes - (self._write_at - self._read_at)

    def _spill(self, line: bytes) -> bool:
        """Whether the line is in the file now."""
        if self._behind or self._write_at + len(line) > self._disk_bytes:
            return False
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0, prefix="ledger-watcher-")  # noqa: SIM115 - lives as long as it holds lines
            done = os.pwrite(self._file.fileno(), line + b"\n", self._write_at)
        except OSError:
            return False
        if done <= len(line):  # the disk is full: the next line goes over what did get there
            return False
        self._write_at += done
        return True

    def _refill(self) -> bool:
        """Whether a line stands at the front; the next ones are read from the file if need be."""
        if not self._front and self._file is not None:
            self._front.extend(self._from_file())
        if not self._front:
            self._front, self._behind = self._behind, self._front
        return bool(self._front)

    def _from_file(self) -> Iterator[bytes]:
        assert self._file is not None  # noqa: S101 - asked by the only caller
        wanted = _CHUNK
        data = os.pread(self._file.fileno(), min(wanted, self._write_at - self._read_at), self._read_at)
        while b"\n" not in data and len(data) < self._write_at - self._read_at:  # one line may be longer than a chunk
            wanted *= 2
            data = os.pread(self._file.fileno(), min(wanted, self._write_at - self._read_at), self._read_at)
        whole = data[: data.rfind(b"\n") + 1]
        self._read_at += len(whole)
        if self._read_at == self._write_at:
            self._close_file()
        return iter(whole.split(b"\n")[:-1])

    def _close_file(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file = None
        self._read_at = self._write_at = 0
