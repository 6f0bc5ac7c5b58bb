"""What is published, as it is installed: run by ``make test-packaging``. Without LEDGER_WATCHER_PACKAGING nothing here is collected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.packaging.installed import ROOT, run, uv

collect_ignore_glob = [] if "LEDGER_WATCHER_PACKAGING" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    run(uv(), "build", "--quiet", "--out-dir", folder, ROOT)
    return folder
