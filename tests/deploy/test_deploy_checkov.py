"""checkov, in an environment of its own (scripts/venv.sh checkov): nothing fails, and what is passed over says why, in the files."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.hcl import TERRAFORM

CHECKOV = Path(__file__).parents[2] / ".venv-checkov" / "bin" / "checkov"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not CHECKOV.exists():
        pytest.skip("checkov is not here: scripts/venv.sh checkov")
    arguments = [
        "--directory",
        str(TERRAFORM),
        "--framework",
        "terraform",
        "--skip-download",
        "--output",
        "json",
        "--download-external-modules",
        "false",
    ]
    environment = {**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))}
    result = subprocess.run([CHECKOV, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_nothing_fails(report: dict[str, Any]) -> None:
    failed = [f"{one['check_id']} {one['file_path']}: {one['resource']}: {one['check_name']}" for one in report["results"]["failed_checks"]]
    assert not failed, "\n".join(failed)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > len(list(TERRAFORM.rglob("*.tf")))


def test_each_skip_says_why(report: dict[str, Any]) -> None:
    skipped = report["results"]["skipped_checks"]
    assert skipped
    assert not [one["check_id"] for one in skipped if len(one["check_result"]["suppress_comment"]) < len("As for the ledger")]
