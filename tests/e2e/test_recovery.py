"""Retries, clears, marks, deletions and kills: what is built again, by how many runs of dbt, and what a person sees of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ledger_watcher.records import Outcome
from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack
from tests.e2e.scenes import PRODUCER, Scene, prepare_projects

HERE = Path(__file__).parent
GATE = ("first.sql", "gate.sql", "below.sql")
SLOW = ("first.sql", "slow.py", "slow_too.py", "below_slow.sql")
PROJECTS = {
    "flaky": ("first.sql", "flaky.py", "below_flaky.sql"),
    "wide": ("gate.sql",),
    "grouped": GATE,
    "early": GATE,
    "early_flaky": ("first.sql", "flaky.py", "below_flaky.sql"),
    "cleared_nodes": GATE,
    "cleared_failed": GATE,
    "cleared_whole": GATE,
    "created_again": GATE,
    "marked": ("first.sql", "checked.sql", "checked.yml", "below_checked.sql"),
    "unparsable": GATE,
    "moved_on": GATE,
    "killed_task": SLOW,
    "killed_worker": SLOW,
    "killed_retried": SLOW,
    "killed_triggerer": SLOW,
    "killed_recovery": SLOW,
    "lost_recovery": SLOW,
    "timed_out": (*SLOW, "slow.yml"),
    "two_runs": GATE,
    "backfilled": GATE,
}
OPEN = ("cleared_nodes", "cleared_whole", "moved_on", "two_runs")
BUILT = ("killed_recovery", "lost_recovery")
"""Whose first run builds everything, as it is: what is of interest is a recovery that comes after it."""
AT_ONCE = (
    "flaky",
    "wide",
    "early",
    "early_flaky",
    "grouped",
    "cleared_nodes",
    "cleared_failed",
    "cleared_whole",
    "created_again",
    "marked",
    "timed_out",
    *BUILT,
)
"""Whose first runs are started together: what is of interest comes after them."""
UNFIT = ("unparsable", "moved_on")
"""Whose only run is started with those."""


@pytest.fixture(scope="module")
def scene(airflow: AirflowStack, home: Path) -> Callable[[str], Scene]:
    """The scene of a DAG by its id."""
    prepare_projects(home / "recovery", PROJECTS)
    found = {name: Scene(airflow, home, name) for name in PROJECTS}
    for name in OPEN:
        found[name].open_gate()
    for name in BUILT:
        found[name].switch("slow.go").touch()
    moved_on = found["moved_on"].folder
    shutil.copy(moved_on / "target" / "manifest.json", moved_on / "deployed.json")
    (moved_on / "models" / "below.sql").unlink()
    shutil.copy(HERE / "recovery_dags" / "recovery_dags.py", home / "dags")
    (found["unparsable"].folder / "models" / "gate.sql").write_text("{{ no_such_macro( }}")
    for name in (*AT_ONCE, *UNFIT):
        found[name].start()
    return found.__getitem__


# Retries and clears --------------------------------------------------------------------------------------------------


def test_a_retry_builds_the_failed_node_and_what_is_below(scene: Callable[[str], Scene]) -> None:
    """In one further run of dbt; nobody does anything, and the run is green."""
    flaky = scene("flaky")
    assert flaky.end() == "success"
    first, second = flaky.attempts()
    assert first.outcomes == {"first": Outcome.SUCCESS, "flaky": Outcome.FAILED, "below_flaky": Outcome.SKIPPED}
    assert second.recovery
    assert second.built == {"flaky": 1, "below_flaky": 1}
    assert flaky.workers() == {PRODUCER: 1, "flaky_run": 1}
    assert flaky.tries() == {PRODUCER: 1, "first_run": 1, "flaky_run": 2, "below_flaky_run": 1}
    assert "the second time" in flaky.log("flaky_run", 1)


def test_a_fixed_root_and_its_fifty_descendants_are_one_run_of_dbt(scene: Callable[[str], Scene]) -> None:
    """One worker, that of the root's task; the others end in the trigger."""
    wide = scene("wide")
    assert wide.end() == "failed"
    below = {f"leaf_{number:02}" for number in range(50)}
    assert {task for task, state in wide.tasks().items() if state == "upstream_failed"} == {f"{name}_run" for name in below}
    wide.open_gate()
    assert len(wide.clear("gate_run", downstream=True)) == 51
    assert wide.end() == "success"
    _, recovery = wide.attempts()
    assert recovery.recovery
    assert recovery.started.task_id == "gate_run"
    assert recovery.built == dict.fromkeys(below | {"gate"}, 1)
    assert wide.workers() == {PRODUCER: 1, "gate_run": 1}


