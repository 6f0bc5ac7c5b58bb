"""Asset events: URIs, which builds are told and told once, the tasks that tell them and where these stand in the DAG."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import TriggerEvent

from ledger_watcher.errors import ConfigError
from ledger_watcher.records import DbtStarted, Outcome
from ledger_watcher.storage import LocalStore
from ledger_watcher_airflow import (
    AssetMode,
    DbtAssetsOperator,
    DbtConsumerWatcherSensor,
    DbtDag,
    DbtTaskGroup,
    ExecutionConfig,
    ProjectConfig,
    RenderConfig,
    dbt_asset,
)
from ledger_watcher_airflow import assets as assets_module
from ledger_watcher_airflow import trigger as trigger_module
from ledger_watcher_airflow.assets import asset_uri, tell_outlet
from ledger_watcher_airflow.built import built_of
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.trigger import NodeTrigger
from tests.operators.runs import RUN, Attempt, at, began, done, state_of, task_id_born
from tests.projects import fhir_nodes, node, write_project

MakeDag = Callable[..., DbtDag]
PRODUCER = "dbt_producer_watcher"
ORDERS, SALES, RAW = "model.shop.orders", "model.shop.sales", "seed.shop.raw"
FOLDER = "s3://bucket/ledgers/run"


def says(invocation_id: str) -> DbtStarted:
    return DbtStarted(ts=at(1), invocation_id=invocation_id)


def relation(unique_id: str) -> str:
    return f'"shop"."main"."{unique_id.split(".")[2]}"'


def made(unique_id: str, seconds: float = 5.0, outcome: Outcome = Outcome.SUCCESS, **more: Any) -> Any:  # noqa: ANN401 - a record
    return done(unique_id, outcome, seconds, **{"relation": relation(unique_id), **more})


# URIs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "uri"),
    [
        ('"shop"."main"."orders"', "x-dbt://shop/main/orders"),
        ("shop.main.orders", "x-dbt://shop/main/orders"),
        ("`my-project`.`sales`.`orders`", "x-dbt://my-project/sales/orders"),
        ("[dbo].[Orders]", "x-dbt://dbo/Orders"),
        ("ANALYTICS.marts.ORDERS", "x-dbt://ANALYTICS/marts/ORDERS"),
        ('"a.b"."c""d"', "x-dbt://a.b/c%22d"),
        ('"käse"."a b"."x/y?z#@:"', "x-dbt://k%C3%A4se/a%20b/x%2Fy%3Fz%23%40%3A"),
        ("orders", "x-dbt://orders"),
    ],
)
def test_a_relation_has_one_uri_which_airflow_takes_as_it_is(written: str, uri: str) -> None:
    assert asset_uri(written) == uri
    asset = dbt_asset(written)
    assert (asset.name, asset.uri) == (uri, uri)
    assert asset == Asset(uri)


@pytest.mark.parametrize("wrong", ["", ".", "shop.", ".orders", "shop..orders", '"shop', '"shop"orders', "a'b"])
def test_what_is_no_relation_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.schema\.name"):
        dbt_asset(wrong)


# What was built ------------------------------------------------------------------------------------------------------


def test_what_was_built_is_told_with_its_figures() -> None:
    state = state_of([began(0), says("one"), made(ORDERS, rows_affected=3, execution_time=0.5), made(RAW)])
    orders, raw = built_of(state, [ORDERS, RAW, SALES], FOLDER)
    assert orders.extra == {
        "unique_id": ORDERS,
        "finished_at": at(5).isoformat(),
        "rows": 3,
        "seconds": 0.5,
        "invocation_id": "one",
        "ledger": FOLDER,
    }
    assert raw.extra == {"unique_id": RAW, "finished_at": at(5).isoformat(), "invocation_id": "one", "ledger": FOLDER}
    assert json.loads(json.dumps(orders.told)) == orders.told


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_what_is_new_in_the_warehouse_counts(outcome: Outcome) -> None:
    state = state_of([began(0), made(ORDERS, outcome=outcome)])
    assert [one.unique_id for one in built_of(state, [ORDERS], FOLDER)] == ([ORDERS] if outcome.value in ("success", "warn") else [])


def test_tests_and_what_becomes_no_relation_are_left_out() -> None:
    state = state_of([began(0), made("test.shop.unique.a"), done(ORDERS)])
    assert built_of(state, ["test.shop.unique.a", ORDERS], FOLDER) == []


def test_a_success_that_is_carried_over_is_the_same_build_of_the_same_invocation() -> None:
    before = [began(0), says("one"), made(ORDERS)]
    after = [began(60), says("two"), made(ORDERS, source="carried_over"), made(SALES, 65)]
    (first,) = built_of(state_of(before), [ORDERS], FOLDER)
    carried, new = built_of(state_of(before, after), [ORDERS, SALES], FOLDER)
    assert (carried.key, carried.extra) == (first.key, first.extra)
    assert new.extra["invocation_id"] == "two"


# The task of the run -------------------------------------------------------------------------------------------------


class Record:
    """Airflow's record of a run's events, as its API answers: those after a time, oldest first, so many at most."""

    def __init__(self, events: Iterable[Any] = ()) -> None:
        self.events = list(events)
        self.asked: list[datetime] = []

    def after(self, since: str) -> Record:
        self.asked.append(datetime.fromisoformat(since))
        return self

    def limit(self, number: int) -> list[Any]:
        return sorted((one for one in self.events if one.timestamp >= self.asked[-1]), key=lambda one: one.timestamp)[:number]


def event(extra: dict[str, Any], seconds: float, run_id: str = RUN.run_id, map_index: int = -1) -> Any:  # noqa: ANN401 - as Airflow's
    return SimpleNamespace(extra=extra, timestamp=at(seconds), source_run_id=run_id, source_map_index=map_index)


def told(ledger: Path, record: Record, nodes: Sequence[str] = (RAW, ORDERS, SALES)) -> list[dict[str, Any]]:
    """What ``dbt_assets`` hands over."""
    with DAG(RUN.dag_id, schedule=None):
        task = DbtAssetsOperator(nodes=nodes, ledger=LedgerRef(uri=str(ledger)))
    outlet_events = OutletEventAccessors()
    ti = SimpleNamespace(dag_id=RUN.dag_id, run_id=RUN.run_id, task_id=task.task_id, map_index=-1)
    task.execute({"ti": ti, "inlet_events": {task.alias: record}, "outlet_events": outlet_events})
    return [{"uri": one.dest_asset_key.uri, **one.extra} for one in outlet_events[task.alias].asset_alias_events]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A run that built two of three."""
    folder = tmp_path / "ledger"
    attempt = Attempt(LocalStore(str(folder)), began(0))
    attempt.write(made(RAW, 3), made(ORDERS, 5), made(SALES, 6, Outcome.FAILED))
    attempt.end()
    return folder


