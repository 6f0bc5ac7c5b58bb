from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli.report import report
from ledger_watcher.ledger import RunKey
from ledger_watcher.records import Artifact, Outcome
from tests.core.ledgers import at, began, dbt, ended, ends, log, plan, segment, starts, truncate, write, write_open

RUN = RunKey("shop", "run-1")
MANIFEST = {"nodes": {"model.shop.b": {"depends_on": {"nodes": ["model.shop.a"]}}, "model.shop.a": {}}}


def run(*args: object) -> Result:
    return CliRunner().invoke(report, [str(arg) for arg in args])


def data_of(html: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(html.split('id="ledger-timeline-data">', 1)[1].split("</script>", 1)[0])
    return found


def shown(*args: object) -> dict[str, Any]:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return data_of(result.stdout)


def manifest(root: Path, key: RunKey = RUN, content: bytes | None = None) -> Artifact:
    """Stored beside the chain; ``content`` lies there instead of what the record names."""
    data = json.dumps(MANIFEST).encode()
    digest = hashlib.sha256(data).hexdigest()
    path = root / key.file("manifest.json", digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content or data)
    return Artifact(ts=at(4), name="manifest.json", sha256=digest, size=len(data), path=key.file("manifest.json", digest))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two attempts: b failed in the first and succeeded in the second, which carried a over."""
    folder = tmp_path / "ledger"
    first = [dbt(), plan("a", "b"), starts("a"), log("a", "la"), ends("a", started_at=at(1)), starts("b", 2), ends("b", Outcome.FAILED, 3)]
    write(folder, RUN, began(), [*first, manifest(folder)], ended(4, 1))
    carried = ends("a", started_at=at(1), source="carried_over")
    write(folder, RUN, began(10), [carried, starts("b", 11), ends("b", seconds=12), manifest(folder)], ended(13))
    return folder


def test_a_file_with_every_attempt_and_the_edges(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    result = run(root, "-o", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"Wrote {file}: 0.0")
    found = data_of(file.read_text("utf-8"))
    a, b = found["nodes"]
    assert (a["from"], a["log"], [one["state"] for one in b["earlier"]], b["up"]) == (1, ["la"], ["failed"], [0])
    assert (found["critical"]["nodes"], found["notes"]) == ([1], [])
    assert list(tmp_path.glob(".*")) == [], "nothing is left beside it"


def test_against_another_run_by_its_id_and_by_its_folder(root: Path) -> None:
    other = RunKey("shop", "run-0")
    write(root, other, began(-50), [ends("a", execution_time=9.0), ends("gone")], ended(-40))
    for name in ("run-0", f"{root}/{other.prefix}"):
        found = shown(root, "--run-id", "run-1", "--against", name)
        assert found["against"]["removed"] == ["gone"]
        assert found["nodes"][0]["before"]["seconds"] == 9


def test_against_a_run_that_is_not_there(root: Path, tmp_path: Path) -> None:
    result = run(root, "--against", "run-9", "-o", tmp_path / "x.html")
    assert result.exit_code == 3
    assert "has deployment 'default', dag_id 'shop', run_id 'run-9'" in result.stderr
    assert not (tmp_path / "x.html").exists()


def test_what_is_not_known_is_said(root: Path) -> None:
    other = RunKey("shop", "no-manifest")
    write_open(root, other, began(100), [plan("a"), starts("a")])
    found = shown(root, "--run-id", "no-manifest")
    assert (found["critical"], found["live"]) == (None, True)
    assert "stored no manifest" in found["notes"][0]


def test_an_altered_manifest_is_not_believed(root: Path) -> None:
    manifest(root, content=b'{"nodes": {}}')
    found = shown(root)
    assert found["critical"] is None
    assert "cannot be read, so edges and critical path are not known" in found["notes"][0]


def test_what_stands_before_a_damaged_segment_is_written_and_said(root: Path, tmp_path: Path) -> None:
    truncate(segment(root, RUN, 3))
    file = tmp_path / "report.html"
    result = run(root, "-o", file)
    assert result.exit_code == 3
    assert "This is only what stands before an error: " in result.stderr
    found = data_of(file.read_text("utf-8"))
    assert "This is only what stands before an error: " in found["notes"][0]
    assert found["attempts"][0]["state"] == "failed"


def test_an_expired_beginning_is_said(root: Path) -> None:
    for seq in (0, 1, 2):
        (root / RUN.segment(seq)).unlink()
    found = shown(f"{root}/{RUN.prefix}")
    assert "are gone: earlier attempts may be missing" in found["notes"][0]
    assert {one["name"]: one["state"] for one in found["nodes"]} == {"a": "success", "b": "success"}


def test_no_run_and_a_file_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    assert run(root, "--run-id", "run-9").exit_code == 3
    result = run(root, "-o", tmp_path / "no" / "folder.html")
    assert result.exit_code == 3
    assert "cannot be written" in result.stderr


def test_a_terminal_gets_no_page(root: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", "from ledger_watcher.cli.report import report; report()", str(root)],
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert "give a file with -o report.html" in done.stderr