def test_what_started_with_the_run_waits_for_a_retry_above(scene: Callable[[str], Scene]) -> None:
    """It was in the triggerer all the while, and what is below the failed one needs no try of its own."""
    flaky = scene("early_flaky")
    assert flaky.end() == "success"
    _, second = flaky.attempts()
    assert second.recovery
    assert second.built == {"flaky": 1, "below_flaky": 1}
    assert flaky.workers() == {PRODUCER: 1, "flaky_run": 1}
    assert flaky.tries() == {PRODUCER: 1, "first_run": 1, "flaky_run": 2, "below_flaky_run": 1}


def test_what_started_with_the_run_fails_below_a_failure_and_is_cleared_with_it(scene: Callable[[str], Scene]) -> None:
    """No worker finds that out, dbt does not run for it alone; cleared together they are one run of dbt."""
    early = scene("early")
    assert early.end() == "failed"
    states = {PRODUCER: "success", "first_run": "success", "gate_run": "failed", "below_run": "failed"}
    assert early.tasks() == states
    told = "because gate_run before it failed: clear that as well"
    assert told in early.log("below_run")
    early.clear("below_run")
    assert early.end() == "failed"
    assert told in early.log("below_run", 2)
    assert len(early.attempts()) == 1
    early.open_gate()
    assert early.clear(only_failed=True) == ["below_run", "gate_run"]
    assert early.end() == "success"
    _, recovery = early.attempts()
    assert recovery.built == {"gate": 1, "below": 1}
    assert sum(early.workers().values()) == 2


def test_a_cleared_group_is_built_again_with_what_is_below(scene: Callable[[str], Scene]) -> None:
    """All of it, in one run of dbt, as a cleared node is. Its failure names the node."""
    grouped = scene("grouped")
    assert grouped.end() == "failed"
    assert grouped.tasks() == {PRODUCER: "success", "up_build": "failed", "down_build": "upstream_failed"}
    told = grouped.log("up_build")
    assert "model.recovery.first: success" in told
    assert "model.recovery.gate: error" in told
    grouped.open_gate()
    assert grouped.clear("up_build", downstream=True) == ["down_build", "up_build"]
    assert grouped.end() == "success"
    assert set(grouped.tasks().values()) == {"success"}
    first, recovery = grouped.attempts()
    assert first.built == {"first": 1, "gate": 1}
    assert recovery.started.task_id == "up_build"
    assert recovery.built == {"first": 1, "gate": 1, "below": 1}
    assert grouped.workers() == {PRODUCER: 1, "up_build": 1}


def test_clear_failed_builds_what_failed(scene: Callable[[str], Scene]) -> None:
    """By a recovery, or by the producer if that is cleared too, which takes over what is done; the producer alone finds nothing to do."""
    failed = scene("cleared_failed")
    assert failed.end() == "failed"
    assert failed.clear(only_failed=True) == ["below_run", "gate_run"]
    assert failed.end() == "failed"
    failed.open_gate()
    failed.clear(PRODUCER, "gate_run", "below_run")
    assert failed.end() == "success"
    failed.clear(PRODUCER)
    assert failed.end() == "success"
    _, recovery, producer, idle = failed.attempts()
    assert recovery.recovery
    assert recovery.built == {"gate": 1}
    assert recovery.outcomes["below"] is Outcome.SKIPPED
    assert not producer.recovery
    assert producer.built == {"gate": 1, "below": 1}
    assert producer.carried == {"first"}
    assert idle.built == {}
    assert idle.finished is not None
    assert idle.finished.exit_code == 0
    assert failed.workers() == {PRODUCER: 3, "gate_run": 1}
    assert failed.tries()["first_run"] == 1


def test_clear_single_nodes_builds_just_them(scene: Callable[[str], Scene]) -> None:
    nodes = scene("cleared_nodes")
    assert nodes.end() == "success"
    nodes.clear("first_run")
    assert nodes.end() == "success"
    nodes.clear("gate_run", downstream=True)
    assert nodes.end() == "success"
    whole, one, two = nodes.attempts()
    assert whole.built == {"first": 1, "gate": 1, "below": 1}
    assert one.built == {"first": 1}
    assert two.built == {"gate": 1, "below": 1}
    assert nodes.workers() == {PRODUCER: 1, "first_run": 1, "gate_run": 1}