def test_successes_are_told_though_others_failed(ledger: Path) -> None:
    found = told(ledger, Record())
    assert [(one["uri"], one["unique_id"]) for one in found] == [("x-dbt://shop/main/raw", RAW), ("x-dbt://shop/main/orders", ORDERS)]
    assert {one["ledger"] for one in found} == {f"{ledger}/{RUN.prefix}"}


def test_a_run_without_a_ledger_built_nothing(tmp_path: Path) -> None:
    record = Record()
    assert told(tmp_path / "none", record) == []
    assert record.asked == []


def test_what_airflow_knows_is_not_told_again(ledger: Path) -> None:
    """A second try after a success, and after a clear of the failed node: only what was built since."""
    first = [event(one, 20) for one in told(ledger, Record())]
    assert told(ledger, Record(first)) == []
    again = Attempt(LocalStore(str(ledger)), began(60, scope="only"))
    again.write(made(SALES, 65))
    again.end()
    assert [one["unique_id"] for one in told(ledger, Record(first))] == [SALES]
    assert [one["unique_id"] for one in told(ledger, Record(first[:1]))] == [ORDERS, SALES]


def test_events_of_other_runs_and_other_builds_are_no_answer(ledger: Path) -> None:
    first = told(ledger, Record())
    others = [
        *(event(one, 20, run_id="manual__2") for one in first),
        *(event(one, 20, map_index=3) for one in first),
        *(event({**one, "finished_at": at(-100).isoformat()}, 20) for one in first),
        event({}, 21),
    ]
    assert told(ledger, Record(others)) == first


def test_a_long_record_is_read_page_by_page_and_no_further_than_needed(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets_module, "_PAGE", 2)
    mine = [event(one, seconds) for one, seconds in zip(told(ledger, Record()), (23, 31), strict=True)]
    noise = [event({}, seconds, run_id="manual__2") for seconds in (*([20] * 5), *range(21, 60))]
    record = Record([*noise, *mine])
    assert told(ledger, record) == []
    assert record.asked[0] == at(3) - timedelta(minutes=5)
    assert record.asked[-1] < at(40)


