"""When dbt did what, from its own log: the same source for every kind of run."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

QUIET = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1"}


@dataclass(slots=True)
class DbtLog:
    """Times in seconds since the epoch: of the first and the last line, and of each node that was built (a unique_id and its times)."""

    began: float = 0.0
    ended: float = 0.0
    started: dict[str, float] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)


def log_environment(folder: Path) -> dict[str, str]:
    """What makes every dbt write there what :func:`read_log` reads."""
    return {"DBT_LOG_PATH": str(folder), "DBT_LOG_FORMAT_FILE": "json", "DBT_LOG_LEVEL_FILE": "debug"}


def read_log(folder: Path) -> DbtLog:
    """Of all that dbt did since :func:`forget`."""
    log = DbtLog()
    for line in (folder / "dbt.log").read_text("utf-8").splitlines():
        event = json.loads(line)
        info = event["info"]
        at = datetime.fromisoformat(info["ts"].replace("Z", "+00:00")).timestamp()
        log.began = log.began or at
        log.ended = max(log.ended, at)
        if info["name"] in ("NodeStart", "NodeFinished"):
            times = log.started if info["name"] == "NodeStart" else log.finished
            times[event["data"]["node_info"]["unique_id"]] = at
    return log


def forget(folder: Path) -> None:
    """Begin with an empty log."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("dbt.log*"):
        path.unlink()


def run_dbt(dbt: Path, verb: str, project: Path, logs: Path, flags: Sequence[str] = ()) -> tuple[float, float]:
    """``dbt VERB`` of a project; returns seconds of wall clock and of CPU.

    :raises RuntimeError: it failed; with the end of its output.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DBT_")}
    argv = [str(dbt), "--no-use-colors", verb, "--project-dir", str(project), "--profiles-dir", str(project), *flags]
    output = project / "output"
    begin = time.perf_counter()
    with output.open("wb") as out:
        process = subprocess.Popen(argv, cwd=project, env={**kept, **QUIET, **log_environment(logs)}, stdout=out, stderr=out)
        _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"dbt {verb} ended with {process.returncode}: {output.read_text('utf-8', 'replace')[-2000:]}")
    return wall, used.ru_utime + used.ru_stime
