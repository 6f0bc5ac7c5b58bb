"""A small dbt project on DuckDB whose warehouse counts how often each node was built, whatever happens to dbt or to us."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger_watcher.ledger import ChainReader, RunKey
from ledger_watcher.records import NodeFinished, NodeStarted
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore

BIN = Path(sys.executable).parent
PATIENCE = 240.0
"""Seconds after which a dbt that was waited for is taken for lost. A bound for broken code, never a pause."""

RUN = RunKey("audited", "r")

_AUDIT = "insert into audit values ('{{ this.name }}', '{{ invocation_id }}')"
_PROJECT = {
    "name": "audited",
    "profile": "audited",
    "on-run-start": ["create table if not exists audit (node varchar, invocation varchar)"],
    "models": {"+materialized": "table", "+pre-hook": _AUDIT},
    "seeds": {"+pre-hook": _AUDIT},
    "flags": {"send_anonymous_usage_stats": False},
}
_OUTPUT = {"type": "duckdb", "path": "{{ env_var('WAREHOUSE') }}", "threads": 2}
_PROFILES = {"audited": {"target": "dev", "outputs": {"dev": _OUTPUT, "other": {**_OUTPUT, "schema": "other"}}}}
_SLOW = """-- depends_on: {{ ref('first') }}
{% if env_var('GATE', '') %}
select sum(a.x * b.range % 7) as id
from read_csv('{{ env_var('GATE') }}', auto_detect=false, header=false, columns={'x': 'BIGINT'}) a, range(1000000000000) b
{% else %}
select 1 as id
{% endif %}
"""
"""GATE is a named pipe: opening it for writing waits until the query runs, which then goes on until it is interrupted."""

MODELS = {
    "first": "select * from {{ ref('raw') }}",
    "second": "select * from {{ ref('first') }}",
    "gated": _SLOW,
    "after": "select id + {{ env_var('OFF', '0') }} as id from {{ ref('gated') }}",
    "last": "select a.id from {{ ref('after') }} a, {{ ref('second') }} b",
    "broken": "select {{ env_var('BROKEN', 'id') }} as id from {{ ref('second') }}",
    "below": "select * from {{ ref('broken') }}",
}
_TESTS = {
    "models": [{"name": name, "columns": [{"name": "id", "data_tests": ["not_null"]}]} for name in ("first", "after")],
    "unit_tests": [
        {
            "name": "adds_nothing",
            "model": "after",
            "given": [{"input": "ref('gated')", "rows": [{"id": 7}]}],
            "expect": {"rows": [{"id": 7}]},
        }
    ],
}
_SELECTORS = {"selectors": [{"name": "some", "definition": {"union": ["+second", "broken+", "+after"]}}]}
FIRST_TEST, AFTER_TEST = "test.audited.not_null_first_id.1792d32eec", "test.audited.not_null_after_id.25b4c2327a"
UNIT_TEST = "unit_test.audited.after.adds_nothing"


def write_project(folder: Path) -> Path:
    """The project, as it would be put on any machine. YAML reads JSON."""
    (folder / "models").mkdir(parents=True)
    (folder / "seeds").mkdir()
    files = {"dbt_project.yml": _PROJECT, "profiles.yml": _PROFILES, "selectors.yml": _SELECTORS, "models/schema.yml": _TESTS}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    for name, sql in MODELS.items():
        (folder / "models" / f"{name}.sql").write_text(sql)
    (folder / "seeds" / "raw.csv").write_text("id\n1\n2\n")
    return folder


@dataclass
class Site:
    """A warehouse and a ledger that stay, and machines that come and go: each attempt has a project folder of its own."""

    folder: Path
    machines: list[Path] = field(default_factory=list)
    python: Path = Path(sys.executable)
    env: Mapping[str, str] = field(default_factory=dict)
    """``python`` has this package, ``env`` says where the dbt is: those of the tests by default."""

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse.duckdb"

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    def start(self, *args: str, options: tuple[str, ...] = (), **env: str) -> subprocess.Popen[str]:
        """A new attempt on a new machine."""
        machine = self.folder / f"machine-{len(self.machines) + 1}"
        project = write_project(machine / "project")
        (machine / "tmp").mkdir()
        self.machines.append(machine)
        environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "WAREHOUSE": str(self.warehouse),
            "TMPDIR": str(machine / "tmp"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            **self.env,
            **env,
        }
        options = ("--ledger", str(self.folder / "ledger"), "--dag-id", RUN.dag_id, "--run-id", RUN.run_id, *options)
        return subprocess.Popen(
            [self.python, "-c", "from ledger_watcher.cli import main; main()", "run", *options, "--", "dbt", *(args or ("build",))],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read(self) -> list[Any]:
        return ChainReader(LocalStore(str(self.folder / "ledger")), RUN).read()

    @property
    def state(self) -> RunState:
        state = RunState()
        state.apply(self.read())
        return state

    @property
    def done(self) -> set[str]:
        """What the ledger has as a success."""
        return {name for name, node in self.state.nodes.items() if node.finished is not None and node.finished.outcome.ok}

    def wait_until_done(self, *unique_ids: str) -> None:
        """Wait until the ledger has these as successes."""
        deadline = time.monotonic() + PATIENCE
        while not self.done.issuperset(unique_ids):
            assert time.monotonic() < deadline, self.done
            time.sleep(0.05)  # between two looks

    def started(self, epoch: int) -> set[str]:
        """What dbt began in an attempt."""
        return {entry.record.unique_id for entry in self.read() if entry.epoch == epoch and isinstance(entry.record, NodeStarted)}

    def carried(self, epoch: int) -> set[str]:
        found = [entry.record for entry in self.read() if entry.epoch == epoch and isinstance(entry.record, NodeFinished)]
        return {record.unique_id for record in found if record.source == "carried_over"}

    @property
    def built(self) -> Counter[str]:
        """How often each model and seed was built and committed."""
        import duckdb

        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            return Counter(dict(connection.execute("select node, count(*) from audit group by node").fetchall()))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_the_end_of(pid: int) -> None:
    """Wait until a process is gone that need not be a child."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    assert poll.poll(PATIENCE * 1000), "it is still there"
    os.close(watch)
