"""What is said of this repository in more than one place is said alike: versions, commands, folders."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger_watcher import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(" ".join(re.findall(r"^([a-z0-9 -]+):.*##", MAKEFILE, re.MULTILINE)).split())
DBT_VERSIONS = {path.stem.removeprefix("dbt-") for path in (ROOT / "requirements").glob("dbt-*.txt")}
PYTHONS = {line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", line)}


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    return found


def matrix(job: dict[str, Any], name: str) -> set[str]:
    return set(job["strategy"]["matrix"][name])


def test_the_version_is_one() -> None:
    assert PROJECT["project"]["version"] == __version__


def test_the_workflow_runs_what_ci_runs(jobs: dict[str, Any]) -> None:
    assert any(".ci/run" in step.get("run", "") for step in jobs["test"]["steps"])
    assert matrix(jobs["core"], "python") == matrix(jobs["operators"], "python") == PYTHONS
    assert matrix(jobs["core"], "dbt") == DBT_VERSIONS
    assert matrix(jobs["more"], "target") <= TARGETS


def test_each_command_that_is_told_of_can_be_made() -> None:
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        ".github/workflows/ci.yml",
        "deploy/terraform/aws/README.md",
        "deploy/terraform/gcp/README.md",
    ):
        told = set(re.findall(r"(?:`|^|\$PATH\S |command: )make ([a-z][a-z0-9-]*)", (ROOT / name).read_text(), re.MULTILINE))
        assert {target for target in told if not target.endswith("-")} <= TARGETS, name


def test_the_makefile_s_dbt_versions_are_those_that_are_locked() -> None:
    (line,) = re.findall(r"^DBT_VERSIONS \?= (.*)$", MAKEFILE, re.MULTILINE)
    assert set(line.split()) == DBT_VERSIONS


def test_every_target_is_phony() -> None:
    (line,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(line.split()) >= TARGETS


@pytest.mark.parametrize(
    "place",
    ["ledger_watcher", "operators/ledger_watcher_airflow", "tests", "benchmarks", "deploy/terraform", "docs", "scripts", "requirements"],
)
def test_the_house_is_described(place: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert (ROOT / place).is_dir()
    assert place.rpartition("/")[2] in text


def test_each_folder_of_tests_is_named() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert not [path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__" and path.name not in text]


def test_issues_ask_with_forms_that_can_be_read() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        if path.name != "config.yml":
            assert {"name", "description", "body"} <= set(form)
            assert len({item["id"] for item in form["body"]}) == len(form["body"])
