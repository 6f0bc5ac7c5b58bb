"""Attempts of a real dbt that end in every way there is, and the next one, on another machine that has nothing but the ledger."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.audited import AFTER_TEST, FIRST_TEST, MODELS, PATIENCE, UNIT_TEST, Site, children, wait_for_the_end_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for child processes in /proc")

BUILT = {f"model.audited.{name}" for name in MODELS} | {"seed.audited.raw"}
ALL = BUILT | {FIRST_TEST, AFTER_TEST, UNIT_TEST}
EARLY = ("seed.audited.raw", "model.audited.first", "model.audited.second", "model.audited.below")
STOPPED = {
    # who gets which signal, and how the attempt is run
    "sigint": ("wrapper", signal.SIGINT, ()),
    "sigterm": ("wrapper", signal.SIGTERM, ("--in-process",)),
    "dbt_killed": ("dbt", signal.SIGKILL, ()),
    "wrapper_killed": ("wrapper", signal.SIGKILL, ("--plan",)),
}


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


def stop(site: Site, process: subprocess.Popen[str], victim: str, number: signal.Signals) -> None:
    """Hit it while a model runs that would never end, and wait until no dbt is left."""
    with site.gate.open("w") as gate:
        site.wait_until_done(*EARLY)
        below = children(process.pid)
        os.kill(process.pid if victim == "wrapper" else below[0], number)
        if victim == "wrapper":
            gate.write("1\n")
    end(process)
    for pid in below:
        wait_for_the_end_of(pid)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """All first attempts under way at once, each ended in its own way."""
    folder = tmp_path_factory.mktemp("sites")
    (folder / "plan").write_text("\n".join(sorted(ALL)))
    sites: dict[str, Site] = {}
    processes: dict[str, subprocess.Popen[str]] = {}
    for kind, (_, _, options) in STOPPED.items():
        sites[kind] = Site(folder / kind)
        sites[kind].folder.mkdir()
        os.mkfifo(sites[kind].gate)
        more = ("--plan", str(folder / "plan")) if options == ("--plan",) else options
        processes[kind] = sites[kind].start(options=more, GATE=str(sites[kind].gate))
    try:
        for kind, (victim, number, _) in STOPPED.items():
            stop(sites[kind], processes[kind], victim, number)
        yield sites
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


@pytest.mark.parametrize("kind", STOPPED)
def test_the_next_attempt_builds_what_is_left(sites: dict[str, Site], kind: str) -> None:
    site = sites[kind]
    before = site.done
    assert before >= set(EARLY)
    assert not before & {"model.audited.gated", "model.audited.after", "model.audited.last", UNIT_TEST, AFTER_TEST}
    shutil.rmtree(site.machines[0])
    code, output = end(site.start(options=("--in-process",) if kind == "sigterm" else ()))
    assert code == 0, output
    assert site.done == ALL
    assert site.started(2) == ALL - before
    assert site.carried(2) == before
    assert site.state.ended
    assert site.built == dict.fromkeys((name.rpartition(".")[2] for name in BUILT), 1)
    assert ("dbt ls is asked" in output) == (kind != "wrapper_killed")  # that one had a plan
    code, output = end(site.start())
    assert code == 0
    assert "Nothing is left to build, so dbt was not started" in output
    assert site.started(3) == set()


def test_after_failures_only_they_run_again_under_the_users_selector_and_flags(tmp_path: Path) -> None:
    """A model fails, and a unit test, which must gate its model in the narrowed run, too. ``last`` is not in the selector."""
    site = Site(tmp_path)
    command = ("build", "--selector", "some", "--full-refresh", "--threads", "1", "--vars", "{unused: 1}")
    code, _ = end(site.start(*command, BROKEN="error('on purpose')", OFF="1"))
    assert code == 1
    failed = {"model.audited.broken", "model.audited.below", UNIT_TEST, "model.audited.after", AFTER_TEST}
    assert site.done == ALL - failed - {"model.audited.last"}
    code, _ = end(site.start(*command, OFF="1"))
    assert code == 1
    assert site.started(2) == failed
    gated = {UNIT_TEST, "model.audited.after", AFTER_TEST}
    assert site.done == ALL - gated - {"model.audited.last"}
    assert site.built["after"] == 0
    code, _ = end(site.start(*command))
    assert code == 0
    assert site.started(3) == gated
    assert site.done == ALL - {"model.audited.last"}
    assert set(site.built.values()) == {1}
    assert "last" not in site.built
    _deferred(site, tmp_path)


def _deferred(site: Site, folder: Path) -> None:
    """The user's state is still deferred to: in the schema ``other`` there is no ``second``, only in that of the state."""
    prod = site.machines[-1] / "project" / "target"
    command = ("build", "--target", "other", "--select", "broken+", "--defer", "--state", str(prod))
    other = Site(folder / "deferring")
    other.folder.mkdir()
    other.warehouse.symlink_to(site.warehouse)
    code, _ = end(other.start(*command, BROKEN="id, nothing"))
    assert code == 1
    assert other.done == set()
    code, _ = end(other.start(*command, BROKEN="id, 1"))
    assert code == 0
    assert other.done == {"model.audited.broken", "model.audited.below"}
