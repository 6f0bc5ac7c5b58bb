"""A run that is killed, on every dbt: the next attempt, on a machine that has nothing but the ledger, builds what is left and nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.core.audited import AFTER_TEST, FIRST_TEST, MODELS, PATIENCE, UNIT_TEST, Site, children, wait_for_the_end_of
from tests.dbt.lab import VERSIONS, Installation

BUILT = {f"model.audited.{name}" for name in MODELS} | {"seed.audited.raw"}
ALL = BUILT | {FIRST_TEST, AFTER_TEST, UNIT_TEST}
EARLY = {"seed.audited.raw", "model.audited.first", "model.audited.second", FIRST_TEST}
FAILED = {"model.audited.broken", "model.audited.below"}


def make_site(version: str, folder: Path) -> Site:
    installation = Installation(version)
    kept = {name: installation.env[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in installation.env}
    python = Path(sys.executable) if version == "fusion" else installation.bin / "python"
    return Site(folder, python=python, env=kept)


@pytest.mark.parametrize("victim", ["dbt", "wrapper"])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_left_is_built_and_nothing_twice(version: str, victim: str, tmp_path: Path) -> None:
    """One model has failed and one runs when the kill comes; then the project is mended."""
    site = make_site(version, tmp_path)
    os.mkfifo(site.gate)
    process = site.start(GATE=str(site.gate), BROKEN="error('on purpose')")
    with site.gate.open("w") as gate:
        site.wait_until_done(*EARLY)
        below = children(process.pid)
        os.kill(process.pid if victim == "wrapper" else below[0], 9)
        if victim == "wrapper":
            gate.write("1\n")
    process.communicate(timeout=PATIENCE)
    for pid in below:
        wait_for_the_end_of(pid)
    before = site.done
    assert EARLY <= before <= ALL - FAILED
    shutil.rmtree(site.machines[0])

    process = site.start()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert site.done == ALL
    assert site.started(2) == ALL - before
    assert site.carried(2) == before
    twice = {"broken", "gated"} if version == "fusion" else set()  # it commits a model's hooks before the model: they count beginnings
    assert site.built == {name.rpartition(".")[2]: 1 for name in BUILT} | dict.fromkeys(twice, 2)

    process = site.start()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "Nothing is left to build" in output
    assert site.started(3) == set()
