"""Real dbt, every version: run by ``make test-dbt``, which makes the environments and names them in ``DBT_VERSIONS``.

Without that variable nothing here is collected: `make test` has no environment but its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from scripts.postgres import Postgres
from tests.dbt.lab import VERSIONS, Lab

collect_ignore_glob = [] if VERSIONS else ["test_*.py"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), postgres, workers=os.cpu_count() or 2) as lab:
        yield lab
