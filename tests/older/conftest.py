"""Airflow 3.1 and 3.2, where tasks cannot begin in a trigger: run by ``make test-airflow31`` and ``make test-airflow32``, each in an environment that has it.

Nothing is collected elsewhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.airflow_stack import AirflowStack
from tests.e2e.scenes import parse

HERE = Path(__file__).parent
BROKEN = HERE.parent / "e2e" / "projects" / "broken"

collect_ignore_glob = [] if "LEDGER_WATCHER_OLDER" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the project and the ledger are."""
    folder = tmp_path_factory.mktemp("older")
    parse({shutil.copytree(BROKEN, folder / "broken"): {"BROKEN_DUCKDB_PATH": ":memory:"}})
    return folder


@pytest.fixture(scope="session")
def airflow(home: Path) -> Iterator[AirflowStack]:
    """Scheduler with LocalExecutor, dag-processor, triggerer, api-server."""
    env = {"E2E_HOME": str(home), "LEDGER_WATCHER_CACHE_DIR": str(home / "cache"), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    dags = shutil.copytree(HERE / "dags", home / "dags")
    with AirflowStack(home / "airflow", dags, env=env) as stack:
        yield stack
