"""What an attempt of a command builds, and recovery through it: a real BashOperator, the real ledger-watcher, a dbt that is a script."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout, TaskDeferred

from ledger_watcher.errors import ConfigError, Fenced, Overtaken
from ledger_watcher.ledger import RunFollower, RunKey
from ledger_watcher.packing import pack, unpack
from ledger_watcher.records import ONLY
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore
from ledger_watcher_airflow import DbtConsumerWatcherSensor, DbtDag, ExecutionConfig, Producer, bash_producer
from ledger_watcher_airflow.producers.attempt import CommandAttempt
from ledger_watcher_airflow.recovery import Recovers
from ledger_watcher_airflow.words import RECOVER
from tests.core.fakes import FakeDbt
from tests.operators.commands import options, rendered
from tests.operators.runs import Attempt, began, task_id_born

PRODUCER, RAW, ORDERS, SALES = "dbt_producer_watcher", "seed.shop.raw", "model.shop.orders", "model.shop.sales"
WATCHER = [str(Path(sys.executable).with_name("ledger-watcher"))]
RUN = RunKey(dag_id="shop", run_id="manual__1")
NODES = [
    RAW,
    ORDERS,
    "test.shop.unique_orders.aaaaaaaaaa",
    "test.shop.not_null_orders.bbbbbbbbbb",
    "snapshot.shop.history",
    "unit_test.shop.sales.rounds",
    SALES,
    "test.shop.add_up",
]
BUILD = f"""
for node in selected({NODES!r}):
    broken = node != {RAW!r} and not os.path.exists("fixed")
    build(node, ("error" if node == {ORDERS!r} else "skipped") if broken else "success")
sys.exit(0 if os.path.exists("fixed") else 1)
"""


class Scene:
    """A DAG whose producer is a command, one run of it, and its ledger."""

    def __init__(self, dag: DbtDag, root: Path, project: Path) -> None:
        self.dag = dag
        self.store = LocalStore(str(root))
        self.project = project
        self.states: dict[str, str | None] = {}
        self.began = datetime.now(timezone.utc) - timedelta(minutes=2)

    def context(self, task_id: str = PRODUCER, *, tried: int = 1) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        ti = SimpleNamespace(
            dag_id=RUN.dag_id,
            run_id=RUN.run_id,
            task_id=task_id,
            map_index=-1,
            try_number=tried,
            max_tries=0,
            start_date=now - timedelta(minutes=1),  # Airflow counts from when the task began to wait
            id=task_id_born(now),
            get_task_states=lambda **_: {RUN.run_id: self.states},
        )
        dag_run = SimpleNamespace(clear_number=0, start_date=self.began, run_id=RUN.run_id, logical_date=None)
        return {"ti": ti, "task_instance": ti, "dag_run": dag_run, "run_id": RUN.run_id, "params": {}}

    def produce(self, **more: Any) -> None:
        operator = self.dag.get_task(PRODUCER).prepare_for_execution()
        context = self.context(**more)
        rendered(operator, context).execute(context)

    def recover(self, *only: str, after: int = 1, task_id: str = "orders.run") -> None:
        producer = self.dag.get_task(PRODUCER)
        assert isinstance(producer, Recovers)
        producer.recover(self.context(task_id, tried=2), only=frozenset(only), after=after)  # type: ignore[arg-type]

    def resume(self, task_id: str, *, tried: int = 2) -> None:
        task = self.dag.get_task(task_id)
        assert isinstance(task, DbtConsumerWatcherSensor)
        task.resume(self.context(task_id, tried=tried), {RECOVER: "because"})  # type: ignore[arg-type]

    def ledger(self) -> RunState:
        return RunFollower(self.store, RUN).snapshot()


@pytest.fixture
def make_scene(
    make_dag: Callable[..., DbtDag], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Producer], Scene]:
    (tmp_path / "fake").mkdir()
    fake = FakeDbt.make(tmp_path / "fake")
    monkeypatch.setenv("FAKE_DBT", BUILD)

    def make(producer: Producer) -> Scene:
        root = tmp_path / "ledger"
        execution = ExecutionConfig(ledger_uri=str(root), producer=producer, dbt_executable_path=fake.path)
        return Scene(make_dag(execution_config=execution), root, project)

    return make


@pytest.fixture
def scene(make_scene: Callable[[Producer], Scene]) -> Scene:
    return make_scene(bash_producer(watcher=WATCHER))


# The producer's own attempts -----------------------------------------------------------------------------------------


def test_what_airflow_shows_as_done_is_in_the_command_of_a_later_try(scene: Scene) -> None:
    """Neither a node whose task has not succeeded, nor a test whose task has not begun."""
    scene.states = {"raw_seed": "success", "orders.run": "failed", "sales_run": "success", "orders.test": None}
    operator = scene.dag.get_task(PRODUCER)

    def done(tried: int) -> str:
        text: str = rendered(operator.prepare_for_execution(), scene.context(tried=tried)).bash_command
        (word,) = [part for part in text.split("'") if part.startswith("--done=")]
        return word.removeprefix("--done=")

    assert done(1) == ""
    assert {RAW, SALES} <= unpack(done(2))
    assert not {name for name in unpack(done(2)) if name == ORDERS or name.startswith("test.")}


def test_a_long_list_is_left_out_with_a_warning(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.states = {"raw_seed": "success"}
    operator, context = scene.dag.get_task(PRODUCER), scene.context(tried=2)
    assert unpack(CommandAttempt().done(context["ti"], operator, 100)) == {RAW}
    assert CommandAttempt().done(context["ti"], operator, 10) == ""
    assert "more than the 10 that fit" in caplog.text


def test_five_thousand_nodes_fit_into_a_command() -> None:
    names = frozenset(f"model.shop.some_schema__and_a_name_of_its_own_{number}_{number * number}" for number in range(5000))
    packed = CommandAttempt(only=names).packed_only(100_000)
    assert unpack(packed) == names


def test_a_set_too_long_for_a_recovery_is_refused() -> None:
    with pytest.raises(ConfigError, match="clear the producer together with this task"):
        CommandAttempt(only=frozenset({RAW, ORDERS})).packed_only(10)


def test_a_clear_builds_what_airflow_does_not_show_as_done(scene: Scene) -> None:
    """Across the clear only Airflow's word counts, which the command carries: the seed is not built again."""
    scene.produce()
    (scene.project / "fixed").touch()
    scene.states = {"raw_seed": "success"}
    context = scene.context(tried=2)
    context["dag_run"].clear_number = 1
    operator = scene.dag.get_task(PRODUCER).prepare_for_execution()
    rendered(operator, context).execute(context)
    state = scene.ledger()
    second = state.attempts[2]
    assert second.started is not None
    assert second.started.clear_number == 1
    assert state.nodes[RAW].finished is not None
    assert state.nodes[RAW].finished.source == "carried_over"
    assert state.nodes[ORDERS].status == "success"


