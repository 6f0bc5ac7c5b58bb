"""How the tests are shared out among pytest-xdist's workers (`make test` has two)."""

from __future__ import annotations

from pathlib import Path

import pytest

E2E = Path(__file__).parent / "e2e"


def pytest_itemcollected(item: pytest.Item) -> None:
    if E2E in item.path.parents:
        item.add_marker(pytest.mark.e2e)
        item.add_marker(pytest.mark.timeout(600))  # the first of them starts an Airflow


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first."""
    items.sort(key=lambda item: E2E not in item.path.parents)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """All that starts an Airflow goes to one worker, which mostly waits; the others go file by file, for the sake of their fixtures."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "e2e" if file.startswith("tests/e2e/") else file

    return Scheduling(config, log)
