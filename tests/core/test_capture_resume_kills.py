"""A small kill campaign (tests/soak/kill_campaign.py; `make soak` runs the whole one), and that it can find something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="a killed wrapper takes dbt with it on Linux only"),
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parents[2]
FORGETFUL = """
from ledger_watcher.capture import resume
from ledger_watcher.state import RunState
remembering = resume.decide
def forgetting(checked, request, past, ask_dbt):
    return remembering(checked, request, RunState(), ask_dbt)
from ledger_watcher.capture import stages
assert stages.decide is remembering
stages.decide = forgetting
"""
"""A mistake: each attempt builds everything."""


def campaign(tmp_path: Path, *args: str, mistake: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{mistake}\nimport sys\nfrom tests.soak.kill_campaign import main\nsys.exit(main())"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    return subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=890, check=False)


@pytest.mark.parametrize(("real", "replayed"), [("0", "20"), ("2", "0")])
def test_nothing_that_succeeded_runs_again_and_nothing_is_missed(tmp_path: Path, real: str, replayed: str) -> None:
    done = campaign(tmp_path, "--real", real, "--replayed", replayed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{replayed} runs, 0 broke a promise" in done.stdout
    assert f"{real} runs, 0 broke a promise" in done.stdout


def test_a_mistake_is_found_and_its_seed_is_said(tmp_path: Path) -> None:
    done = campaign(tmp_path, "--real", "0", "--replayed", "6", mistake=FORGETFUL)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ran nodes that the ledger had as successes: ['" in done.stdout
    assert "again: python -m tests.soak.kill_campaign --real 0 --replayed 1 --seed " in done.stdout
