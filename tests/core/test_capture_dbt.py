"""Real dbt runs of real projects on DuckDB, by the command line: all of them started at once, each test waits for its own."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.ledger import ChainReader, list_runs
from ledger_watcher.records import EndedBy, NodeFinished, Outcome, Record, bounded_message
from ledger_watcher.state import Attempt, RunState
from ledger_watcher.storage import LocalStore
from tests.core.fakes import json_of
from tests.core.streams import FIXTURES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for child processes in /proc")

BIN = Path(sys.executable).parent
PATIENCE = 240.0
"""Seconds after which a dbt that was waited for is taken for lost. A bound for broken code, never a pause."""

SLOW = """-- depends_on: {{ ref('fast') }}
{{ config(materialized='table') }}
select sum(a.x * b.range % 7) as x
from read_csv('GATE', auto_detect=false, header=false, columns={'x': 'BIGINT'}) a, range(1000000000000) b
"""
"""A model that runs until it is interrupted. GATE is a named pipe: opening it for writing waits until the query has opened it for
reading, so that a test knows that the query runs (dbt cannot cancel one that is about to begin); and the query costs nothing until
the test lets go of it.
"""
HIDING = "flags:\n  quiet: true\n  use_colors: true\n"
"""In dbt_project.yml: it must not hide the events from us."""

KITCHEN = ("build", "--event-time-start", "2026-01-01", "--event-time-end", "2026-01-04")


@dataclass
class Run:
    """A ``ledger-watcher run`` under way."""

    project: Path
    ledger: Path
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, project: Path, *options: str, command: tuple[str, ...]) -> Run:
        ledger = project.parent / f"{project.name}-ledger"
        environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "TMPDIR": str(project.parent),  # a process that is killed leaves its temporary folder behind
        }
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from ledger_watcher.cli import main; main()",
                "run",
                "--ledger",
                str(ledger),
                *options,
                "--",
                "dbt",
                *command,
            ],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return cls(project, ledger, process)

    @cached_property
    def output(self) -> tuple[str, str]:
        """What it wrote, when it has ended."""
        return self.process.communicate(timeout=PATIENCE)

    def wait_for(self, text: str) -> None:
        """Read its output until there is a line with ``text``."""
        assert self.process.stdout is not None
        assert any(text in line for line in self.process.stdout), f"it ended before {text!r}: {self.output}"

    @property
    def records(self) -> list[Record]:
        store = LocalStore(str(self.ledger))
        (key,) = list_runs(store)
        return [entry.record for entry in ChainReader(store, key).read()]

    @property
    def state(self) -> RunState:
        store = LocalStore(str(self.ledger))
        (key,) = list_runs(store)
        state = RunState()
        state.apply(ChainReader(store, key).read())
        return state

    @property
    def attempt(self) -> Attempt:
        attempt = self.state.attempt
        assert attempt is not None
        return attempt

    @property
    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kitchen(folder: Path) -> Path:
    shutil.copytree(FIXTURES / "kitchen-sink", folder)
    file = folder / "dbt_project.yml"
    file.write_text(file.read_text().replace("FUNCPATHS", 'function-paths: ["functions"]'))
    return folder


def slow(folder: Path, flags: str = "") -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(f"name: slow\nprofile: slow\n{flags}")
    (folder / "profiles.yml").write_text("slow:\n  target: dev\n  outputs:\n    dev: {type: duckdb, path: slow.duckdb, threads: 2}\n")
    (folder / "models" / "fast.sql").write_text("select 1 as id")
    os.mkfifo(folder / "gate")
    (folder / "models" / "slow.sql").write_text(SLOW.replace("GATE", str(folder / "gate")))
    (folder / "models" / "after.sql").write_text("select * from {{ ref('slow') }}")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    folder = tmp_path_factory.mktemp("dbt")
    started = {
        "subprocess": Run.start(kitchen(folder / "subprocess"), command=KITCHEN),
        "in_process": Run.start(kitchen(folder / "in_process"), "--in-process", command=KITCHEN),
        "sigint": Run.start(slow(folder / "sigint", HIDING), command=("build",)),
        "sigterm": Run.start(slow(folder / "sigterm"), "--in-process", command=("build",)),
        "sigkill": Run.start(slow(folder / "sigkill"), command=("build",)),
    }
    yield started
    for run in started.values():
        run.process.kill()
        run.process.wait()


@pytest.mark.parametrize(("kind", "number"), [("sigint", signal.SIGINT), ("sigterm", signal.SIGTERM)])
def test_a_signal_ends_dbt_and_the_ledger_has_its_end(runs: dict[str, Run], kind: str, number: int) -> None:
    """sigint: dbt is a process of its own. sigterm: dbt runs in-process, and is interrupted all the same."""
    run = runs[kind]
    run.wait_for("START sql table model main.slow")
    children = run.children if kind == "sigint" else []  # in-process it has helpers of Python's only
    with (run.project / "gate").open("w") as gate:
        run.process.send_signal(number)
        run.wait_for("CANCEL query model.slow.slow")
        gate.write("1\n")
    stdout, stderr = run.output
    assert run.process.returncode == 2, stderr
    assert "Exited because of keyboard interrupt" in stdout
    state, attempt = run.state, run.attempt
    assert state.ended
    assert attempt.finished is not None
    assert (attempt.finished.exit_code, attempt.finished.ended_by) == (2, EndedBy.SIGNAL)
    assert attempt.finished.message == "dbt was interrupted"
    assert state.nodes["model.slow.fast"].status == "success"
    finished = state.nodes["model.slow.slow"].finished
    assert finished is not None
    assert finished.outcome is Outcome.FAILED
    assert "model.slow.after" not in state.nodes
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_killed_we_take_dbt_with_us(runs: dict[str, Run]) -> None:
    """The ledger then has no end, and what happened until then."""
    run = runs["sigkill"]
    run.wait_for("START sql table model main.slow")
    (dbt,) = (child for child in run.children if b"build" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"))
    watch = os.pidfd_open(dbt)
    with (run.project / "gate").open("w") as gate:
        run.process.kill()
        run.process.wait()
        gate.write("1\n")
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    assert poll.poll(PATIENCE * 1000), "dbt is still there"
    os.close(watch)
    assert run.process.returncode == -signal.SIGKILL
    state = run.state
    assert not state.ended
    possible = {"model.slow.fast": ("running", "success"), "model.slow.slow": ("running",)}
    assert all(node.status in possible.get(unique_id, ()) for unique_id, node in state.nodes.items())


KINDS = ["subprocess", "in_process"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_ledger_is_dbts_own_run_results(runs: dict[str, Run], kind: str) -> None:
    """Node by node, hook by hook: status, time, message, failures, rows. And dbt's exit code."""
    run = runs[kind]
    _, stderr = run.output
    assert run.process.returncode == 1, stderr
    assert "Note: " not in stderr
    state, attempt = run.state, run.attempt
    results: list[dict[str, Any]] = json_of(run.project / "target" / "run_results.json")["results"]
    assert len(results) == 42
    for result in results:
        unique_id = result["unique_id"]
        record = attempt.hooks[unique_id] if unique_id in attempt.hooks else state.nodes[unique_id].finished
        assert record is not None
        assert record.status == result["status"], unique_id
        assert record.message == bounded_message(result["message"]), unique_id
        assert record.execution_time == pytest.approx(result["execution_time"], rel=1e-6), unique_id
        if isinstance(record, NodeFinished):
            assert (record.adapter_response or {}) == result["adapter_response"], unique_id
            assert record.rows_affected == result["adapter_response"].get("rows_affected"), unique_id
            assert record.failures == (result["failures"] if record.resource_type in ("test", "unit_test") else None), unique_id
    assert {*state.nodes, *attempt.hooks} == {result["unique_id"] for result in results} | {"model.kitchen.eph"}
    assert state.nodes["model.kitchen.down2"].finished is not None
    assert state.nodes["model.kitchen.down2"].finished.skip_cause == ("model.kitchen.bad_model",)


