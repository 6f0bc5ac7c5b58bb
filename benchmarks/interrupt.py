"""How soon a run that is interrupted has its end in the ledger: seconds from the signal, a real dbt on DuckDB in the middle of an endless query.

python -m benchmarks.interrupt --rounds 5
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests.core.audited import Site

EARLY = ("seed.audited.raw", "model.audited.first", "model.audited.second")
MODES = {"subprocess": (), "in-process": ("--in-process",)}


def measure(folder: Path, number: signal.Signals, options: tuple[str, ...]) -> tuple[float, float]:
    """Interrupt one run; seconds until the ledger has its end, and until the process is gone.

    :raises RuntimeError: it ended otherwise, or without an end in the ledger.
    """
    folder.mkdir(parents=True)
    site = Site(folder)
    os.mkfifo(site.gate)
    process = site.start(options=options, GATE=str(site.gate))
    try:
        site.gate.write_text("1\n")  # to its end: a query that waits for the pipe would wait there through any interrupt
        site.wait_until_done(*EARLY)
        process.send_signal(number)
        began = time.monotonic()
        while not site.state.ended and process.poll() is None:
            time.sleep(0.02)
        durable = time.monotonic() - began
        process.wait(60)
        gone = time.monotonic() - began
    finally:
        process.kill()
        process.communicate()
    if not site.state.ended:
        raise RuntimeError(f"no end in the ledger after {number.name}")
    return durable, gone


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind")
    options = parser.parse_args()
    lines = [f"{'':<24}{'end in the ledger, s: median, max':<36}process gone, s: median, max"]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for number in (signal.SIGINT, signal.SIGTERM):
            for mode, flags in MODES.items():
                found = [measure(Path(folder) / f"{number.name}-{mode}-{i}", number, flags) for i in range(options.rounds)]
                durable, gone = (list(values) for values in zip(*found, strict=True))
                told = [f"{statistics.median(values):.2f}, {max(values):.2f}" for values in (durable, gone)]
                lines.append(f"{number.name + ', ' + mode:<24}{told[0]:<36}{told[1]}")
    load = subprocess.run(["uptime"], check=True, capture_output=True, text=True).stdout.strip()
    print("\n".join([*lines, load]))  # noqa: T201


if __name__ == "__main__":
    main()
