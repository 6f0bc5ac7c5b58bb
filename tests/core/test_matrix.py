"""docs/matrix.md says which test shows each situation: every one that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST = "test_recovery.py"
"""Of a test without a file, as the page says, unless the section names another one."""
PLACES = ("", "tests/e2e", "tests/operators", "tests/core", "tests/distributed")
SECTION_FILES = {"Several hosts (Celery, one worker with dbt)": "tests/distributed/test_distributed.py"}


@cache
def defined_in(file: Path) -> frozenset[str]:
    return frozenset(one.name for one in ast.walk(ast.parse(file.read_text())) if isinstance(one, ast.FunctionDef))


def file_of(name: str) -> Path:
    return next((path for place in PLACES if (path := ROOT / place / name).is_file()), ROOT / name)


def named() -> list[tuple[str, str]]:
    """The file and, if one is named, the test of each reference, in the order of the page."""
    found: list[tuple[str, str]] = []
    for section in re.split(r"^## ", (ROOT / "docs" / "matrix.md").read_text(), flags=re.MULTILINE):
        own = SECTION_FILES.get(section.partition("\n")[0], FIRST)
        found += [
            (file or own, test or "")
            for file, test in re.findall(r"`(?:([\w/]+\.py)(?=::|`))?(?:::)?(test_\w+)?`", section)
            if file or test
        ]
    return list(dict.fromkeys(found))


def test_the_page_names_tests() -> None:
    assert (FIRST, "test_clear_failed_builds_what_failed") in named()
    assert ("tests/distributed/test_distributed.py", "test_a_killed_triggerer_loses_nothing") in named()


@pytest.mark.parametrize(("file", "test"), named())
def test_each_of_them_is_there(file: str, test: str) -> None:
    path = file_of(file)
    assert path.is_file(), file
    assert not test or test in defined_in(path), f"{file} has no {test}"


def test_each_situation_has_its_proof() -> None:
    """A row of a table ends with a test, a page of Airflow's or dbt's, or a row above it that has one."""
    rows = [line for line in (ROOT / "docs" / "matrix.md").read_text().splitlines() if line.startswith("| ") and "---" not in line]
    without = [
        row for row in rows if not re.search(r"(`[\w/]*(tests?_|tests/|make )[^|]*|the same[^|]*|Airflow's own|dbt's own|test) \|$", row)
    ]
    assert len(rows) > 50
    assert without == []