def test_clear_the_whole_run_builds_everything_once(scene: Callable[[str], Scene]) -> None:
    whole = scene("cleared_whole")
    assert whole.end() == "success"
    whole.clear()
    assert whole.end() == "success"
    attempts = whole.attempts()
    assert [(attempt.recovery, attempt.built) for attempt in attempts] == [(False, {"first": 1, "gate": 1, "below": 1})] * 2
    assert whole.workers() == {PRODUCER: 2}


def test_a_run_of_the_same_name_shows_nothing_of_the_deleted_one(scene: Callable[[str], Scene]) -> None:
    again = scene("created_again")
    assert again.end() == "failed"
    again.airflow.delete_run(again.dag_id, "one")
    again.open_gate()
    again.start()
    assert again.end() == "success"
    _, second = again.attempts()
    assert not second.recovery
    assert second.built == {"first": 1, "gate": 1, "below": 1}
    assert set(again.tries().values()) == {1}


def test_what_a_person_marks_counts(scene: Callable[[str], Scene]) -> None:
    """A failed test marked success: Airflow clears what failed below, and that is built without it. Marked failed: nothing is built."""
    marked = scene("marked")
    assert marked.end() == "failed"
    assert marked.tasks()["below_checked_run"] == "upstream_failed"
    marked.airflow.set_state(marked.dag_id, "one", "checked.test", "success")
    marked.clear("below_checked_run")
    assert marked.end() == "success"
    marked.airflow.set_state(marked.dag_id, "one", "below_checked_run", "failed")
    _, recovery = marked.attempts()
    assert recovery.built == {"below_checked": 1}
    assert marked.tasks() == {
        PRODUCER: "success",
        "first_run": "success",
        "checked.run": "success",
        "checked.test": "success",
        "below_checked_run": "failed",
    }


# Failures ------------------------------------------------------------------------------------------------------------


def test_dbt_that_cannot_parse_is_named_by_every_task(scene: Callable[[str], Scene]) -> None:
    unparsable = scene("unparsable")
    assert unparsable.end() == "failed"
    assert unparsable.tasks() == {PRODUCER: "failed", "first_run": "failed", "gate_run": "failed", "below_run": "upstream_failed"}
    for task in (PRODUCER, "first_run", "gate_run"):
        assert "Compilation Error" in unparsable.log(task), task


def test_a_project_that_moved_on_is_named(scene: Callable[[str], Scene]) -> None:
    """The DAG was drawn from an older version than the one that dbt runs."""
    moved = scene("moved_on")
    assert moved.end() == "failed"
    assert moved.tasks() == {PRODUCER: "success", "first_run": "success", "gate_run": "success", "below_run": "failed"}
    assert "Deploy the same version to both" in moved.log("below_run")


def test_a_killed_producer_is_named_or_goes_on(scene: Callable[[str], Scene]) -> None:
    """Its process, without a try left or with one, which builds what the killed one had not."""
    task, retried = scene("killed_task"), scene("killed_retried")
    for one in (task, retried):
        one.start()
    for one in (task, retried):
        kill_producer(one)
    retried.switch("slow.go").touch()
    assert retried.end() == "success"
    first, second = retried.attempts()
    assert first.finished is None
    assert not second.recovery
    assert second.carried == {"first"}
    assert second.built == {"slow": 1, "slow_too": 1, "below_slow": 1}
    assert retried.workers() == {PRODUCER: 2}
    assert retried.tries()["slow_run"] == 1
    ended_as_killed(task)


def test_a_worker_that_is_gone_is_noticed_by_all_who_wait_for_it(scene: Callable[[str], Scene]) -> None:
    """With the supervisor, nobody tells Airflow of the end: it misses the heartbeats. One worker ran a producer, the other one a recovery."""
    producer, recovery = scene("killed_worker"), scene("lost_recovery")
    producer.start()
    runner = begin_recovery(recovery)
    recovery.airflow.kill_task(recovery.dag_id, "one", runner, supervisor=True)
    recovery.switch("slow.go").touch()
    kill_producer(producer, supervisor=True)
    ended_as_killed(producer)
    taken_up(recovery, runner)


def kill_producer(scene: Scene, *, supervisor: bool = False) -> None:
    """While it builds ``slow``, and Airflow shows what it built before."""
    scene.touched("slow.began")
    scene.reach("first_run", "success")
    scene.airflow.kill_task(scene.dag_id, "one", PRODUCER, supervisor=supervisor)


def ended_as_killed(scene: Scene) -> None:
    """What was built stays, the others say why they have failed."""
    assert scene.end() == "failed"
    assert scene.tasks() == {
        PRODUCER: "failed",
        "first_run": "success",
        "slow_run": "failed",
        "slow_too_run": "failed",
        "below_slow_run": "upstream_failed",
    }
    assert "the producer ended as failed before dbt finished" in scene.log("slow_run")
    assert scene.workers() == {PRODUCER: 1}


