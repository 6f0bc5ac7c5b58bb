"""A real dbt on DuckDB with sources of every kind, in its own process and in ours, both at once; then another attempt of one of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger_watcher.records import Outcome
from tests.core.test_capture_dbt import Run, pytestmark

__all__ = ["pytestmark"]

PROJECT = Path(__file__).parents[1] / "e2e" / "projects" / "sourced"
FRESH = "id,loaded_at\n1,2999-01-01 00:00:00\n"
FAILING, OF_OLD = "accepted_values_from_fresh_id", "not_null_from_old_id"


def sourced(folder: Path) -> Path:
    """The project of the end-to-end tests with one more source, which is not there."""
    shutil.copytree(PROJECT, folder)
    sources = folder / "models" / "sources.yml"
    freshness = "{warn_after: {count: 1, period: hour}}"
    gone = f"      - name: gone\n        loaded_at_field: loaded_at\n        freshness: {freshness}\n"
    sources.write_text(sources.read_text().replace("      - name: plain\n", f"      - name: plain\n{gone}"))
    (folder / "models" / "from_gone.sql").write_text("select id from {{ source('raw', 'gone') }}")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    folder = tmp_path_factory.mktemp("sources")
    build = ("build", "--profiles-dir", ".")
    started = {
        "subprocess": Run.start(sourced(folder / "subprocess"), "--freshness", "--run-id", "one", command=(*build, "--selector", "daily")),
        "in_process": Run.start(sourced(folder / "in_process"), "--freshness", "--tests-last", "--in-process", command=build),
    }
    yield started
    for run in started.values():
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()


def outcomes(run: Run) -> dict[str, str]:
    """Node to outcome, or to why it was skipped."""
    ends = [node.finished for node in run.state.nodes.values() if node.finished is not None]
    return {
        end.name or end.unique_id: end.by_choice or (f"for {end.skip_cause}" if end.outcome is Outcome.SKIPPED else end.outcome.value)
        for end in ends
    }


ALIKE = {
    "fresh": "success",
    "old": "stale",
    "gone": "failed",
    "from_fresh": "success",
    "from_old": "stale",
    "below_old": "stale",
    "both": "success",
    "from_gone": "for ('source.sourced.raw.gone',)",
}


def test_sources_before_a_build_that_a_selector_narrows_and_again_in_the_next_attempt(runs: dict[str, Run]) -> None:
    first = runs["subprocess"]
    _, notes = first.output
    assert first.process.returncode == 1, notes
    found = outcomes(first)
    tests = {name: found.pop(name) for name in list(found) if name.startswith((FAILING, OF_OLD))}
    assert sorted(tests.values()) == ["failed", "stale"]
    assert found == {**ALIKE, "below_fresh": f"for ({next(uid for uid in first.state.nodes if FAILING in uid)!r},)"}
    assert "sources.json" in first.attempt.artifacts

    for name in ("old", "gone"):
        (first.project / "raw" / f"{name}.csv").write_text(FRESH)
    again = Run.start(first.project, "--freshness", "--run-id", "one", command=("build", "--profiles-dir", ".", "--selector", "daily"))
    _, notes = again.output
    assert again.process.returncode == 1, notes  # the test that always fails
    found = outcomes(again)
    assert {found[name] for name in ("fresh", "old", "gone", "from_old", "below_old", "from_gone")} == {"success"}
    assert "from_plain" not in found
    carried = {end.name for node in again.state.nodes.values() if (end := node.finished) is not None and end.source == "carried_over"}
    assert carried == {"from_fresh", "both"}


def test_sources_and_tests_last_with_one_parse(runs: dict[str, Run]) -> None:
    run = runs["in_process"]
    _, notes = run.output
    assert run.process.returncode == 1, notes
    found = outcomes(run)
    tests = {name: found.pop(name) for name in list(found) if name.startswith((FAILING, OF_OLD))}
    assert sorted(tests.values()) == ["failed", "stale"]
    assert found == {**ALIKE, "from_plain": "success", "below_fresh": "success"}
    log = (run.project / "logs" / "dbt.log").read_text()
    assert (log.count("Starting full parse"), log.count("skipping partial parsing")) == (
        1,
        1,
    )  # the latter is of `dbt ls`, a process of its own
    assert set(run.attempt.artifacts) >= {"sources.json", "run_results.json", "manifest.json"}
