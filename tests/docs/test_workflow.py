"""What GitHub runs: each command of the Makefile that tests, and files that GitHub accepts (by its schemas, with ``make docs``)."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT

GITHUB = ROOT / ".github"
WORKFLOW = GITHUB / "workflows" / "ci.yml"
SCHEMAS = {
    WORKFLOW: "vendor.github-workflows",
    GITHUB / "ISSUE_TEMPLATE" / "bug.yml": "vendor.github-issue-forms",
    GITHUB / "ISSUE_TEMPLATE" / "idea.yml": "vendor.github-issue-forms",
    GITHUB / "ISSUE_TEMPLATE" / "config.yml": "vendor.github-issue-config",
}


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    return dict(yaml.safe_load(WORKFLOW.read_text())["jobs"])


def test_every_command_that_tests_is_run(jobs: dict[str, Any]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {target for line in re.findall(r"^([a-z0-9 -]+):", makefile, re.MULTILINE) for target in line.split()}
    text = WORKFLOW.read_text()
    run = {*re.findall(r"make (test-[a-z0-9]+)", text), *jobs["more"]["strategy"]["matrix"]["target"]}
    assert run == {target for target in targets if target.startswith("test-")} | {"docs"}
    assert ".ci/run" in text


def test_the_matrix_has_every_dbt_of_the_makefile_and_every_python_of_the_package(jobs: dict[str, Any]) -> None:
    (versions,) = re.findall(r"^DBT_VERSIONS \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert jobs["core"]["strategy"]["matrix"]["dbt"] == versions.split()
    pythons = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text())
    assert jobs["core"]["strategy"]["matrix"]["python"] == jobs["operators"]["strategy"]["matrix"]["python"] == pythons


def test_each_airflow_of_the_matrix_has_its_command(jobs: dict[str, Any]) -> None:
    matrix = jobs["operators"]["strategy"]["matrix"]
    assert [one["airflow"] for one in matrix["include"]] == matrix["airflow"]


@pytest.mark.skipif("LEDGER_WATCHER_DOCS" not in os.environ, reason="check-jsonschema is in .venv-docs: make docs")
@pytest.mark.parametrize("file", SCHEMAS, ids=lambda file: file.name)
def test_github_accepts_the_file(file: Path) -> None:
    command = [ROOT / ".venv-docs" / "bin" / "check-jsonschema", "--builtin-schema", SCHEMAS[file], file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_there_is_a_schema_for_each_file() -> None:
    assert set(SCHEMAS) == set(GITHUB.rglob("*.yml"))