def test_a_killed_triggerer_loses_nothing(scene: Callable[[str], Scene]) -> None:
    """There are two of them, and both are killed in turn: so one had a task that waits, which went to the other, or to its successor."""
    killed = scene("killed_triggerer")
    killed.start()
    killed.touched("slow.began")
    killed.reach("first_run", "success")
    assert until(lambda: bool(killed.watchers("slow_run")), 60)
    before, watched = killed.airflow.pids(), killed.watchers("slow_run")

    def restarted(name: str) -> bool:
        return killed.airflow.pids().get(name, before[name]) != before[name]

    for name in ("triggerer", "triggerer-2"):
        killed.airflow.kill_service(name)
        assert until(partial(restarted, name), 60)
    assert until(lambda: killed.watchers("slow_run") > watched, 60)
    killed.switch("slow.go").touch()
    assert killed.end() == "success"
    assert killed.workers() == {PRODUCER: 1}
    assert set(killed.tries().values()) == {1}


def test_a_timeout_ends_the_waiting_as_for_every_sensor(scene: Callable[[str], Scene]) -> None:
    """The producer runs on, the task that waited for too long fails, and is not tried again although it has a try left."""
    timed = scene("timed_out")
    timed.reach("slow_run", "failed")
    assert timed.tasks()[PRODUCER] == "running"
    timed.switch("slow.go").touch()
    assert timed.end() == "failed"
    assert timed.tasks() == {
        PRODUCER: "success",
        "first_run": "success",
        "slow_run": "failed",
        "slow_too_run": "success",
        "below_slow_run": "upstream_failed",
    }
    assert timed.tries()["slow_run"] == 1
    assert "AirflowSensorTimeout" in timed.log("slow_run")


def test_a_killed_recovery_is_taken_up_by_a_retry(scene: Callable[[str], Scene]) -> None:
    """Whoever mirrored it does not hang: one of the next tries builds what is left, for all."""
    killed = scene("killed_recovery")
    runner = begin_recovery(killed)
    killed.airflow.kill_task(killed.dag_id, "one", runner)
    killed.switch("slow.go").touch()
    taken_up(killed, runner)


def begin_recovery(scene: Scene) -> str:
    """Have two nodes and what is below them built again; returns the task that runs dbt, as soon as it builds the first of them."""
    assert scene.end() == "success"
    for name in ("slow.go", "slow.began"):
        scene.switch(name).unlink()
    scene.clear("slow_run", downstream=True)
    scene.clear("slow_too_run", downstream=True)
    scene.touched("slow.began")
    (runner,) = (task for task, state in scene.tasks().items() if state == "running")
    return runner


def taken_up(scene: Scene, runner: str) -> None:
    """One more recovery has built all that the killed one was for."""
    assert scene.end() == "success"
    _, lost, *others = scene.attempts()
    assert lost.started.task_id == runner
    assert lost.finished is None
    assert len(others) == 1
    assert others[0].built == {"slow": 1, "slow_too": 1, "below_slow": 1}


def test_two_runs_at_once_have_a_ledger_each(scene: Callable[[str], Scene]) -> None:
    two = scene("two_runs")
    for run_id in ("one", "two"):
        two.start(run_id)
    for run_id in ("one", "two"):
        assert two.end(run_id) == "success"
        (attempt,) = two.attempts(run_id)
        assert attempt.built == {"first": 1, "gate": 1, "below": 1}
        assert two.workers(run_id) == {PRODUCER: 1}


def test_a_backfill_with_depends_on_past_goes_on_after_a_fix(scene: Callable[[str], Scene]) -> None:
    """Tasks wait for those of the day before; dbt does not: it waits for the producer of the day before only, so both days need the fix."""
    days = scene("backfilled")
    days.airflow.wait_for_dag(days.dag_id, 120)
    first, second = days.airflow.backfill(days.dag_id, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    days.reach("gate_run", "failed", run_id=first)
    days.reach(PRODUCER, "success", run_id=second)
    days.open_gate()
    assert days.clear(only_failed=True, run_id=first) == ["below_run", "gate_run"]
    assert days.end(first) == "success"
    assert days.end(second) == "failed"
    assert days.clear(only_failed=True, run_id=second) == ["below_run", "gate_run"]
    assert days.end(second) == "success"
    for run_id in (first, second):
        _, recovery = days.attempts(run_id)
        assert recovery.built == {"gate": 1, "below": 1}
