"""Runs that end in other ways than with all nodes done: every dbt-core on PostgreSQL, as a process and in-process, beside plain dbt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ledger_watcher.records import EndedBy, NodeFinished, Outcome, bounded_message
from scripts.postgres import HOST
from tests.dbt.lab import CORE, MODES, Captured, Lab, Project, run

MODELS = ("good", "bad", "below", "z_last")
PLAN = sorted([*(f"model.small.{name}" for name in MODELS), "test.small.not_null_good_n.f5daa7d2c3"])


def hooks(when: str) -> Callable[[Project], None]:
    """Three hooks of which the second fails; and nothing else that does."""

    def prepare(project: Project) -> None:
        project.replace("dbt_project.yml", f"{when}: []", f'{when}: ["select 1", "select no_such_column_in_a_hook", "select 3"]')
        project.write("models/bad.sql", "select 2 as id from {{ ref('good') }}")

    return prepare


def parse_error(project: Project) -> None:
    project.write("models/below.sql", "select * from {{ ref('missing_model') }}")


def no_server(project: Project) -> None:
    """Nobody listens on port 1 (tcpmux)."""
    project.env["PGPORT"] = "1"


def nothing(project: Project) -> None:
    pass


def sources(project: Project) -> None:
    rows = {"fresh": "now()", "late": "now() - interval '2 days'", "stale": "now() - interval '20 days'"}
    statements = [f"create table public.{name} as select {at} as at" for name, at in rows.items()]
    done = run(["psql", "-Xq", "-d", project.env["KITCHEN_DB"], "-c", "; ".join(statements)], env=secret(project))
    assert done.returncode == 0, done.stderr


def secret(project: Project) -> dict[str, str]:
    return {**project.whole_env, "PGPASSWORD": project.env["DBT_ENV_SECRET_PASSWORD"]}


@dataclass(frozen=True)
class Scenario:
    prepare: Callable[[Project], None]
    command: tuple[str, ...]


SCENARIOS = {
    "start_hook": Scenario(hooks("on-run-start"), ("build",)),
    "end_hook": Scenario(hooks("on-run-end"), ("build",)),
    "fail_fast": Scenario(nothing, ("build", "--fail-fast", "--threads", "1")),
    "parse_error": Scenario(parse_error, ("build",)),
    "no_server": Scenario(no_server, ("build",)),
    "warn_error": Scenario(nothing, ("--warn-error", "build")),
    "freshness": Scenario(sources, ("source", "freshness")),
    "nothing": Scenario(nothing, ("build", "--select", "no_such_model")),
}


@dataclass(frozen=True)
class Case:
    """One scenario, captured, and the same without a ledger."""

    version: str
    captured: Captured
    plain_project: Project
    plain_code: int
    plain_output: str


Cases = Callable[[str], Case]


@pytest.fixture(params=[(version, mode) for version in CORE for mode in MODES], ids="-".join)
def case(request: pytest.FixtureRequest, lab: Lab) -> Cases:
    """Looks a scenario up; all of a version are started with the first one."""
    version, mode = request.param

    def plain(name: str) -> tuple[Project, int, str]:
        project = lab.small(version, f"{name}-plain")
        SCENARIOS[name].prepare(project)
        done = project.dbt(*SCENARIOS[name].command)
        return project, done.returncode, done.stdout

    def captured(name: str, kind: str) -> Captured:
        project = lab.small(version, f"{name}-{kind}")
        SCENARIOS[name].prepare(project)
        return Captured.of(project, SCENARIOS[name].command, mode=kind, plan=PLAN)

    for name in SCENARIOS:
        lab.start((version, name), lambda name=name: plain(name))
        for kind in MODES:
            lab.start((version, name, kind), lambda name=name, kind=kind: captured(name, kind))
    return lambda name: Case(version, lab.result((version, name, mode)), *lab.result((version, name)))


def ended(case: Case, code: int) -> str | None:
    """The exit code is plain dbt's and the ledger is whole; returns the attempt's message."""
    found = case.captured
    assert (found.code, case.plain_code) == (code, code), found.process.stdout + found.process.stderr
    assert found.attempt.plan == frozenset(PLAN)
    finished = found.attempt.finished
    assert finished is not None
    assert (finished.exit_code, finished.ended_by, finished.incomplete) == (code, EndedBy.EXIT, None)
    checked = found.cli("verify")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return finished.message


def states(case: Case) -> dict[str, str]:
    """What `show` says of each node."""
    return {row["name"]: row["state"] for row in case.captured.show()["nodes"]}


def same(record: Any, result: dict[str, Any]) -> None:  # noqa: ANN401
    assert record is not None, result
    assert record.status == result["status"], result
    assert record.message == bounded_message(result["message"]), result
    assert record.execution_time == pytest.approx(result["execution_time"], rel=1e-6, abs=1e-6), result


def as_run_results(case: Case) -> None:
    """Every node and hook of run_results.json has its record, and plain dbt had the same."""
    found = case.captured
    results = found.project.results
    for unique_id, result in results.items():
        same(found.hooks.get(unique_id) if unique_id.startswith("operation.") else found.finished.get(unique_id), result)
    assert {k: result["status"] for k, result in results.items()} == {k: r["status"] for k, r in case.plain_project.results.items()}


def broken_hook(case: Case, when: str) -> None:
    """The second hook failed, with the warehouse's words; the third is skipped, of which 1.8 says nothing."""
    outcomes = {
        f"operation.small.small-{when}-{i}": outcome for i, outcome in enumerate((Outcome.SUCCESS, Outcome.FAILED, Outcome.SKIPPED))
    }
    if case.version == "1.8":
        del outcomes[f"operation.small.small-{when}-2"]
    assert {unique_id: hook.outcome for unique_id, hook in case.captured.hooks.items()} == outcomes
    assert 'column "no_such_column_in_a_hook" does not exist' in (case.captured.hooks[f"operation.small.small-{when}-1"].message or "")
    shown = case.captured.cli("show")
    assert f"hook operation.small.small-{when}-1 failed: " in shown.stdout