@pytest.mark.parametrize("kind", KINDS)
def test_the_attempt_has_its_end(runs: dict[str, Run], kind: str) -> None:
    run = runs[kind]
    _, stderr = run.output
    state, attempt = run.state, run.attempt
    assert state.ended
    assert attempt.finished is not None
    assert (attempt.finished.exit_code, attempt.finished.ended_by, attempt.finished.incomplete) == (1, EndedBy.EXIT, None)
    assert attempt.dbt is not None
    assert attempt.dbt.dbt_version
    assert (attempt.dbt.threads, attempt.dbt.target) == (4, "dev")
    assert attempt.started is not None
    assert attempt.started.invocation == kind
    assert attempt.started.command == ("dbt", *KITCHEN)
    assert set(attempt.artifacts) == {"manifest.json", "run_results.json"}
    assert len([record for record in run.records if isinstance(record, NodeFinished)]) == len(state.nodes)
    assert stderr.splitlines()[-1].startswith("Ledger ended with ")


@pytest.mark.parametrize("kind", KINDS)
def test_dbts_console_and_files_are_as_without_a_ledger(runs: dict[str, Run], kind: str) -> None:
    run = runs[kind]
    stdout, _ = run.output
    assert "  Done. PASS=26 WARN=1 ERROR=6 SKIP=7 NO-OP=2 TOTAL=42\n" in stdout
    assert "Began running node" not in stdout  # that is debug
    target = run.project / "target"
    assert {"compiled", "manifest.json", "partial_parse.msgpack", "run", "run_results.json"} <= {path.name for path in target.iterdir()}
    manifest = json_of(target / "manifest.json")
    assert manifest["nodes"]["model.kitchen.ok_table"]["compiled_path"] == "target/compiled/kitchen/models/base/ok_table.sql"
    assert (target / "compiled/kitchen/models/base/ok_table.sql").is_file()
    log = (run.project / "logs" / "dbt.log").read_text()
    assert "[debug] [MainThread]: " in log  # text, not the JSON of the captured standard output
