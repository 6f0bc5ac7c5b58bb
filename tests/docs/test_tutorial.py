"""The tutorial to its end, and the README's commands, as they stand, in a shell. With LEDGER_WATCHER_DOCS (``make docs``): dbt and an Airflow run for them.

The installation is left out: the commands are those of the environment that runs this; tests/packaging installs. ``airflow standalone`` listens on
fixed ports, those of its logs on all addresses: so the tutorial has a network of its own (``unshare``), where nothing comes in from outside.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks

pytestmark = pytest.mark.skipif("LEDGER_WATCHER_DOCS" not in os.environ, reason="dbt and an Airflow run for it: make docs")

ALONE = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""With processes of its own as well: all of them end with the first."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    names = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "LEDGER_WATCHER"))}
    (tmp_path / "home").mkdir()
    return {**names, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path / "home")}


def run(script: str, folder: Path, env: dict[str, str], *around: str) -> str:
    """What bash prints, up to the first command that fails."""
    argv = [*around, "bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(1260)
def test_the_tutorial_works(tmp_path: Path, environment: dict[str, str]) -> None:
    if not shutil.which("ip") or subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network of its own here (unshare --net, ip)")
    folder = tmp_path / "tutorial"
    folder.mkdir()
    env = environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    said = json.loads(run(f"ip link set lo up; python -m tests.docs.reader {folder}", folder, env, *ALONE))
    first, second, third = said["states"]
    assert (folder / "report.html").read_text().startswith("<!")
    assert {"dbt_producer_watcher", "daily_sales.run", "daily_sales.test"} <= set(first)
    for states in (first, third):
        assert {state for task, state in states.items() if task != "dbt_assets"} == {"success"}
    assert {task for task, state in second.items() if state == "failed"} == {"regulars.run"}
    assert re.search(r"^ +2 +success", said["ledger"], re.MULTILINE), said["ledger"]


def test_the_readmes_commands_run(tmp_path: Path, environment: dict[str, str]) -> None:
    """In a dbt project, the bucket being a folder."""
    project = tmp_path / "project"
    (project / "models" / "staging").mkdir(parents=True)
    (project / "dbt_project.yml").write_text("name: shop\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
    (project / "profiles.yml").write_text("shop: {target: dev, outputs: {dev: {type: duckdb, path: ':memory:'}}}\n")
    (project / "models" / "staging" / "customers.sql").write_text("{{ config(tags=['daily']) }} select 1 as id")
    (commands,) = [block for block in blocks(ROOT / "README.md", "bash") if block.startswith("ledger-watcher run")]
    said = run(commands.replace("s3://bucket/", f"{tmp_path}/"), project, environment)
    assert "model.shop.customers" in (tmp_path / "plan.json").read_text()
    assert (project / "report.html").read_text().startswith("<!")
    assert '"unique_id":"model.shop.customers"' in said.replace(" ", "")