def test_a_hook_at_the_start_that_fails(case: Cases) -> None:
    """What then becomes of the nodes differs between versions; whatever it is, each of them says it."""
    found = case("start_hook")
    ended(found, 1)
    as_run_results(found)
    broken_hook(found, "on-run-start")
    assert set(found.captured.finished) == set(PLAN)
    for record in found.captured.finished.values():
        expected = ("operation.small.small-on-run-start-1",) if record.outcome is Outcome.SKIPPED else ()
        assert record.skip_cause == expected


def test_a_hook_at_the_end_that_fails(case: Cases) -> None:
    found = case("end_hook")
    ended(found, 1)
    as_run_results(found)
    broken_hook(found, "on-run-end")
    assert states(found) == {"good": "success", "bad": "success", "below": "success", "z_last": "success", "not_null_good_n": "warn"}


def test_fail_fast(case: Cases, lab: Lab) -> None:
    """What the ledger calls done is what stands in the database, although run_results.json may say otherwise."""
    found = case("fail_fast")
    ended(found, 1)
    captured = found.captured
    database = captured.project.env["KITCHEN_DB"]
    tables = set(lab.postgres.execute("select tablename from pg_tables where schemaname = 'main'", database=database).split())
    done = {record.name for record in captured.finished.values() if record.outcome.ok and record.resource_type == "model"}
    assert done == tables
    assert captured.finished["model.small.bad"].outcome is Outcome.FAILED
    assert captured.finished["model.small.below"].outcome is Outcome.SKIPPED
    assert set(captured.project.results) <= set(captured.finished)
    for unique_id, result in captured.project.results.items():
        assert result["status"] in (captured.finished[unique_id].status, "skipped")


def test_a_parse_error(case: Cases) -> None:
    found = case("parse_error")
    message = ended(found, 2)
    assert "depends on a node named 'missing_model' which was not found" in (message or "")
    assert found.captured.finished == {}
    assert set(states(found).values()) == {"not_run"}
    assert len(states(found)) == len(PLAN)


def test_no_connection(case: Cases) -> None:
    """The attempt ends with the driver's words, and every planned node is accounted for."""
    found = case("no_server")
    message = ended(found, 2) or ""
    assert "Connection refused" in message
    assert HOST in message
    assert found.captured.finished == {}
    assert set(states(found).values()) == {"not_run"}
    assert len(states(found)) == len(PLAN)
    shown = found.captured.cli("show")
    assert shown.stdout.count("not run") >= len(PLAN), shown.stdout
    assert "Connection refused" in shown.stdout


def test_warnings_as_errors(case: Cases) -> None:
    """The test that only warns fails then, and what is below its model is skipped for it."""
    found = case("warn_error")
    ended(found, 1)
    as_run_results(found)
    (test,) = [record for record in found.captured.finished.values() if record.resource_type == "test"]
    assert test.outcome is Outcome.FAILED
    bad = found.captured.finished["model.small.bad"]
    assert (bad.outcome, bad.skip_cause) == (Outcome.SKIPPED, (test.unique_id,))


def test_source_freshness(case: Cases) -> None:
    """Sources are nodes here; sources.json is stored."""
    found = case("freshness")
    ended(found, 1)
    results = {result["unique_id"]: result for result in found.captured.project.artifact("sources.json")["results"]}
    finished = found.captured.finished
    assert {name.split(".")[-1]: record.outcome for name, record in finished.items()} == {
        "fresh": Outcome.SUCCESS,
        "late": Outcome.WARN,
        "stale": Outcome.FAILED,
        "gone": Outcome.FAILED,
    }
    for unique_id, result in results.items():
        assert finished[unique_id].status == result["status"]
    assert "does not exist" in (finished["source.small.s.gone"].message or "")
    assert "sources.json" in found.captured.attempt.artifacts


def test_nothing_to_do(case: Cases) -> None:
    """dbt finds nothing of what the plan says that the command selects: that is in the ledger, and no node has run."""
    found = case("nothing")
    ended(found, 0)
    assert [record for record in found.captured.records if isinstance(record, NodeFinished)] == []
    assert set(states(found).values()) == {"not_run"}
