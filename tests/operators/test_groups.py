"""One task for a group of nodes: how it is drawn and stored, how it ends, and what a retry of it builds."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization

from ledger_watcher.errors import ConfigError
from ledger_watcher.packing import pack, unpack
from ledger_watcher.records import ONLY, Outcome, Record
from ledger_watcher.state import RunState
from ledger_watcher_airflow import (
    AssetMode,
    DbtBuildWatcherOperator,
    DbtDag,
    DbtResourceType,
    ExecutionConfig,
    ExecutionMode,
    ProjectConfig,
    RenderConfig,
    SourceRenderingBehavior,
)
from ledger_watcher_airflow.decision import Kind, Verdict, Watcher, decide
from ledger_watcher_airflow.producer import DbtProducerWatcherOperator
from ledger_watcher_airflow.recovery import Recovery
from ledger_watcher_airflow.trigger import NodeTrigger, replayed, write
from ledger_watcher_airflow.ui.dags import ledgers_of
from ledger_watcher_airflow.words import MANY
from tests.operators.runs import BORN, Attempt, at, began, done, over, planned, said, state_of
from tests.operators.test_dag import PRODUCER, edges, started_with, stored
from tests.operators.test_recovery import Scene
from tests.projects import node, write_project

MakeDag = Callable[..., DbtDag]
A, B, C, T = "model.shop.a", "model.shop.b", "model.shop.c", "test.shop.unique_a.1"
GROUP = (A, B, C, T)


def big(count: int, folder: Path, *, folders: int = 60) -> ProjectConfig:
    """Models in layers, each with two tests, in so many folders."""
    nodes = []
    for i in range(count):
        parents = [f"model.shop.m{j}" for j in {i // 2, i // 3} if 0 < j < i]
        nodes.append(node(f"model.shop.m{i}", *parents, original_file_path=f"models/f{i * folders // count}/m{i}.sql"))
        nodes += [node(f"test.shop.not_null_m{i}_id.{i * 2 + k:010x}", f"model.shop.m{i}") for k in range(2)]
    return ProjectConfig(write_project(folder, *nodes))


# Drawn and stored ------------------------------------------------------------------------------------------------------


def test_a_folder_is_one_task(make_dag: MakeDag, tmp_path: Path) -> None:
    project = ProjectConfig(
        write_project(
            tmp_path / "two",
            node("model.shop.a", original_file_path="models/low/a.sql"),
            node("test.shop.t.1", "model.shop.a"),
            node("model.shop.b", "model.shop.a", original_file_path="models/low/b.sql"),
            node("model.shop.eph", "model.shop.b", original_file_path="models/mid/eph.sql", materialized="ephemeral"),
            node("model.shop.c", "model.shop.eph", original_file_path="models/high/c.sql"),
        )
    )
    dag = make_dag(project_config=project, render_config=RenderConfig(granularity="folder"))
    assert edges(dag) == {
        ("models_low_build", "models_mid_build"),
        ("models_mid_build", "models_high_build"),
        (PRODUCER, "dbt_assets"),
        ("models_high_build", "dbt_assets"),
    }
    low = dag.get_task("models_low_build")
    assert isinstance(low, DbtBuildWatcherOperator)
    assert low.nodes == ("model.shop.a", "model.shop.b", "test.shop.t.1")
    assert set(dag.get_task(PRODUCER).nodes) == {*low.nodes, "model.shop.c"}
    assert dag.tasks_map["model.shop.a"] is dag.tasks_map["model.shop.b"] is low
    assert dag.tasks_map["model.shop.eph"].task_id == "models_mid_build"


def test_a_function_of_the_user_names_the_groups(make_dag: MakeDag) -> None:
    dag = make_dag(render_config=RenderConfig(granularity=lambda one: None if one.resource_type is DbtResourceType.SEED else "rest"))
    assert {"raw_seed", "rest_build", PRODUCER, "dbt_assets"} == set(dag.task_ids)
    with pytest.raises(ConfigError, match=r"7 of seed\.shop\.raw"):
        make_dag(render_config=RenderConfig(granularity=lambda _: 7))


def test_sources_stay_tasks_of_their_own(make_dag: MakeDag, tmp_path: Path) -> None:
    project = ProjectConfig(
        write_project(
            tmp_path / "sourced",
            node("source.shop.ext.clicks", name="clicks"),
            node("model.shop.a", "source.shop.ext.clicks", original_file_path="models/a.sql"),
        )
    )
    config = RenderConfig(granularity="folder", source_rendering_behavior=SourceRenderingBehavior.ALL)
    dag = make_dag(project_config=project, render_config=config)
    assert ("ext_clicks_source", "models_build") in edges(dag)


def test_3000_models_are_60_tasks_and_little_is_stored(make_dag: MakeDag, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = big(3000, tmp_path / "big")
    config = RenderConfig(granularity="folder", emit_datasets=False)
    make_dag(project_config=project, render_config=config)  # fills the cache
    started = time.process_time()
    dag = make_dag(project_config=project, render_config=config)
    cpu = time.process_time() - started
    written = stored(dag)
    size = len(json.dumps(written, separators=(",", ":")))
    with capsys.disabled():
        print(f"\n3,000 models as {len(dag.tasks)} tasks: {cpu:.2f} s CPU to draw, {size} bytes stored for 9,000 nodes and tests")  # noqa: T201
    assert 60 <= len(dag.tasks) - 1 <= 120
    assert size < 9000 * 25
    assert SerializedDagModel.hash(DagSerialization.to_dict(dag)) == SerializedDagModel.hash(
        DagSerialization.to_dict(make_dag(project_config=project, render_config=config))
    )


def test_the_trigger_gets_many_nodes_as_one_word(make_dag: MakeDag, tmp_path: Path) -> None:
    dag = make_dag(project_config=big(20, tmp_path / "twenty", folders=1), render_config=RenderConfig(granularity="folder"))
    task = dag.get_task("models_f0_build")
    assert len(task.nodes) == 60 > MANY
    kept = started_with(DagSerialization.from_dict(stored(dag)), task.task_id)
    assert unpack(kept["nodes"]) == set(task.nodes)
    trigger = NodeTrigger(**kept)
    assert NodeTrigger(**trigger.serialize()[1]).nodes == pack(task.nodes)
    (shown,) = ledgers_of(DagSerialization.from_dict(stored(dag)))
    assert set(shown.tasks[task.task_id]) == set(task.nodes)


def test_each_group_may_run_dbt_itself(make_dag: MakeDag) -> None:
    dag = make_dag(
        execution_config=ExecutionConfig(execution_mode=ExecutionMode.LOCAL), render_config=RenderConfig(granularity=lambda _: "all")
    )
    (task,) = dag.tasks
    assert (type(task).__name__, task.task_id) == ("DbtBuildLocalOperator", "all_build")
    assert "model.shop.orders" in task.nodes
    assert "test.shop.add_up" in task.nodes


@pytest.mark.parametrize(
    "conflict",
    [
        {"group_nodes_by_folder": True},
        {"should_detach_multiple_parents_tests": False},
        {"asset_mode": AssetMode.PER_NODE},
        {"node_converters": {DbtResourceType.MODEL: print}},
    ],
)
def test_what_is_about_single_nodes_is_refused(conflict: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(conflict))):
        RenderConfig(granularity="folder", **conflict)


def test_an_unknown_granularity_is_refused() -> None:
    with pytest.raises(ConfigError, match="'folder'"):
        RenderConfig(granularity="models")


# How it ends -----------------------------------------------------------------------------------------------------------


def verdict(state: RunState, producer: str | None = "running", tried: int = 1) -> Verdict:
    return decide(Watcher(nodes=GROUP, born=BORN, try_number=tried), state, producer)


def run_of(**outcomes: Outcome) -> RunState:
    ids = dict(zip("abct", GROUP, strict=True))
    return state_of([began(1), *(done(ids[name], outcome, message=f"message of {name}") for name, outcome in outcomes.items())])


def test_it_succeeds_when_all_nodes_have() -> None:
    ok = dict.fromkeys("abct", Outcome.SUCCESS)
    assert verdict(run_of(**ok)).kind is Kind.SUCCEED
    assert verdict(run_of(**{**ok, "c": Outcome.WARN})).kind is Kind.SUCCEED
    for missing in "abct":
        assert verdict(run_of(**{name: value for name, value in ok.items() if name != missing})).kind is Kind.WAIT


def test_its_failure_names_the_nodes_and_shows_their_messages() -> None:
    found = verdict(run_of(a=Outcome.SUCCESS, b=Outcome.FAILED, c=Outcome.SUCCESS, t=Outcome.FAILED))
    assert found.kind is Kind.FAIL
    for part in (B, T, "message of b", "message of t"):
        assert part in found.reason
    assert A not in found.reason


def test_it_does_not_wait_for_what_is_below_a_failure_of_its_own() -> None:
    """Nor for what is below that."""
    below = [done(T, Outcome.SKIPPED, skip_cause=(A,)), done(B, Outcome.SKIPPED, skip_cause=(T,)), done(C)]
    found = verdict(state_of([began(1), done(A, Outcome.FAILED, message="no"), *below]))
    assert (found.kind, found.reason) == (Kind.FAIL, f"{A}: error: no")


def test_it_is_skipped_when_all_nodes_are() -> None:
    chosen = [done(name, Outcome.SKIPPED, by_choice="stale") for name in GROUP]
    assert verdict(state_of([began(1), *chosen])).kind is Kind.SKIP
    assert verdict(state_of([began(1), done(A), *chosen[1:]])).kind is Kind.SUCCEED


def recovery(*nodes: str, clear_number: int = 0, outcome: Outcome = Outcome.SUCCESS) -> list[Record]:
    return [began(10, scope=ONLY, task_id="g", clear_number=clear_number), planned(*nodes), *(done(n, outcome, 12) for n in nodes), over()]


def before_the_retry(clear_number: int = 0) -> list[Record]:
    """The try before this one: one node failed, and a test below it did not run."""
    ends = [done(A, seconds=-50), done(B, Outcome.FAILED, -49), done(C, seconds=-48), done(T, Outcome.SKIPPED, -47, skip_cause=(B,))]
    return [began(-60, clear_number=clear_number), *ends, over()]


def test_a_retry_counts_what_was_built_before_when_the_rest_is_built() -> None:
    assert verdict(state_of(before_the_retry()), "success", tried=2).kind is Kind.RECOVER
    assert verdict(state_of(before_the_retry(), recovery(B, T)), "success", tried=2).kind is Kind.SUCCEED
    again = verdict(state_of(before_the_retry(), recovery(B, T, outcome=Outcome.FAILED)), "success", tried=2)
    assert again.kind is Kind.FAIL
    assert A not in again.reason


def test_what_was_built_before_a_clear_does_not_count_after_it() -> None:
    state = state_of(before_the_retry(), recovery(B, T, clear_number=1))
    assert verdict(state, "success", tried=2).kind is Kind.RECOVER


def test_a_recovery_of_others_says_nothing_of_this_task() -> None:
    assert verdict(state_of(before_the_retry(), recovery("model.shop.z")), "success", tried=2).kind is Kind.RECOVER


# What a retry builds ---------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(make_dag: MakeDag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    config = RenderConfig(granularity=lambda one: "low" if one.name in ("raw", "orders") else "high")
    found = Scene(make_dag(execution_config=ExecutionConfig(ledger_uri=str(tmp_path)), render_config=config), tmp_path)
    monkeypatch.setattr(DbtProducerWatcherOperator, "recover", lambda _, *args, **kwargs: found.recover(*args, **kwargs))
    return found


def failed_low(scene: Scene) -> None:
    attempt = Attempt(scene.store, began(0, clear_number=0))
    tests = ("test.shop.unique_orders.aaaaaaaaaa", "test.shop.not_null_orders.bbbbbbbbbb")
    skipped = [done(name, Outcome.SKIPPED, skip_cause=("model.shop.orders",)) for name in tests]
    attempt.write(done("seed.shop.raw"), done("model.shop.orders", Outcome.FAILED, message="no such table"), *skipped)
    attempt.end()


def test_a_retry_builds_what_is_left_of_the_group_and_all_that_waits(scene: Scene) -> None:
    failed_low(scene)
    scene.states |= {"low_build": "running", "high_build": None}
    scene.resume("low_build")
    ((only, _),) = scene.asked
    assert "seed.shop.raw" not in only
    assert {"model.shop.orders", "test.shop.unique_orders.aaaaaaaaaa", "model.shop.sales", "snapshot.shop.history"} <= only


def test_a_group_that_is_cleared_is_built_again(scene: Scene) -> None:
    failed_low(scene)
    scene.clear_number = 1
    scene.states |= {"low_build": "running", "high_build": "upstream_failed"}
    scene.resume("low_build")
    ((only, _),) = scene.asked
    assert {"seed.shop.raw", "model.shop.orders"} <= only
    assert "model.shop.sales" not in only


def test_a_group_with_nothing_left_is_built_again(scene: Scene) -> None:
    """Its task failed for another reason, a timeout say."""
    recovering = Recovery(
        ledger=scene.dag.get_task("low_build").ledger,
        run=None,  # type: ignore[arg-type]
        watcher=Watcher(nodes=(A, B), born=BORN, try_number=2),
        producer=None,
        tasks={"low_build": (A, B)},
        above=lambda _: (),
    )
    state = state_of([began(0, clear_number=0), done(A), done(B), over()])
    assert recovering._waiting(state, {"low_build": "running"}, 0) == {A, B}


# Its log ---------------------------------------------------------------------------------------------------------------


def test_of_many_nodes_only_those_in_trouble_show_dbt_s_lines(caplog: pytest.LogCaptureFixture) -> None:
    nodes = [f"model.shop.m{i}" for i in range(MANY + 1)]
    bad = done(nodes[3], Outcome.FAILED, message="no such table")
    state = state_of(
        [began(1), *(said(name, f"line of {name}") for name in nodes), *(done(name) for name in nodes if name != nodes[3]), bad]
    )
    watcher = Watcher(nodes=tuple(nodes), born=BORN, try_number=1)
    with caplog.at_level(logging.INFO):
        write(logging.getLogger("task"), replayed(state, watcher))
    lines = [message for message in caplog.messages if message.startswith("line of")]
    assert lines == [f"line of {nodes[3]}"]
    assert sum(message.startswith("model.shop.m") for message in caplog.messages) == len(nodes)
    assert state.attempts[1].started is not None
    assert state.attempts[1].started.ts == at(1)
