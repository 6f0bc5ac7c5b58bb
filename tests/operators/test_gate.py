"""Tasks that start with the run: dbt runs again for none that ``all_success`` would have held back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, task_group
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TriggerEvent
from hypothesis import given
from hypothesis import strategies as st

from ledger_watcher.errors import ConfigError
from ledger_watcher.records import Outcome
from ledger_watcher_airflow import DbtDag, DbtTaskGroup, ExecutionConfig, ExecutionMode
from ledger_watcher_airflow import tail as tail_module
from ledger_watcher_airflow import trigger as trigger_module
from ledger_watcher_airflow.decision import TERMINAL, Kind, Verdict, Watcher
from ledger_watcher_airflow.gate import gated, look_above
from ledger_watcher_airflow.tail import TailKey
from ledger_watcher_airflow.trigger import RECOVER, NodeTrigger
from tests.operators import conftest
from tests.operators.runs import BORN, RUN, Attempt, CountingStore, began, done, task_id_born

MakeDag = Callable[..., DbtDag]
STATES = ["success", "failed", "upstream_failed", "skipped", "removed", None, "scheduled", "running", "deferred", "up_for_retry"]
AGAIN = Verdict(Kind.RECOVER, "dbt skipped it")
EARLY = ["add_up_test", "history_snapshot", "orders.run", "orders.test", "sales_run"]


def chain(*states: str | None) -> tuple[Watcher, dict[str, str | None]]:
    """The last of a row of tasks, and the states of those before it."""
    ids = [f"t{number}" for number in range(len(states) + 1)]
    before = dict(zip(ids[1:], ids, strict=False))
    watcher = Watcher(
        nodes=("model.s.x",), born=BORN, try_number=1, task_id=ids[-1], above=lambda one: [before[one]] if one in before else []
    )
    return watcher, dict(zip(ids, states, strict=False))


@pytest.mark.parametrize(
    ("states", "kind"),
    [
        (["success"], Kind.RECOVER),
        (["skipped"], Kind.RECOVER),
        (["failed"], Kind.FAIL),
        (["upstream_failed"], Kind.FAIL),
        (["up_for_retry"], Kind.WAIT),
        ([None], Kind.WAIT),
        (["failed", "success"], Kind.RECOVER),
        (["failed", "deferred"], Kind.FAIL),
        (["failed", "up_for_retry", None], Kind.FAIL),
        (["success", "deferred", "up_for_retry"], Kind.WAIT),
    ],
)
def test_what_the_tasks_above_decide(states: list[str | None], kind: Kind) -> None:
    watcher, all_of_them = chain(*states)
    found = gated(AGAIN, watcher, all_of_them)
    assert found.kind is kind
    assert AGAIN.reason in found.reason
    if kind is not Kind.RECOVER:
        assert " before it " in found.reason


def test_nothing_else_is_held_back() -> None:
    watcher, states = chain("failed")
    for kind in set(Kind) - {Kind.RECOVER}:
        assert gated(Verdict(kind, "why"), watcher, states) == Verdict(kind, "why")
    waited = Watcher(nodes=("model.s.x",), born=BORN, try_number=1)
    assert gated(AGAIN, waited, None) == AGAIN
    assert gated(AGAIN, watcher, None).kind is Kind.WAIT


@given(st.data())
def test_it_is_what_airflow_would_come_to_in_the_end(data: st.DataObject) -> None:
    """Spread ``upstream_failed`` as ``all_success`` does, until nothing changes: the task would be, or it would not."""
    size = data.draw(st.integers(1, 9))
    above = {number: sorted(data.draw(st.sets(st.integers(0, number - 1)) if number else st.just(set()))) for number in range(size)}
    states = {str(number): data.draw(st.sampled_from(STATES)) for number in range(size)}
    spread = dict(states)
    for number in range(size):  # edges lead upwards only
        if spread[str(number)] not in TERMINAL and any(spread[str(one)] in ("failed", "upstream_failed") for one in above[number]):
            spread[str(number)] = "upstream_failed"
    last = above[size - 1]
    failed, unfinished = look_above(str(size - 1), lambda one: [str(parent) for parent in above[int(one)]], states)
    assert (failed is not None) == any(spread[str(one)] in ("failed", "upstream_failed") for one in last)
    if failed is None:
        assert (unfinished is not None) == any(spread[str(one)] not in TERMINAL for one in last)


# In the DAG ----------------------------------------------------------------------------------------------------------


def rules(dag: DAG) -> dict[str, str]:
    return {task.task_id: str(task.trigger_rule.value) for task in dag.tasks}


@pytest.fixture
def early(tmp_path: Path) -> dict[str, Any]:
    return {"execution_config": ExecutionConfig(ledger_uri=str(tmp_path / "ledger"), start_with_run=True)}


def test_tasks_below_others_of_ours_start_with_the_run(make_dag: MakeDag, early: dict[str, Any]) -> None:
    dag = make_dag(**early)
    waited = rules(make_dag(dag_id="waits"))
    found = rules(dag)
    changed = sorted(task_id for task_id in found if found[task_id] != waited[task_id])
    assert {found[task_id] for task_id in changed} == {"always"}
    assert changed == EARLY
    assert found["raw_seed"] == "all_success", "it may have tasks of the user's before it"
    for task_id in changed:
        arguments = dag.get_task(task_id).start_trigger_args.trigger_kwargs
        assert (arguments["early"], arguments["lenient"]) == (True, True)
    assert {*changed, "eph_run"} - {"orders.test"} < dag.get_task("dbt_assets").upstream_task_ids, (
        "each of them may be the last to end, but for what eph_run waits for"
    )


def test_below_a_task_of_the_user_s_it_waits_for_that(make_dag: MakeDag, early: dict[str, Any]) -> None:
    from airflow.providers.standard.operators.python import PythonOperator

    from ledger_watcher_airflow import DbtResourceType, RenderConfig

    def by_hand(task_id: str) -> PythonOperator:
        return PythonOperator(task_id=task_id, python_callable=print)

    dag = make_dag(**early, render_config=RenderConfig(node_converters={DbtResourceType.SNAPSHOT: by_hand, DbtResourceType.SEED: by_hand}))
    found = rules(dag)
    assert (found["orders.run"], found["sales_run"]) == ("all_success", "always")


@pytest.mark.parametrize(
    ("operator_args", "says"),
    [({"trigger_rule": "all_done"}, "leave one of the two out"), ({"deferrable": False}, "leave one of the two out")],
)
def test_what_does_not_go_together(make_dag: MakeDag, early: dict[str, Any], operator_args: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_dag(**early, operator_args=operator_args)


def test_more_than_a_triggerer_takes_is_warned_of(make_dag: MakeDag, early: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__CAPACITY", "5")
    with pytest.warns(UserWarning, match=r"6 tasks wait at once, and a triggerer takes 5.*granularity") as warned:
        make_dag(**early)
    assert [one.filename for one in warned] == [conftest.__file__]


def test_not_where_airflow_has_no_such_tasks(
    configs: dict[str, Any], early: dict[str, Any], make_dag: MakeDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="start_with_run"):
        ExecutionConfig(execution_mode=ExecutionMode.LOCAL, start_with_run=True)

    @task_group
    def each(word: Any) -> None:  # noqa: ANN401 - what makes it a mapped one
        DbtTaskGroup("dbt", **{**configs, **early})

    with DAG("mapped", schedule=None), pytest.raises(ConfigError, match="not for mapped task groups"):
        each.expand(word=[1, 2])
    monkeypatch.setattr("ledger_watcher_airflow.consumer.TRIES_COUNT_IN_TRIGGER", False)
    with pytest.raises(ConfigError, match=r"from 3\.3\.1 on"):
        make_dag(**early)


# In the trigger ------------------------------------------------------------------------------------------------------

ORDERS, SALES = "model.shop.orders", "model.shop.sales"


class Scene:
    """A run in a ledger, what Airflow says of its tasks, and the triggers of the stored DAG."""

    def __init__(self, dag: DbtDag, root: Path) -> None:
        self.written = dag
        self.dag = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        self.store = CountingStore(root)
        self.producer = "running"
        self.states: dict[str, str | None] = {}
        self.looks = 0

    async def run_states(self, _: TailKey) -> Mapping[str, str | None]:
        self.looks += 1
        return dict(self.states)

    async def producer_state(self, _: TailKey) -> str:
        return self.producer

    async def wait(self, task_id: str) -> TriggerEvent:
        task = self.dag.get_task(task_id)
        trigger = NodeTrigger(**{**self.written.get_task(task_id).start_trigger_args.trigger_kwargs, "poll": 0.002})
        trigger.task_instance = SimpleNamespace(  # type: ignore[assignment]
            dag_id=RUN.dag_id, run_id=RUN.run_id, task_id=task_id, map_index=-1, try_number=1, id=task_id_born(BORN), task=task
        )
        (event,) = [event async for event in trigger.run()]
        return event


@pytest.fixture
def scene(make_dag: MakeDag, early: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    found = Scene(make_dag(**early), tmp_path / "ledger")
    monkeypatch.setattr(trigger_module, "producer_state", found.producer_state)
    monkeypatch.setattr(trigger_module, "run_states", found.run_states)
    monkeypatch.setattr(tail_module, "PRODUCER_INTERVAL", 0.01)
    attempt = Attempt(found.store, began(0))
    attempt.write(done(ORDERS, Outcome.FAILED, message="no such table"), done(SALES, Outcome.SKIPPED, skip_cause=(ORDERS,)))
    attempt.end()
    return found


@pytest.mark.parametrize(("then", "event"), [("failed", TaskFailedEvent), ("success", TriggerEvent)])
def test_below_a_failure_it_waits_until_that_is_final(scene: Scene, then: str, event: type[TriggerEvent]) -> None:
    """Nobody asks of all tasks while dbt runs; while the one above has a try left, it waits; then it fails, or dbt runs for it."""

    async def play() -> TriggerEvent:
        waiting = asyncio.create_task(scene.wait("sales_run"))
        await asyncio.sleep(0.05)
        assert (scene.looks, waiting.done()) == (0, False)
        scene.states = {"orders.run": "up_for_retry", "orders.test": "deferred", "eph_run": None, "raw_seed": "success"}
        scene.producer = "success"
        while scene.looks < 3 and not waiting.done():  # noqa: ASYNC110 - what is waited for is the code under test, which sets no event
            await asyncio.sleep(0.001)
        assert not waiting.done()
        scene.states |= {"orders.run": then} if then == "failed" else dict.fromkeys(scene.states, then)
        return await asyncio.wait_for(waiting, 20)

    found = asyncio.run(play())
    assert type(found) is event
    if event is TriggerEvent:
        assert RECOVER in found.payload


def test_two_layers_below_it_is_known_at_once(scene: Scene) -> None:
    """The task between has still to say that it failed, or waits for a try of its own."""
    scene.producer, scene.states = "success", {"orders.run": "failed", "orders.test": None, "eph_run": None, "sales_run": "up_for_retry"}
    assert type(asyncio.run(asyncio.wait_for(scene.wait("add_up_test"), 20))) is TaskFailedEvent


def test_who_skips_the_group_skips_it(scene: Scene) -> None:
    """A branch skips what is at the beginning of the group, the producer among it; the others have started all the same."""
    scene.producer = "skipped"
    assert type(asyncio.run(asyncio.wait_for(scene.wait("history_snapshot"), 20))) is TaskSkippedEvent
