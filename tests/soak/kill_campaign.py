"""Kill dbt, the wrapper or both at random moments, go on until the run is done, and count what was built how often.

    python -m tests.soak.kill_campaign                    # 30 runs of a real dbt, 1,000 replayed from recorded streams
    python -m tests.soak.kill_campaign --real 0 --replayed 1 --seed 17     # the run that seed 17 made, once more

Seed ``s + i`` decides everything about run ``i``. After each run:

- no node that the ledger had as a success before an attempt was begun by that attempt,
- no node was missed, and the outcome of every node (and in the warehouse, every row) is that of a run that nobody disturbed,
- the ledger reads without refusal to its end, and no temporary folder is left.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.soak import real, replayed
from tests.soak.checks import Broken

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main() -> int:
    """Run the campaign; 1 if a run broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=int, default=30, help="runs of a real dbt")
    parser.add_argument("--replayed", type=int, default=1000, help="runs of a dbt that replays recorded streams")
    parser.add_argument("--seed", type=int, default=1, help="of the first run of either kind")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans become our children, so that we see them end
    folder = Path(tempfile.mkdtemp(prefix="kill-campaign-"))
    os.environ["TMPDIR"] = str(folder / "tmp")
    tempfile.tempdir = None
    (folder / "tmp").mkdir()
    broken = _series("replayed", replayed.Campaign(folder / "replayed").run, options.replayed, options.seed)
    broken += _series("real", real.Campaign(folder / "real").run, options.real, options.seed)
    if broken:
        _say(f"{broken} runs broke a promise; what they left is in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _series(kind: str, run: Callable[[random.Random, Path], Counter[str]], count: int, first: int) -> int:
    """``count`` runs in a row; returns how many of them broke a promise."""
    began, total, broken = time.monotonic(), Counter[str](), 0
    for seed in range(first, first + count):
        name = Path(f"{kind}-{seed}")
        try:
            total += run(random.Random(seed), name)
        except Broken as error:
            broken += 1
            _say(
                f"{kind} seed {seed}: {error}\n  again: python -m tests.soak.kill_campaign --real {int(kind == 'real')} "
                f"--replayed {int(kind == 'replayed')} --seed {seed}",
            )
    told = ", ".join(f"{number} {word}" for word, number in sorted(total.items()))
    _say(f"{kind}: {count} runs, {broken} broke a promise; {told}; {time.monotonic() - began:.0f} s")
    return broken


if __name__ == "__main__":
    sys.exit(main())