# Recovery ------------------------------------------------------------------------------------------------------------


def test_a_fixed_node_is_recovered_through_bash_in_its_own_task(scene: Scene) -> None:
    scene.produce()
    (scene.project / "fixed").touch()
    scene.states = {PRODUCER: "success", "raw_seed": "success", "orders.run": "running", "sales_run": None}
    scene.resume("orders.run")
    state = scene.ledger()
    assert {name: state.nodes[name].epoch for name in (RAW, ORDERS, SALES)} == {RAW: 1, ORDERS: 2, SALES: 2}
    assert {node.status for node in state.nodes.values() if node.epoch == 2} == {"success"}
    started = state.attempts[2].started
    assert started is not None
    assert (started.scope, started.task_id, started.try_number) == (ONLY, "orders.run", 2)
    assert started.producer_started_at > state.attempts[1].started.producer_started_at  # type: ignore[union-attr]


def test_a_node_that_fails_again_is_failed_by_its_record(scene: Scene) -> None:
    scene.produce()
    scene.states = {PRODUCER: "success", "raw_seed": "success", "orders.run": "running"}
    with pytest.raises(AirflowException, match=f"{ORDERS}: error: said error"):
        scene.resume("orders.run")
    assert scene.ledger().nodes[ORDERS].epoch == 2


def test_who_looked_at_an_older_attempt_was_overtaken(scene: Scene) -> None:
    """The command ends with 3 and claims nothing; the ledger says why."""
    scene.produce()
    scene.recover(ORDERS)
    with pytest.raises(Overtaken):
        scene.recover(SALES, after=1, task_id="sales_run")
    assert sorted(scene.ledger().attempts) == [1, 2]


def test_another_attempt_of_the_same_number_is_not_ours(make_scene: Callable[[Producer], Scene]) -> None:
    """Someone else's recovery, of another task."""
    scene = make_scene(doing(lambda: Attempt(scene.store, began(30, scope=ONLY, task_id="sales_run", try_number=2))))
    Attempt(scene.store, began(0)).end()
    with pytest.raises(Overtaken):
        scene.recover(ORDERS)


