"""One captured dbt run on a storage that takes its time: LEDGER SECONDS MODE -- dbt ...; what the benchmark starts."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ledger_watcher.capture import Capture, CaptureRequest
from ledger_watcher.ledger import RunKey
from ledger_watcher.storage import LocalStore


class SlowStore(LocalStore):
    """A folder that answers ``latency`` seconds late, as a storage on a network does."""

    def __init__(self, root: str, latency: float) -> None:
        super().__init__(root)
        self._latency = latency

    def create(self, key: str, data: bytes) -> None:
        """See :class:`~ledger_watcher.storage.Store`."""
        time.sleep(self._latency)
        super().create(key, data)

    def get(self, key: str) -> bytes:
        """See :class:`~ledger_watcher.storage.Store`."""
        time.sleep(self._latency)
        return super().get(key)


def main() -> int:
    """Run it and return dbt's exit code."""
    _, ledger, seconds, mode, _, *command = sys.argv
    store = SlowStore(ledger, float(seconds))
    request = CaptureRequest(command=tuple(command), project_dir=Path.cwd(), in_process=mode == "in_process")
    result = Capture(store, RunKey(dag_id="bench", run_id="r1"), request).run()
    for problem in result.problems:
        print(problem, file=sys.stderr)  # noqa: T201
    return 2 if result.exit_code is None else result.exit_code


if __name__ == "__main__":
    sys.exit(main())
