"""The tutorial to its end, and the README's commands, as they stand, in a shell. With LEDGER_WATCHER_DOCS (``make docs``): dbt and an Airflow run for them.

The installation is left out: the commands are those of the environment that runs this; tests/packaging installs. ``airflow standalone`` listens on
fixed ports, those of its logs on all addresses: so the tutorial runs in a network of its own (``unshare``), where nothing comes in from outside.
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
"""With processes of its own as well, so that all of them end with the shell."""
INSTALL = ("python3 -m venv", "pip install", "source venv/")
SHELL = """
until() { for _ in $(seq 300); do "$@" && return; sleep 1; done; echo "waited in vain: $*" >&2; exit 1; }
ended() { airflow dags list-runs jaffle -o json 2>/dev/null | python -c '
import json, sys
runs = json.load(sys.stdin)
sys.exit(len(runs) != int(sys.argv[1]) or any(run["state"] not in ("success", "failed") for run in runs))' "$1"; }
newest() { airflow dags list-runs jaffle -o json 2>/dev/null | python -c '
import json, sys
print(max(json.load(sys.stdin), key=lambda run: run["run_id"])["run_id"])'; }
tell() { airflow tasks states-for-dag-run jaffle "$(newest)" -o json 2>/dev/null > "$1"; }
listed() { airflow dags list -o plain 2>/dev/null | grep -q '^jaffle '; }
ready() { grep -q "Airflow is ready" standalone.log; }
again() { airflow dags list-runs jaffle --state running -o plain 2>/dev/null | grep -q manual; }
"""
"""What a person does in the UI and with their eyes."""
TRIGGER = "airflow dags trigger jaffle >/dev/null 2>&1"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    names = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "LEDGER_WATCHER"))}
    return {**names, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path / "home")}


def run(script: str, folder: Path, env: dict[str, str], *around: str) -> subprocess.CompletedProcess[str]:
    """By bash, up to the first command that fails."""
    argv = [*around, "bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def states(file: Path) -> dict[str, str]:
    return {task["task_id"]: task["state"] for task in json.loads(file.read_text())}


@pytest.mark.timeout(1260)
def test_the_tutorial_works(tmp_path: Path, environment: dict[str, str]) -> None:
    if not shutil.which("ip") or subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network of its own here (unshare --net, ip)")
    page = ROOT / "docs" / "tutorial.md"
    (dag_file,) = blocks(page, "python")
    kept = "\n".join(
        "\n".join(line for line in block.splitlines() if not line.startswith(INSTALL)) + "\n#\n" for block in blocks(page, "bash")
    )
    project, record, look, parse, start, broken, mended, end = kept.replace("/path/to/the/clone", str(ROOT)).split("\n#\n")[:-1]
    (tmp_path / "dag.py").write_text(dag_file)
    (tmp_path / "home").mkdir()
    parts = (
        SHELL,
        project,
        record,
        look,
        parse,
        "cp dag.py dags/jaffle.py",
        start.replace("airflow standalone", "airflow standalone > standalone.log 2>&1 &"),
        "until ready; until listed; airflow dags unpause jaffle >/dev/null 2>&1",
        TRIGGER,
        "until ended 1; tell first.json",
        broken,
        TRIGGER,
        "until ended 2; tell second.json",
        mended,
        "airflow tasks clear jaffle --task-regex '^regulars.run$' --only-failed --downstream --yes >/dev/null 2>&1",
        "until again; until ended 2; tell third.json",
        end,
    )
    said = run("\n".join(["ip link set lo up", *parts]), tmp_path, environment, *ALONE).stdout
    assert (tmp_path / "report.html").read_text().startswith("<!")
    first, second, third = (states(tmp_path / f"{name}.json") for name in ("first", "second", "third"))
    assert set(first.values()) == {"success"} == set(third.values())
    assert {task for task, state in second.items() if state == "failed"} == {"regulars.run"}
    assert re.search(r"^ +2 +success", said, re.MULTILINE), said


def test_the_readmes_commands_run(tmp_path: Path, environment: dict[str, str]) -> None:
    """In a dbt project, the bucket being a folder."""
    project = tmp_path / "project"
    (project / "models" / "staging").mkdir(parents=True)
    (project / "dbt_project.yml").write_text("name: shop\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
    (project / "profiles.yml").write_text("shop: {target: dev, outputs: {dev: {type: duckdb, path: ':memory:'}}}\n")
    (project / "models" / "staging" / "customers.sql").write_text("{{ config(tags=['daily']) }} select 1 as id")
    (commands,) = [block for block in blocks(ROOT / "README.md", "bash") if block.startswith("ledger-watcher run")]
    said = run(commands.replace("s3://bucket/", f"{tmp_path}/"), project, environment).stdout
    assert "model.shop.customers" in (tmp_path / "plan.json").read_text()
    assert (project / "report.html").read_text().startswith("<!")
    assert '"unique_id":"model.shop.customers"' in said.replace(" ", "")
