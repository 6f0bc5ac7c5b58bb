"""What waits for the storage keeps its order and its bounds, whatever the disk does."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_watcher.ledger import backlog as module
from ledger_watcher.ledger.backlog import Backlog


def line(number: int, size: int = 10) -> bytes:
    """A line of that many bytes that a test can recognise."""
    return f"{number:06d}".encode().ljust(size, b".")


def drained(backlog: Backlog, limit: int = 100) -> list[bytes]:
    """Everything, in pieces of at most ``limit`` bytes."""
    found: list[bytes] = []
    while lines := backlog.take(limit):
        assert len(lines) == 1 or sum(len(each) + 1 for each in lines) <= limit
        found += lines
    return found


@given(
    memory=st.integers(0, 60),
    disk=st.integers(0, 60),
    chunk=st.integers(1, 40),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 30), st.booleans()),
            st.tuples(st.just("take"), st.integers(0, 60), st.booleans()),
            st.tuples(st.just("break"), st.just(0), st.booleans()),
        ),
        max_size=60,
    ),
)
def test_it_is_a_queue(memory: int, disk: int, chunk: int, steps: list[tuple[str, int, bool]]) -> None:
    """Against a plain list: order, counts and sizes, over memory, file and what came when the file could take no more."""
    broken = False
    pwrite, kept = os.pwrite, module._CHUNK

    def sometimes(fd: int, data: bytes, offset: int) -> int:
        if broken:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(fd, data, offset)

    model: deque[bytes] = deque()
    backlog = Backlog(memory, disk)
    dropped = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", sometimes)
        patch.setattr(module, "_CHUNK", chunk)
        for number, (what, size, flag) in enumerate(steps):
            if what == "break":
                broken = flag
            elif what == "put":
                before = backlog.dropped
                backlog.put(line(number, size), droppable=flag)
                assert backlog.dropped == before or flag
                if backlog.dropped == before:
                    model.append(line(number, size))
                else:
                    dropped += 1
            else:
                lines = backlog.take(size)
                assert lines == [model.popleft() for _ in lines]
                assert bool(lines) or not model
                if flag:
                    backlog.untake(lines)
                    model.extendleft(reversed(lines))
            assert (len(backlog), backlog.nbytes, backlog.dropped) == (len(model), sum(len(each) + 1 for each in model), dropped)
            assert backlog._write_at <= disk + 1
        assert drained(backlog) == list(model)
        assert (len(backlog), backlog.nbytes, backlog._file) == (0, 0, None)
    assert kept == module._CHUNK


def test_memory_first_then_the_file_then_drops() -> None:
    """In that order; what may not be dropped waits in memory, and comes last."""
    backlog = Backlog(33, 33)
    for number in range(10):
        backlog.put(line(number), droppable=True)
    assert (len(backlog), backlog.dropped, backlog._held(), backlog._write_at) == (6, 4, 33, 33)
    backlog.put(line(10))
    backlog.put(line(11), droppable=True)
    assert backlog.dropped == 5
    assert drained(backlog) == [*map(line, range(6)), line(10)]
    backlog.put(line(12), droppable=True)
    assert (drained(backlog), backlog.dropped) == ([line(12)], 5), "when it has drained there is room again"


def test_a_line_longer_than_a_chunk_comes_back_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 16)
    backlog = Backlog(0, 10**6)
    lines = [line(0, 5), line(1, 1000), line(2, 17), line(3, 16), line(4, 15), line(5, 0)]
    for each in lines:
        backlog.put(each)
    assert drained(backlog) == lines


def test_the_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left behind however the process ends."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    backlog = Backlog(0, 1000)
    backlog.put(line(0))
    assert backlog._file is not None
    assert list(tmp_path.iterdir()) == []
    backlog.clear()
    assert (len(backlog), backlog.nbytes, backlog._file) == (0, 0, None)


@pytest.mark.parametrize("written", [0, 1, 10])
def test_a_write_that_did_not_all_get_there_is_none(monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """The disk filled up in mid-line: half a line is never read, and the next one goes over it."""
    pwrite = os.pwrite
    full = [False]
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:written] if full[0] else data, at))
    backlog = Backlog(0, 1000)
    backlog.put(line(0))
    full[0] = True
    backlog.put(line(1), droppable=True)
    backlog.put(line(2), droppable=True)
    assert backlog.dropped == 2
    full[0] = False
    backlog.put(line(3))
    assert drained(backlog) == [line(0), line(3)]


def test_no_folder_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What must not be lost waits in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    backlog = Backlog(0, 1000)
    backlog.put(line(0))
    backlog.put(line(1), droppable=True)
    assert (backlog.dropped, drained(backlog)) == (1, [line(0)])


REAL_LIMIT = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from ledger_watcher.ledger.backlog import Backlog
backlog = Backlog(100, 10**9)
for number in range(1000):
    backlog.put(b"%06d" % number, droppable=number % 2 == 1)
lines = []
while found := backlog.take(100):
    lines += found
print(json.dumps([backlog.dropped, [int(each) for each in lines]]))
"""


def test_a_real_limit_of_the_system() -> None:
    """A process that may write no file beyond 4 KiB: even numbers must be kept, odd ones may be dropped from there on."""
    assert resource.RLIMIT_FSIZE
    assert signal.SIGXFSZ
    result = subprocess.run([sys.executable, "-c", REAL_LIMIT], capture_output=True, text=True, check=True)
    dropped, kept = json.loads(result.stdout)
    assert dropped > 100
    assert kept == sorted(kept)
    assert set(range(0, 1000, 2)) <= set(kept)
    assert len(kept) == 1000 - dropped
    assert kept[:595] == list(range(595)), "about 4 KiB of seven bytes each, and what memory holds"


def test_save_writes_everything_for_its_owner_only(tmp_path: Path) -> None:
    backlog = Backlog(30, 30)
    for number in range(8):
        backlog.put(line(number))
    path = tmp_path / "saved"
    backlog.save(path, b"first")
    assert path.read_bytes() == b"".join(each + b"\n" for each in [b"first", *map(line, range(8))])
    assert path.stat().st_mode & 0o777 == 0o600
    assert (len(backlog), backlog.nbytes, backlog._file) == (0, 0, None)


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"theirs"), lambda path: path.mkdir()], ids=["a file", "a folder"])
def test_save_overwrites_nothing(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    backlog = Backlog(1000, 0)
    backlog.put(line(0))
    path = tmp_path / "saved"
    spoil(path)
    with pytest.raises(FileExistsError):
        backlog.save(path, b"first")
    assert drained(backlog) == [line(0)], "and nothing is forgotten"