def test_an_odd_relation_holds_up_no_other(tmp_path: Path) -> None:
    attempt = Attempt(LocalStore(str(tmp_path)), began(0))
    attempt.write(made(RAW), made(ORDERS, relation="read_parquet('x'"))
    attempt.end()
    assert [one["unique_id"] for one in told(tmp_path, Record())] == [RAW]


# In the DAG ----------------------------------------------------------------------------------------------------------


def test_the_task_is_a_teardown_that_no_state_depends_on(make_dag: MakeDag) -> None:
    dag = make_dag(default_args={"trigger_rule": "none_failed"}, operator_args={"queue": "dbt"})
    task = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag)))).get_task("dbt_assets")
    assert (task.is_teardown, task.on_failure_fail_dagrun, str(task.trigger_rule)) == (True, False, "all_done_setup_success")
    assert (task.queue, [outlet.name for outlet in task.outlets]) == ("dbt", ["shop.dbt_assets"])


def test_a_group_is_followed_by_what_follows_its_nodes(configs: dict[str, Any]) -> None:
    with DAG("bigger", schedule=None) as dag:
        group = DbtTaskGroup("dbt", **configs)
    leaves = {task.task_id for task in group.get_leaves()}
    assert leaves == {f"dbt.{PRODUCER}", "dbt.add_up_test", "dbt.history_snapshot"}
    assert [outlet.name for outlet in dag.get_task("dbt.dbt_assets").outlets] == ["bigger.dbt.dbt_assets"]


def test_every_task_has_ended_when_it_begins(make_dag: MakeDag, tmp_path: Path) -> None:
    """A task of several parents may be ``upstream_failed`` while one of them runs, so a child covers its parent only if it has no other."""
    folder = write_project(tmp_path / "fhir", *fhir_nodes(), project="fhir")
    dag = make_dag(project_config=ProjectConfig(dbt_project_path=folder))
    waited_for = set(dag.get_task("dbt_assets").upstream_task_ids)
    direct = len(waited_for)
    while more := {parent for one in waited_for if len(up := dag.get_task(one).upstream_task_ids) == 1 for parent in up} - waited_for:
        waited_for |= more
    assert waited_for == set(dag.task_ids) - {"dbt_assets"}
    assert direct < len(waited_for)


def test_a_big_project_has_several_in_a_row(make_dag: MakeDag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets_module, "MOST_EVENTS", 2)
    dag = make_dag()
    first, second = dag.get_task("dbt_assets"), dag.get_task("dbt_assets_2")
    assert isinstance(first, DbtAssetsOperator)
    assert isinstance(second, DbtAssetsOperator)
    assert sorted(first.nodes + second.nodes) == [ORDERS, SALES, RAW, "snapshot.shop.history"]
    assert second.upstream_task_ids == {"dbt_assets"}
    assert first.alias == second.alias


def test_a_node_of_that_name_gives_way(make_dag: MakeDag, tmp_path: Path) -> None:
    folder = write_project(tmp_path / "odd", node("model.p.dbt_assets"), node("test.p.t.1", "model.p.dbt_assets"))
    assert {"dbt_assets", "p_dbt_assets.run"} < set(make_dag(project_config=ProjectConfig(dbt_project_path=folder)).task_ids)


def test_it_can_be_left_out(make_dag: MakeDag) -> None:
    dag = make_dag(render_config=RenderConfig(emit_datasets=False))
    assert "dbt_assets" not in dag.task_ids
    assert not any(task.outlets for task in dag.tasks)


# One per node --------------------------------------------------------------------------------------------------------


@pytest.fixture
def per_node(make_dag: MakeDag, tmp_path: Path) -> Callable[..., DbtDag]:
    """A DAG whose tasks tell of their own nodes."""
    folder = write_project(
        tmp_path / "own",
        node(ORDERS, relation_name=relation(ORDERS)),
        node("model.shop.eph", ORDERS, materialized="ephemeral"),
        node("test.shop.unique_orders.a", ORDERS),
    )

    def make(**more: Any) -> DbtDag:
        return make_dag(
            project_config=ProjectConfig(dbt_project_path=folder),
            render_config=RenderConfig(asset_mode=AssetMode.PER_NODE),
            execution_config=ExecutionConfig(ledger_uri=str(tmp_path / "ledger")),
            **more,
        )

    return make


