"""Runs of a real dbt on DuckDB, killed after a random line of its output."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.core.audited import MODELS, PATIENCE, Site, children
from tests.soak.checks import check_attempt, check_end, check_that, done, outcomes, reap

MOST_KILLS = 2
LINES = 36
"""About as many lines as an undisturbed attempt writes."""


@dataclass
class Campaign:
    """All runs of one campaign, below ``folder``."""

    folder: Path
    outcomes: dict[str, str] = field(default_factory=dict)
    rows: dict[str, list[Any]] = field(default_factory=dict)

    def run(self, chance: random.Random, name: Path) -> Counter[str]:
        """One run, killed once or twice. Returns what was done to it.

        :raises Broken: a promise was.
        """
        if not self.outcomes:
            whole = _site(self.folder / "whole")
            _attempt(whole, None, chance)
            self.outcomes, self.rows = outcomes(whole.state), _rows(whole)
        site, told = _site(self.folder / name), Counter[str]()
        options = chance.choice(((), ("--in-process",)))
        for _ in range(chance.randint(1, MOST_KILLS)):
            victim = "wrapper" if options else chance.choice(("dbt", "wrapper", "both"))
            _attempt(site, victim, chance, options)
            told[f"kills of {victim}"] += 1
        _attempt(site, None, chance, options)
        told["attempts"] += len(site.machines)
        check_end(site.state, self.outcomes)
        check_that(set(site.built) >= {*MODELS, "raw"}, f"never built: {sorted({*MODELS, 'raw'} - set(site.built))}")
        check_that(_rows(site) == self.rows, "the warehouse holds other rows")
        return told


def _site(folder: Path) -> Site:
    folder.mkdir(parents=True)
    return Site(folder)


def _attempt(site: Site, victim: str | None, chance: random.Random, options: tuple[str, ...] = ()) -> None:
    past, number = site.state, len(site.machines) + 1
    process = site.start(options=options, TMPDIR=os.environ["TMPDIR"])
    if victim is not None:
        _kill(process, victim, chance.randrange(LINES), chance.random() * 0.3)
    output, _ = process.communicate(timeout=PATIENCE)
    reap()
    check_that(victim is not None or process.returncode == 0, f"attempt {number} ended with {process.returncode}:\n{output}")
    claimed = max(site.state.attempts, default=0)
    if claimed > max(past.attempts, default=0):  # else it was killed before it claimed an epoch, and before any dbt
        check_attempt(number, done(past), site.started(claimed))


def _kill(process: subprocess.Popen[str], victim: str, lines: int, pause: float) -> None:
    """After so many lines and a moment; a run that is over by then is left alone."""
    assert process.stdout is not None
    for _ in range(lines):
        if not process.stdout.readline():
            return
    time.sleep(pause)  # the random moment
    with suppress(FileNotFoundError, ProcessLookupError):
        if victim != "wrapper":
            for child in children(process.pid):
                os.kill(child, signal.SIGKILL)
        if victim != "dbt":
            process.kill()


def _rows(site: Site) -> dict[str, list[Any]]:
    """Every table's rows."""
    import duckdb

    with duckdb.connect(str(site.warehouse), read_only=True) as connection:
        return {name: sorted(connection.execute(f"select * from {name}").fetchall()) for name in (*MODELS, "raw")}  # noqa: S608 - our names
