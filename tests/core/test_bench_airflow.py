"""What the benchmark of DAG runs computes; the runs themselves are `make bench`."""

from __future__ import annotations

import pytest

from benchmarks.airflow._chart import chart
from benchmarks.airflow._dbt import DbtLog
from benchmarks.airflow._machine import Usage
from benchmarks.airflow._projects import PROJECTS
from benchmarks.airflow._report import ratio, report
from benchmarks.airflow._result import Result, Task, lags_and_hops, quantile


@pytest.mark.parametrize(
    ("name", "models", "seeds"), [("fhir", 185, 2), ("fhir8", 185, 2), ("fhir40", 40, 2), ("jaffle", 5, 3), ("deep", 160, 0)]
)
def test_projects_have_their_parents_and_no_cycle(name: str, models: int, seeds: int) -> None:
    nodes = PROJECTS[name]()
    assert [sum(not node.seed for node in nodes), sum(node.seed for node in nodes)] == [models, seeds]
    done: set[str] = set()
    todo = {node.name: set(node.parents) for node in nodes}
    while ready := [one for one, parents in todo.items() if parents <= done]:
        done.update(ready)
        for one in ready:
            del todo[one]
    assert not todo


def test_fhir_sleeps_for_1_2_s_on_average_and_the_same_each_time() -> None:
    seconds = [node.seconds for node in PROJECTS["fhir"]() if not node.seed]
    assert sum(seconds) / len(seconds) == pytest.approx(1.2, abs=0.001)
    assert seconds == [node.seconds for node in PROJECTS["fhir"]() if not node.seed]


def test_a_hop_counts_from_the_later_of_dbt_and_the_tasks_before() -> None:
    log = DbtLog(finished={"model.p.a": 10.0, "model.p.b": 11.0, "seed.p.s": 9.0})
    tasks = [
        Task("a.run", "success", 13.0),
        Task("b_run", "success", 15.5),
        Task("s_seed", "success", 9.5),
        Task("a.test", "success", 20.0),
    ]
    lags, hops = lags_and_hops(log, tasks, {"model.p.a": ["seed.p.s"], "model.p.b": ["model.p.a"]})
    assert lags == [3.0, 4.5, 0.5]
    assert hops == [3.0, 2.5, 0.5]


def test_runs_are_compared_with_dbt_of_their_own_round() -> None:
    def run(arm: str, number: int, wall: float) -> Result:
        return Result("deep", arm, number, "2026-01-01T00:00:00+00:00", wall, Usage(cpu={"dbt": 1.0}), lags=[1.0, 2.0])

    runs = [run("cli", 0, 10.0), run("watcher", 0, 12.0), run("watcher", 1, 30.0), run("cli", 1, 20.0)]
    assert [ratio(one, runs) for one in runs] == [1.0, 1.2, 1.5, 1.0]
    text = report(runs, {})
    assert "| 12.0 | 1.20 | 1.5 / 2.0 / 2.0 |" in text
    assert "ledger in a folder, 2 of 2 good | 21.00 | 1.35 | 1.50 | 2.00 |" in text
    assert chart(runs).count("<rect") == len(runs)


def test_quantile() -> None:
    assert [quantile([3, 1, 2], share) for share in (0.0, 0.5, 0.95)] == [1, 2, 3]
