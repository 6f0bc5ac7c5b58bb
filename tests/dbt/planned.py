"""Runs dbt through the Python API with a plan, as a producer does that knows what its command selects: LEDGER PROJECT MODE PLAN(JSON) dbt ..."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ledger_watcher.capture import Capture, CaptureRequest
from ledger_watcher.ledger import RunKey
from ledger_watcher.storage import open_store

if __name__ == "__main__":
    _, ledger, project, mode, plan, *command = sys.argv
    request = CaptureRequest(
        command=tuple(command), project_dir=Path(project), plan=tuple(json.loads(plan)), selected=True, in_process=mode == "in_process"
    )
    sys.exit(Capture(open_store(ledger), RunKey(dag_id="planned", run_id="r1"), request).run().exit_code)
