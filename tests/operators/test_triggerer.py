"""Airflow's triggerer and what our triggers ask of it, with a supervisor that is slow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.operators.triggerer import FIRST, LINES

BOUND = 240.0
AIRFLOW_S = 3
"""Lines of Airflow's own about each trigger: it starts, it fired an event, it is completed."""


def test_a_triggerer_whose_lines_nobody_reads_takes_new_triggers_all_the_same(tmp_path: Path) -> None:
    """Seen with Airflow 3.3.2: the supervisor sends megabytes, and the event loop that is to read them waits for room for a log line."""
    logs = tmp_path / "logs"
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(logs)}
    argv = [sys.executable, "-m", "tests.operators.triggerer", str(tmp_path)]
    with subprocess.Popen(argv, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            out, errors = process.communicate(timeout=BOUND)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors
    told = json.loads(out.splitlines()[-1])
    assert told["unread"] > 50_000, "the lines were not too many for the socket, so this shows nothing"
    assert told["message"] > 500_000, "what was handed over fitted into the socket, so this shows nothing"
    assert told["ended"] == {"TaskSuccessEvent": FIRST}
    lines = (logs / "5.log").read_text().splitlines()
    assert len(lines) == AIRFLOW_S + len(LINES) + 1
    assert sum(map(len, lines)) < 450 * len(lines)
