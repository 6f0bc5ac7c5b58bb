"""An AIRFLOW_HOME of the tests' own: called before anything imports Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_OURS = "LEDGER_WATCHER_TESTS_AIRFLOW_HOME"


def own_airflow_home() -> None:
    """Whoever comes first in a process makes it, and it is gone when that process ends."""
    if os.environ.get(_OURS) == str(os.getpid()):
        return
    home = tempfile.mkdtemp(prefix="ledger-watcher-airflow-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ[_OURS] = str(os.getpid())
    os.environ["AIRFLOW_HOME"] = home
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
