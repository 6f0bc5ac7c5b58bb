"""The temporary folder of an attempt: gone with it, and gone after it if it was killed, but never under a process that lives."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger_watcher.capture.workspace import PREFIX, Workspace
from tests.core.fakes import PATIENCE, FakeDbt


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this process and its children."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_it_is_gone_with_the_attempt(temporary: Path) -> None:
    with Workspace() as workspace:
        (workspace.folder("target") / "file").write_text("x")
        assert [path.name for path in temporary.iterdir()] == [workspace.path.name]
    assert list(temporary.iterdir()) == []


def test_what_nobody_holds_is_removed_and_what_somebody_holds_is_not(temporary: Path) -> None:
    left = temporary / f"{PREFIX}left"
    (left / "target").mkdir(parents=True)
    other = temporary / "another-program"
    other.mkdir()
    (temporary / f"{PREFIX}link").symlink_to(other)
    (temporary / f"{PREFIX}file").write_text("x")
    with Workspace() as first, Workspace() as second:
        assert first.path.is_dir()
        assert second.path.is_dir()
    assert {path.name for path in temporary.iterdir()} == {"another-program", f"{PREFIX}link", f"{PREFIX}file"}


@contextmanager
def wrapper(dbt: FakeDbt, code: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A real ``ledger-watcher run`` whose dbt has said its process id."""
    command = [sys.executable, "-c", "from ledger_watcher.cli import main; main()", "run"]
    options = ["--ledger", str(dbt.project.parent / "ledger"), "--project-dir", str(dbt.project), "--", str(dbt.path), "build"]
    process = subprocess.Popen([*command, *options], env={**os.environ, **dbt.env(code)}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, next(int(line) for line in process.stdout if line.strip().isdigit())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for_the_end_of(pid: int) -> None:
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    assert poll.poll(PATIENCE * 1000), "it is still there"
    os.close(watch)


@pytest.mark.skipif(sys.platform != "linux", reason="dbt dies with a wrapper that is killed on Linux only")
def test_the_folder_of_a_killed_wrapper_goes_when_its_dbt_is_gone_too(tmp_path: Path, temporary: Path) -> None:
    """dbt may take its time to cancel what it runs, and still writes into that folder."""
    dbt = FakeDbt.make(tmp_path)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    stubborn = f"signal.signal(signal.SIGINT, signal.SIG_IGN); text(os.getpid()); open({str(gate)!r}).read(); write('run_results.json')"
    with wrapper(dbt, stubborn) as (process, dbt_pid):
        (folder,) = temporary.iterdir()
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Workspace():
            assert folder.is_dir()
        with gate.open("w"):
            pass
        wait_for_the_end_of(dbt_pid)
        assert (folder / "target" / "run_results.json").is_file()
        with Workspace():
            assert not folder.exists()
