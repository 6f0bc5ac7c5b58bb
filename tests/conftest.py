"""How the tests are shared out among pytest-xdist's workers (`make test` has two)."""

from __future__ import annotations

from pathlib import Path

import pytest

E2E = Path(__file__).parent / "e2e"


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that starts an Airflow goes to one worker, first, since it mostly waits; the others go file by file, for the sake of their fixtures."""
    items.sort(key=lambda item: E2E not in item.path.parents)
    for item in items:
        inside = E2E in item.path.parents
        item.add_marker(pytest.mark.xdist_group("e2e" if inside else str(item.path)))
        if inside:
            item.add_marker(pytest.mark.e2e)
