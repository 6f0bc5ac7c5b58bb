"""Beside the real astronomer-cosmos: run by ``make test-cosmos``, in an environment that has it. Nothing is collected elsewhere."""

from __future__ import annotations

import importlib.util
import os
import tempfile

collect_ignore_glob = [] if importlib.util.find_spec("cosmos") else ["test_*.py"]
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="ledger-watcher-cosmos-"))
