"""A producer that is never started, because of what is before it or of somebody: nobody waits for it, and the cause is named."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack
from tests.e2e.test_runs import PRODUCER, states, worker_logs

BROKEN = ("good.run", "good.test", "bad_run", "below_bad_run", "beside_run", "tested.run", "tested.test", "below_tested_run")


@pytest.fixture(scope="module")
def started(airflow: AirflowStack) -> Mapping[str, dict[str, str]]:
    """Runs of the DAGs, all begun at once: by what becomes of what is before the groups, or of the producer, and by DAG."""
    for dag_id in ("gated", "gated_anyway", "gated_notice", "held"):
        airflow.wait_for_dag(dag_id, 60)
    return {
        "branched": {dag_id: airflow.trigger(dag_id, conf={"fail": False}) for dag_id in ("gated", "gated_anyway")},
        "failed": {dag_id: airflow.trigger(dag_id, conf={"fail": True}) for dag_id in ("gated", "gated_anyway", "gated_notice")},
        "skipped": {"held": airflow.trigger("held", run_id="skipped")},
        "removed": {"held": airflow.trigger("held", run_id="removed")},
    }


def test_a_branch_before_the_groups_skips_all_of_them(airflow: AirflowStack, started: Mapping[str, dict[str, str]]) -> None:
    """Those below sources too, which run below skipped ones. A task that runs in any case fails and says why there is nothing to show."""
    runs = started["branched"]
    assert airflow.wait_for_run("gated", runs["gated"]) == "success"
    found = states(airflow, "gated", runs["gated"])
    assert found.pop("way") == "success"
    assert set(found.values()) == {"skipped"}, found
    assert {f"dbt.{name}" for name in (PRODUCER, *BROKEN)} < found.keys()
    assert {"after", f"sourced.{PRODUCER}", "sourced.raw_old_source", "sourced.below_old_run"} < found.keys()
    assert "the producer ended as skipped" in airflow.logs("gated", runs["gated"], "sourced.below_old_run")
    assert worker_logs(airflow, "gated", runs["gated"]) == ["way"]

    assert airflow.wait_for_run("gated_anyway", runs["gated_anyway"]) == "failed"
    anyway = states(airflow, "gated_anyway", runs["gated_anyway"])
    assert (anyway[f"dbt.{PRODUCER}"], anyway["dbt.good.run"], anyway["dbt.good.test"]) == ("skipped", "skipped", "failed")
    text = airflow.logs("gated_anyway", runs["gated_anyway"], "dbt.good.test")
    assert "the producer ended as skipped" in text
    assert "dbt was not started, because a branch, a short circuit or a person skipped the producer" in text


def test_what_failed_before_the_groups_fails_all_of_them(airflow: AirflowStack, started: Mapping[str, dict[str, str]]) -> None:
    """What is to run in any case makes the run green if it is a task like others, and does not if it is a teardown."""
    runs = started["failed"]
    assert airflow.wait_for_run("gated", runs["gated"]) == "failed"
    found = states(airflow, "gated", runs["gated"])
    assert found.pop("way") == "failed"
    assert set(found.values()) == {"upstream_failed"}, found

    assert airflow.wait_for_run("gated_anyway", runs["gated_anyway"]) == "failed"
    anyway = states(airflow, "gated_anyway", runs["gated_anyway"])
    assert anyway.pop("clean") == "success"
    assert anyway == {"way": "failed", f"dbt.{PRODUCER}": "upstream_failed", **{f"dbt.{name}": "failed" for name in BROKEN}}
    text = airflow.logs("gated_anyway", runs["gated_anyway"], "dbt.bad_run")
    assert "the producer ended as upstream_failed" in text
    assert "a task before the producer failed" in text

    assert airflow.wait_for_run("gated_notice", runs["gated_notice"]) == "success"
    assert states(airflow, "gated_notice", runs["gated_notice"])[f"dbt.{PRODUCER}"] == "upstream_failed"


@pytest.mark.parametrize("end", ["skipped", "removed"])
def test_a_producer_that_is_taken_away_while_its_nodes_wait_is_not_waited_for(
    airflow: AirflowStack, started: Mapping[str, dict[str, str]], end: str
) -> None:
    """It waits for a slot of a pool that there is not, and its nodes for it, until somebody marks it, or deletes it."""
    run_id = started[end]["held"]
    roots = ("good.run", "tested.run")

    def waiting() -> bool:
        found = states(airflow, "held", run_id)
        return found[PRODUCER] == "scheduled" and {found[name] for name in roots} == {"deferred"}

    assert until(waiting, 60), states(airflow, "held", run_id)
    if end == "skipped":
        airflow.set_state("held", run_id, PRODUCER, "skipped")
    else:
        airflow.call("DELETE", f"dags/held/dagRuns/{run_id}/taskInstances/{PRODUCER}")
    assert airflow.wait_for_run("held", run_id) == "failed"
    found = states(airflow, "held", run_id)
    assert {found[name] for name in roots} == {"failed"}
    text = airflow.logs("held", run_id, "good.run")
    assert f"the producer ended as {end}" in text
    assert "dbt was not started" in text
    assert worker_logs(airflow, "held", run_id) == []
