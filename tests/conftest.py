"""How the tests are shared out among pytest-xdist's workers (`make test` has two)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

E2E = Path(__file__).parent / "e2e"
APART = frozenset({"test_airflow_client.py", "test_airflow_stack.py", "test_dag_test.py", "test_producers.py"})
"""The files of e2e that do without the Airflow of the session: they start what they need, and end it."""


def pytest_itemcollected(item: pytest.Item) -> None:
    if E2E in item.path.parents:
        item.add_marker(pytest.mark.e2e)
        item.add_marker(pytest.mark.timeout(600))  # the first of them starts an Airflow
        if item.path.name in APART and "airflow" in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(f"{item.nodeid} uses the Airflow of the session: take its file out of APART in {__file__}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first.

    Those who share an Airflow, for one worker; for the other those who start their own, which have ended when the first worker joins in, so that
    there are never three; and then the rest, the files with the most tests first.
    """
    size = Counter(item.path for item in items)

    def rank(item: pytest.Item) -> tuple[int, int]:
        if E2E in item.path.parents:
            return int(item.path.name in APART), 0
        return 2, -size[item.path]

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """All who share an Airflow go to one worker, which mostly waits; the others go file by file, for the sake of their fixtures."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "e2e" if file.startswith("tests/e2e/") and Path(file).name not in APART else file

    config.option.loadscopereorder = False  # the order is that of the collection: else all files with more tests begin before e2e
    return Scheduling(config, log)