def test_a_recovery_that_was_taken_over_is_fenced(make_scene: Callable[[Producer], Scene]) -> None:
    def both() -> None:
        Attempt(scene.store, began(30, scope=ONLY, task_id="orders.run", try_number=2))
        Attempt(scene.store, began(40))

    scene = make_scene(doing(both))
    Attempt(scene.store, began(0)).end()
    with pytest.raises(Fenced):
        scene.recover(ORDERS)


def test_a_command_that_does_not_reach_the_ledger_fails_with_the_operators_error(make_scene: Callable[[Producer], Scene]) -> None:
    scene = make_scene(bash_producer(watcher=["/no/such/ledger-watcher"]))
    Attempt(scene.store, began(0)).end()
    with pytest.raises(AirflowException, match=r"did not begin an attempt.*non-zero exit code 127"):
        scene.recover(ORDERS)
    scene = make_scene(bash_producer(watcher=["true"]))
    with pytest.raises(AirflowException, match="as if all were well"):
        scene.recover(ORDERS)


def test_an_operator_that_may_defer_is_told_to_wait(make_scene: Callable[[Producer], Scene]) -> None:
    """Its task would else be that of the node, whose way back from the trigger is another one."""
    seen: list[object] = []

    scene = make_scene(doing(lambda: seen.append("ran")))
    vars(scene.dag.get_task(PRODUCER))["deferrable"] = True
    with pytest.raises(AirflowException, match="did not begin an attempt"):
        scene.recover(ORDERS)
    assert seen == ["ran"]
    assert scene.dag.get_task(PRODUCER).deferrable is True


def test_one_that_defers_all_the_same_is_killed_and_named(make_scene: Callable[[Producer], Scene]) -> None:
    def defers() -> None:
        raise TaskDeferred(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume")

    killed: list[object] = []
    scene = make_scene(doing(defers, killed))
    with pytest.raises(AirflowException, match="clear the producer together with this task"):
        scene.recover(ORDERS)
    assert len(killed) == 1


def test_killing_the_recovery_kills_what_runs_for_it(make_scene: Callable[[Producer], Scene]) -> None:
    """By the task's end, as Airflow does it, and by its timeout."""
    killed: list[object] = []

    def is_killed() -> None:
        scene.dag.get_task(PRODUCER).on_kill()
        raise AirflowTaskTimeout

    scene = make_scene(doing(is_killed, killed))
    with pytest.raises(AirflowTaskTimeout):
        scene.recover(ORDERS)
    assert len(killed) == 2
    assert killed[0] is killed[1] is not scene.dag.get_task(PRODUCER)


def test_the_producers_hook_is_called_with_the_copy(make_scene: Callable[[Producer], Scene]) -> None:
    """It sees the rendered command of this recovery."""
    seen: list[str] = []
    hook = {"pre_execute": lambda context: seen.append(context["task"].bash_command)}
    scene = make_scene(bash_producer(watcher=["true"], **hook))
    with pytest.raises(AirflowException, match="did not begin an attempt"):
        scene.recover(ORDERS, SALES, after=4)
    (text,) = seen
    found = options([word.strip("'") for word in text.split(" ")])
    assert (found["--only"], found["--after"], found["--task-id"]) == (pack([ORDERS, SALES]), "4", "orders.run")
    assert (found["--producer-started-at"], found["--done"]) == ("", "")


def test_a_stored_dag_knows_nothing_of_it(scene: Scene) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    assert "recover" not in str(DagSerialization.to_dict(scene.dag)["dag"]["tasks"][0]["__var"].keys())
    assert copy.deepcopy(scene.dag.get_task(PRODUCER)).recover.__self__.operator is not scene.dag.get_task(PRODUCER)


def doing(what: Callable[[], object], killed: list[object] | None = None) -> Producer:
    """A producer whose command is a function."""
    return lambda made: _Doing(task_id=made.task_id, what=what, killed=killed, **made.task_args)


class _Doing(BaseOperator):
    """An operator whose command is a function."""

    deferrable = False

    def __init__(self, *, what: Callable[[], object], killed: list[object] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.what = what
        self.killed = killed if killed is not None else []

    def execute(self, context: Any) -> None:  # noqa: ANN401 - Airflow's context
        assert not self.deferrable
        assert context["task"] is self
        self.what()

    def on_kill(self) -> None:
        self.killed.append(self)
