"""Links lead somewhere, examples are Python, and what can be configured or go wrong is on a page."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from ledger_watcher import errors
from scripts.docs import CLASSES, PROJECT_PAGES, configuration, parameters
from tests.docs.pages import PAGES, ROOT, anchors, blocks, name, prose

_LINK = re.compile(r"\]\(([^)\s]+)\)")
REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    """Links to other hosts are not followed."""
    for link in _LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), link
        if anchor:
            assert anchor in anchors(place), link


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_each_example_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


@pytest.mark.parametrize("one", CLASSES[:-1], ids=lambda one: one.__name__)
def test_each_field_of_the_configuration_is_described(one: type) -> None:
    assert {field.name for field in dataclasses.fields(one)} == set(parameters(one))


def test_the_page_of_the_configuration_has_every_name() -> None:
    page = configuration((REFERENCE / "configuration.md").read_text())
    assert not [field.name for one in CLASSES for field in dataclasses.fields(one) if f"| `{field.name}` |" not in page]
    assert "`[ledger_watcher] uri`" in page


def test_each_error_is_described() -> None:
    page = (REFERENCE / "errors.md").read_text()
    assert not [one for one, _ in inspect.getmembers(errors, inspect.isclass) if f"`{one}`" not in page]


def test_each_environment_variable_is_described() -> None:
    """Those of options are in their command's help."""
    sources = [*(ROOT / "ledger_watcher").rglob("*.py"), *(ROOT / "operators").rglob("*.py")]
    found = {variable for path in sources for variable in re.findall(r"\bLEDGER_WATCHER_[A-Z][A-Z_]*[A-Z]\b", path.read_text())}
    page = (REFERENCE / "configuration.md").read_text()
    assert found
    assert not [variable for variable in found if not variable.startswith("LEDGER_WATCHER__") and f"`{variable}`" not in page]


def test_pages_of_the_project_are_there() -> None:
    assert all((ROOT / page).is_file() for page in PROJECT_PAGES)
