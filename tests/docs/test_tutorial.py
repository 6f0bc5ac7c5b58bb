"""The tutorial, as it stands: its blocks of bash and its DAG file. With LEDGER_WATCHER_DOCS (``make docs``), since dbt runs for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks

TUTORIAL = ROOT / "docs" / "tutorial.md"
DRAWN = """
import gc, runpy
from airflow.sdk import DAG
gc.disable()  # nobody holds the DAG
runpy.run_path("dags/jaffle.py")
(dag,) = [one for one in gc.get_objects() if isinstance(one, DAG)]
print(*dag.task_ids)
"""
INSTALL = ("python3 -m venv", "pip install")  # tests/packaging does that


@pytest.mark.skipif("LEDGER_WATCHER_DOCS" not in os.environ, reason="dbt runs for it: make docs")
def test_the_tutorial_works(tmp_path: Path) -> None:
    lines = [line for block in blocks(TUTORIAL, "bash") for line in block.splitlines() if not line.startswith(INSTALL)]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LEDGER_WATCHER": str(ROOT),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "HOME": str(tmp_path),
    }
    shell = subprocess.run(
        ["bash", "-euc", "\n".join(lines)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert shell.returncode == 0, shell.stdout + shell.stderr
    assert (tmp_path / "report.html").read_text().startswith("<!")
    assert "daily_sales" in shell.stdout
    (dag_file,) = blocks(TUTORIAL, "python")
    (tmp_path / "dags" / "jaffle.py").write_text(dag_file)
    parsed = subprocess.run(
        [sys.executable, "-c", DRAWN], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert parsed.returncode == 0, parsed.stderr
    assert {"dbt_producer_watcher", "daily_sales.run", "daily_sales.test"} <= set(parsed.stdout.split())