def test_a_node_has_its_own_outlet_and_ends_on_a_worker(per_node: Callable[..., DbtDag]) -> None:
    dag = per_node(operator_args={"outlets": [Asset("mine")]})
    assert "dbt_assets" not in dag.task_ids
    outlets = {task.task_id: [one.uri for one in task.outlets] for task in dag.tasks}
    assert outlets["orders.run"] == ["mine", "x-dbt://shop/main/orders"]
    assert outlets["orders.test"] == outlets["eph_run"] == ["mine"]
    assert dag.get_task("orders.run").start_trigger_args.trigger_kwargs["worker"] == "build"
    assert "worker" not in per_node().get_task("orders.test").start_trigger_args.trigger_kwargs


def ended(dag: DbtDag, event: Any) -> tuple[list[str], dict[str, Any]]:  # noqa: ANN401 - what a trigger yields
    """The outlets that a node's task ends with, and what its own event has."""
    task = dag.get_task("orders.run").prepare_for_execution()
    assert isinstance(task, DbtConsumerWatcherSensor)
    events = OutletEventAccessors()
    task.resume({"outlet_events": events}, event)
    return [one.uri for one in task.outlets], dict(events[dbt_asset(relation(ORDERS))].extra)


def test_the_event_of_a_node_has_the_figures_of_its_build(per_node: Callable[..., DbtDag]) -> None:
    (built,) = built_of(state_of([began(0), made(ORDERS, rows_affected=3)]), [ORDERS], FOLDER)
    assert ended(per_node(), {"built": [built.told]}) == (["x-dbt://shop/main/orders"], dict(built.extra))


def test_a_node_that_was_not_built_has_no_event(per_node: Callable[..., DbtDag]) -> None:
    dag = per_node(operator_args={"outlets": [Asset("mine")]})
    assert ended(dag, {"built": []})[0] == ["mine"]
    assert [one.uri for one in dag.get_task("orders.run").outlets] == ["mine", "x-dbt://shop/main/orders"]  # the next one is told


def test_a_trigger_tells_the_worker_and_a_worker_tells_itself(
    per_node: Callable[..., DbtDag], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event of a node has the same figures wherever its task waited."""
    attempt = Attempt(LocalStore(str(tmp_path / "ledger")), began(0))
    attempt.write(made(ORDERS, rows_affected=3))
    ti = SimpleNamespace(
        dag_id=RUN.dag_id,
        run_id=RUN.run_id,
        task_id="orders.run",
        map_index=-1,
        try_number=1,
        id=task_id_born(at(0)),
        get_task_states=lambda **_: {RUN.run_id: {PRODUCER: "running"}},
    )

    async def running(_: object) -> str:
        return "running"

    monkeypatch.setattr(trigger_module, "producer_state", running)
    trigger = NodeTrigger(**per_node().get_task("orders.run").start_trigger_args.trigger_kwargs, poll=0.002)
    trigger.task_instance = ti

    async def event() -> TriggerEvent:
        return await anext(trigger.run())

    seen = asyncio.run(asyncio.wait_for(event(), 20))
    uris, extra = ended(per_node(), json.loads(json.dumps(seen.payload)))
    assert (uris, extra["rows"], extra["ledger"]) == (["x-dbt://shop/main/orders"], 3, f"{tmp_path / 'ledger'}/{RUN.prefix}")

    task = per_node(operator_args={"deferrable": False}).get_task("orders.run")
    events = OutletEventAccessors()
    task.execute({"ti": ti, "outlet_events": events})
    assert events[dbt_asset(relation(ORDERS))].extra == extra


def test_another_relation_than_the_drawn_one_is_no_event_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    own = dbt_asset("dev.main.orders")
    with caplog.at_level(logging.WARNING):
        left = tell_outlet([own], own, {}, [{"relation": relation(ORDERS), "extra": {}}], logging.getLogger(__name__))
    assert left == []
    assert "manifest of the DAG file" in caplog.text


@pytest.mark.parametrize("wrong", [{"emit_datasets": "yes"}, {"emit_datasets": False, "asset_mode": "per_node"}, {"asset_mode": "all"}])
def test_what_does_not_go_together_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="RenderConfig"):
        RenderConfig(**wrong)
