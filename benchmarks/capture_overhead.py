"""What a ledger costs a dbt run: `dbt build` with and without, again and again in turns, with a storage that answers at once and late.

Wall time says what a user waits, CPU time (dbt and everything that was started, user and system) what it costs. Each captured run is
compared with the plain run of its own round, so that what else the machine does hits both. Prints a table; --json writes the samples.

On DuckDB no model waits for anything, so that nothing hides the cost. With --waiting it is what a user sees: the same graph on a PostgreSQL
of its own, whose models take 1.2 s on average (Debian's packages: scripts/system.sh postgresql).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.airflow._projects import write
from benchmarks.airflow._servers import databases
from benchmarks.projects import write_fhir

ROOT = Path(__file__).parents[1]
PLAIN = "plain"
ARMS = {
    PLAIN: None,
    "subprocess, 0 ms": ("subprocess", 0.0),
    "subprocess, 100 ms": ("subprocess", 0.1),
    "in-process, 0 ms": ("in_process", 0.0),
    "in-process, 100 ms": ("in_process", 0.1),
}
_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds of wall clock and of CPU."""

    arm: str
    round: int
    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Interval:
        """By resampling with a fixed seed: the same samples give the same interval."""
        rng = random.Random(0)  # noqa: S311 - statistics
        means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(_RESAMPLES))
        return cls(statistics.fmean(values), means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES)])

    def text(self, digits: int, scale: float = 1.0) -> str:
        """``1.05 [1.01, 1.09]``."""
        mean, low, high = (f"{value * scale:.{digits}f}" for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]"


@dataclass(frozen=True, slots=True)
class Warehouse:
    """A project and how to empty what it is built into."""

    name: str
    project: Path
    empty: Callable[[], object]


@contextmanager
def duckdb(folder: Path) -> Iterator[Warehouse]:
    """A file in the project."""
    folder.mkdir()
    write_fhir(folder)
    yield Warehouse("DuckDB, no model waits", folder, lambda: (folder / "fhir.duckdb").unlink(missing_ok=True))


@contextmanager
def postgresql(folder: Path) -> Iterator[Warehouse]:
    """A cluster that is gone at the end."""
    with databases() as found:
        write("fhir", folder, port=found.server.port, password=found.server.password)
        yield Warehouse("PostgreSQL, models take 1.2 s on average", folder, found.empty_warehouse)


class Bench:
    """The project, the environment, and how to run either."""

    def __init__(self, version: str, ledger: Path, warehouse: Warehouse) -> None:
        self.bin = ROOT / ".work" / "dbt" / version / "bin"
        self.project = warehouse.project
        self.ledger = ledger
        self._empty = warehouse.empty
        unwanted = "PYTHONDONTWRITEBYTECODE"  # each run would compile this package; in a deployment, pip has
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DBT_") and name != unwanted}
        self.env = {**kept, "PATH": f"{self.bin}:{kept['PATH']}", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}

    def warm_up(self) -> int:
        """Parse once (what is measured uses dbt's partial parsing), compile Python's files; returns the number of dbt's events."""
        self.run("in-process, 0 ms", 0)
        self._empty()
        argv = ["dbt", "--log-format", "json", "--log-level", "debug", "build"]
        return len(subprocess.run(argv, cwd=self.project, env=self.env, check=True, capture_output=True).stdout.splitlines())

    def run(self, arm: str, number: int) -> Sample:
        """Run dbt on an empty database.

        :raises RuntimeError: it failed, or ran into trouble with the ledger.
        """
        self._empty()
        shutil.rmtree(self.ledger, ignore_errors=True)
        argv = ["dbt", "build"]
        how = ARMS[arm]
        if how is not None:
            mode, latency = how
            script = str(Path(__file__).with_name("_captured.py"))
            argv = [str(self.bin / "python"), script, str(self.ledger), str(latency), mode, "--", *argv]
        begin = time.perf_counter()
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(argv, cwd=self.project, env=self.env, stdout=subprocess.DEVNULL, stderr=output)
            _, status, used = os.wait4(process.pid, 0)  # with all that it started and waited for
            wall = time.perf_counter() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            said = output.read()
        if process.returncode or (how is not None and said):
            raise RuntimeError(f"{arm} ended with {process.returncode}: {said}")
        return Sample(arm, number, wall, used.ru_utime + used.ru_stime)


def table(samples: list[Sample], events: int) -> list[str]:
    """Each arm against the plain run of its round."""
    plain = {sample.round: sample for sample in samples if sample.arm == PLAIN}
    lines = [f"{'':<20}{'wall s':>8}{'cpu s':>8}  {'wall, ratio to plain':<24}{'cpu, ratio to plain':<24}cpu per event, us"]
    for arm in dict.fromkeys(sample.arm for sample in samples):
        mine = [sample for sample in samples if sample.arm == arm]
        wall, cpu = (statistics.median(values) for values in zip(*((s.wall, s.cpu) for s in mine), strict=True))
        line = f"{arm:<20}{wall:>8.2f}{cpu:>8.2f}  "
        if arm != PLAIN:
            ratios = (Interval.of([s.wall / plain[s.round].wall for s in mine]), Interval.of([s.cpu / plain[s.round].cpu for s in mine]))
            each = Interval.of([(s.cpu - plain[s.round].cpu) / events for s in mine])
            line += "".join(f"{ratio.text(3):<24}" for ratio in ratios) + each.text(0, 1e6)
        lines.append(line.rstrip())
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="runs of each kind")
    parser.add_argument("--dbt", default="1.11", help="an environment of scripts/dbt_venvs.sh")
    parser.add_argument("--waiting", action="store_true", help="models that wait for their warehouse")
    parser.add_argument("--arms", nargs="*", choices=[arm for arm in ARMS if arm != PLAIN], help="default: all; plain always runs")
    parser.add_argument("--json", type=Path, help="a file for the samples")
    options = parser.parse_args()
    arms = [PLAIN, *(options.arms or [arm for arm in ARMS if arm != PLAIN])]
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        (postgresql if options.waiting else duckdb)(Path(folder) / "project") as place,
    ):
        bench = Bench(options.dbt, Path(folder) / "ledger", place)
        events = bench.warm_up()
        samples: list[Sample] = []
        for number in range(options.rounds):
            order = arms if number % 2 == 0 else arms[::-1]  # nobody always comes first
            for arm in order:
                samples.append(bench.run(arm, number))
                print(f"round {number + 1}: {arm}: {samples[-1].wall:.2f} s, CPU {samples[-1].cpu:.2f} s", file=sys.stderr)  # noqa: T201
        lines = table(samples, events)
    title = (
        f"dbt {options.dbt} build, google/fhir-dbt-analytics, {place.name}, {events} events, {options.rounds} rounds; "
        "mean [95 % interval], medians of seconds"
    )
    print("\n".join((title, *lines)))  # noqa: T201
    if options.json:
        options.json.write_text(json.dumps({"title": title, "samples": [asdict(sample) for sample in samples]}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
