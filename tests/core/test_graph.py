"""Nodes to tasks, compared with a brute-force reading of dbt's rules and with dbt's own code."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import ProjectView, SourceRenderingBehavior, TaskKind, TaskSpec, TestBehavior, below_sources, build_graph
from ledger_watcher.project.manifest import parse_manifest
from tests.projects import DBT_VERSIONS, manifest, node, real_manifest, shuffled

EVERY = list(TestBehavior)
WITH_TASK = ("model", "seed", "snapshot")


def view_of(*nodes: dict[str, Any]) -> ProjectView:
    return parse_manifest(json.dumps(manifest(*nodes)).encode(), Path("/manifest.json"))


def graph_of(*nodes: dict[str, Any], behavior: TestBehavior = TestBehavior.AFTER_EACH, **more: Any) -> dict[str, TaskSpec]:
    return {spec.key: spec for spec in build_graph(view_of(*nodes), behavior, **more)}


def ids(specs: dict[str, TaskSpec]) -> dict[str, str]:
    return {key: f"{spec.group}.{spec.task_id}" if spec.group else spec.task_id for key, spec in specs.items()}


def closure(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """What each one waits for in the end."""
    done: dict[str, set[str]] = {}

    def visit(key: str) -> set[str]:
        if key not in done:
            done[key] = set()
            for parent in edges.get(key, ()):
                done[key] |= {parent} | visit(parent)
        return done[key]

    for key in edges:
        visit(key)
    return done


def waits_in_airflow(specs: list[TaskSpec]) -> dict[str, set[str]]:
    """For every node: the nodes whose tasks are done before its own task can be, unit tests of the same task included."""
    by_key = {spec.key: spec for spec in specs}
    above = closure({spec.key: set(spec.upstream) for spec in specs})
    waits: dict[str, set[str]] = {}
    for spec in specs:
        before = set().union(*({key, *by_key[key].nodes} for key in above[spec.key]), set())
        units = {uid for uid in spec.nodes if uid.startswith("unit_test.")}
        for uid in {spec.key, *spec.nodes} - units:
            waits[uid] = {one for one in before | units if not one.startswith("tests of")}
    return waits


def waits_in_dbt(nodes: list[dict[str, Any]]) -> dict[str, set[str]]:
    """dbt's rules, word for word: a node waits for its parents; for each test whose parents are all its ancestors; for its unit tests."""
    kinds = {one["unique_id"]: one["resource_type"] for one in nodes}
    parents = {one["unique_id"]: set(one["depends_on"]["nodes"]) for one in nodes}
    above = closure({uid: found for uid, found in parents.items() if kinds[uid] != "unit_test"})
    edges = {uid: set(found) for uid, found in parents.items() if kinds[uid] != "unit_test"}
    for uid, kind in kinds.items():
        if kind == "test" and parents[uid]:
            for other, other_kind in kinds.items():
                if other_kind in WITH_TASK and parents[uid] <= above[other]:
                    edges[other].add(uid)
        if kind == "unit_test":
            edges[min(parents[uid])].add(uid)
    shown = {uid for uid, kind in kinds.items() if kind in (*WITH_TASK, "test", "unit_test")}
    return {uid: found & shown for uid, found in closure(edges).items() if uid in shown}


@st.composite
def projects(draw: st.DrawFn, *, unit_tests: bool = True) -> list[dict[str, Any]]:
    """Nodes of random types over random earlier ones, tests of random subjects."""
    nodes: list[dict[str, Any]] = []
    for i in range(draw(st.integers(1, 9))):
        kind = draw(st.sampled_from(["model", "model", "model", "ephemeral", "seed", "snapshot", "source", "function"]))
        known = [one["unique_id"] for one in nodes]
        some = st.lists(st.sampled_from(known), unique=True, max_size=3) if known and kind not in ("seed", "source") else st.just([])
        unique_id = f"source.p.s.n{i}" if kind == "source" else f"{'model' if kind == 'ephemeral' else kind}.p.n{i}"
        nodes.append(node(unique_id, *draw(some), materialized="ephemeral" if kind == "ephemeral" else "table"))
    known = [one["unique_id"] for one in nodes]
    models = [uid for uid in known if uid.startswith("model.")]
    subjects = st.lists(st.sampled_from(known), unique=True, max_size=3)
    tests = [node(f"test.p.t{i}.{i:010x}", *draw(subjects)) for i in range(draw(st.integers(0, 5)))]
    count = draw(st.integers(0, 2)) if unit_tests and models else 0
    return [*nodes, *tests, *(node(f"unit_test.p.m.u{i}", draw(st.sampled_from(models))) for i in range(count))]


# Edges ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(projects(), st.sampled_from([TestBehavior.AFTER_EACH, TestBehavior.BUILD]))
def test_tests_gate_what_dbt_gates(nodes: list[dict[str, Any]], behavior: TestBehavior) -> None:
    """Under BUILD a task is done when its node's tests are, so only what the nodes wait for is dbt's."""
    found = waits_in_airflow(build_graph(view_of(*nodes), behavior))
    expected = waits_in_dbt(nodes)
    compared = [
        uid for uid in expected if uid.split(".")[0] in WITH_TASK or (behavior is TestBehavior.AFTER_EACH and uid.startswith("test."))
    ]
    own = {one["unique_id"]: {one["unique_id"]} for one in nodes}
    assert {uid: found[uid] - own[uid] for uid in compared} == {uid: expected[uid] for uid in compared}


@settings(max_examples=50, deadline=None)
@given(projects(unit_tests=False))
def test_the_brute_force_check_agrees_with_dbt_itself(nodes: list[dict[str, Any]]) -> None:
    compilation = pytest.importorskip("dbt.compilation")
    stubs = {
        one["unique_id"]: SimpleNamespace(
            unique_id=one["unique_id"], resource_type=one["resource_type"], depends_on_nodes=one["depends_on"]["nodes"]
        )
        for one in nodes
    }
    sections: dict[str, dict[str, Any]] = {"nodes": {}, "functions": {}, "sources": {}}
    for uid, stub in stubs.items():
        sections[{"function": "functions", "source": "sources"}.get(stub.resource_type, "nodes")][uid] = stub
    empty = ("metrics", "semantic_models", "exposures", "unit_tests", "saved_queries")
    children = {uid: [other for other, stub in stubs.items() if uid in stub.depends_on_nodes] for uid in stubs}
    stub_manifest = SimpleNamespace(**sections, **{name: {} for name in empty}, child_map=children)
    linker = compilation.Linker()
    linker.link_graph(stub_manifest)
    linker.add_test_edges_1(stub_manifest)
    shown = [uid for uid in stubs if uid.split(".")[0] in (*WITH_TASK, "test")]
    above = closure({uid: set(linker.graph.predecessors(uid)) for uid in linker.graph})
    assert {uid: above[uid] & set(shown) for uid in shown} == waits_in_dbt(nodes)


@pytest.mark.parametrize("version", DBT_VERSIONS)
@pytest.mark.parametrize("behavior", EVERY)
def test_edges_and_nodes_are_those_of_the_manifest(version: str, behavior: TestBehavior) -> None:
    raw = json.loads(real_manifest(version))
    specs = build_graph(parse_manifest(real_manifest(version), Path("m")), behavior)
    built = {uid: one for uid, one in raw["nodes"].items() if one["resource_type"] in WITH_TASK}
    expected = {(parent, uid) for uid, one in built.items() for parent in one["depends_on"].get("nodes", ()) if parent in built}
    edges = {(parent.removeprefix("tests of "), spec.key) for spec in specs for parent in spec.upstream}
    assert {(parent, child) for parent, child in edges if parent in built and child in built} == expected

    mirrored = [uid for spec in specs for uid in spec.nodes]
    assert len(mirrored) == len(set(mirrored))
    tests = {uid for uid, one in raw["nodes"].items() if one["resource_type"] == "test"} | set(raw["unit_tests"])
    ephemeral = {uid for uid, one in built.items() if one["config"].get("materialized") == "ephemeral"}
    assert set(mirrored) == (set(built) - ephemeral) | (set() if behavior is TestBehavior.NONE else tests)
    assert {spec.key for spec in specs if spec.key in raw["nodes"] and spec.kind is not TaskKind.TEST} == set(built)


@pytest.mark.parametrize("version", DBT_VERSIONS)
@pytest.mark.parametrize("behavior", [TestBehavior.AFTER_EACH, TestBehavior.BUILD])
def test_real_projects_gate_what_dbt_gates(version: str, behavior: TestBehavior) -> None:
    raw = json.loads(real_manifest(version))
    kept = (*WITH_TASK, "test", "unit_test", "function", "source")
    sections = [*raw["nodes"].values(), *raw["unit_tests"].values(), *raw.get("functions", {}).values(), *raw["sources"].values()]
    nodes = [
        {**one, "depends_on": {"nodes": (one.get("depends_on") or {}).get("nodes", [])}} for one in sections if one["resource_type"] in kept
    ]
    found = waits_in_airflow(build_graph(parse_manifest(real_manifest(version), Path("m")), behavior))
    expected = waits_in_dbt(nodes)
    for uid in expected:
        if uid.split(".")[0] in WITH_TASK:
            assert found[uid] - {uid} == expected[uid], uid


def test_after_each_shows_a_group_of_run_and_test() -> None:
    specs = graph_of(node("model.p.a"), node("model.p.b", "model.p.a"), node("test.p.t.1", "model.p.a"), node("test.p.u.2", "model.p.a"))
    assert ids(specs) == {"model.p.a": "a.run", "tests of model.p.a": "a.test", "model.p.b": "b_run"}
    assert specs["tests of model.p.a"].nodes == ("test.p.t.1", "test.p.u.2")
    assert specs["tests of model.p.a"].upstream == ("model.p.a",)
    assert specs["model.p.b"].upstream == ("tests of model.p.a",)


def test_build_lets_the_tests_decide_the_node_s_own_task() -> None:
    specs = graph_of(
        node("model.p.a"),
        node("model.p.b", "model.p.a"),
        node("test.p.t.1", "model.p.a"),
        node("test.p.both.2", "model.p.a", "model.p.b"),
        behavior=TestBehavior.BUILD,
    )
    assert specs["model.p.a"].nodes == ("model.p.a", "test.p.t.1")
    assert ids(specs) == {"model.p.a": "a_run", "model.p.b": "b_run", "test.p.both.2": "both_test"}


def test_after_all_shows_one_task_behind_every_leaf() -> None:
    specs = graph_of(
        node("seed.p.s"),
        node("model.p.a", "seed.p.s"),
        node("model.p.b", "seed.p.s"),
        node("test.p.t.1", "model.p.a"),
        node("test.p.both.2", "model.p.a", "model.p.b"),
        behavior=TestBehavior.AFTER_ALL,
    )
    assert ids(specs) == {"seed.p.s": "s_seed", "model.p.a": "a_run", "model.p.b": "b_run", "all tests": "shop_test"}
    assert specs["all tests"].upstream == ("model.p.a", "model.p.b")
    assert specs["all tests"].nodes == ("test.p.both.2", "test.p.t.1")


def test_after_all_without_tests_has_no_test_task() -> None:
    """A task that watches nothing would be green whatever happens."""
    assert list(graph_of(node("model.p.a"), behavior=TestBehavior.AFTER_ALL)) == ["model.p.a"]


def test_after_all_unit_tests_are_tests_like_others() -> None:
    """They run when all is built, and gate nothing."""
    specs = graph_of(node("model.p.a"), node("unit_test.p.a.u", "model.p.a"), behavior=TestBehavior.AFTER_ALL)
    assert {key: spec.nodes for key, spec in specs.items()} == {"model.p.a": ("model.p.a",), "all tests": ("unit_test.p.a.u",)}


def test_none_shows_no_test() -> None:
    specs = graph_of(node("model.p.a"), node("test.p.t.1", "model.p.a"), node("unit_test.p.a.u", "model.p.a"), behavior=TestBehavior.NONE)
    assert [spec.nodes for spec in specs.values()] == [("model.p.a",)]


@pytest.mark.parametrize("behavior", [TestBehavior.AFTER_EACH, TestBehavior.BUILD])
def test_unit_tests_are_watched_by_the_task_of_their_model(behavior: TestBehavior) -> None:
    specs = graph_of(node("model.p.a"), node("unit_test.p.a.u", "model.p.a"), behavior=behavior)
    assert specs["model.p.a"].nodes == ("unit_test.p.a.u", "model.p.a")


def test_an_ephemeral_model_is_an_empty_task_that_passes_the_order_on() -> None:
    specs = graph_of(node("model.p.a"), node("model.p.e", "model.p.a", materialized="ephemeral"), node("model.p.b", "model.p.e"))
    assert (specs["model.p.e"].kind, specs["model.p.e"].nodes, specs["model.p.e"].task_id) == (TaskKind.EMPTY, (), "e_run")
    assert specs["model.p.b"].upstream == ("model.p.e",)


def test_an_ephemeral_model_with_tests_shows_them() -> None:
    nodes = [node("model.p.e", materialized="ephemeral"), node("test.p.t.1", "model.p.e")]
    after = graph_of(*nodes)
    assert (after["model.p.e"].kind, after["tests of model.p.e"].nodes) == (TaskKind.EMPTY, ("test.p.t.1",))
    built = graph_of(*nodes, behavior=TestBehavior.BUILD)
    assert (built["model.p.e"].kind, built["model.p.e"].nodes) == (TaskKind.RUN, ("test.p.t.1",))


def test_what_lies_below_a_function_waits_for_what_lies_above() -> None:
    specs = graph_of(
        node("model.p.a"), node("function.p.f", "model.p.a"), node("function.p.g", "function.p.f"), node("model.p.b", "function.p.g")
    )
    assert "function.p.f" not in specs
    assert specs["model.p.b"].upstream == ("model.p.a",)


FRESHNESS = {"freshness": {"warn_after": {"count": None, "period": None}, "error_after": {"count": 1, "period": "day"}}}
NO_FRESHNESS = {"freshness": {"warn_after": {"count": None, "period": None}, "error_after": None, "filter": None}}
SOURCES = [
    node("source.p.raw.checked", **FRESHNESS),
    node("source.p.raw.tested", **NO_FRESHNESS),
    node("source.p.raw.plain"),
    node("test.p.t.1", "source.p.raw.tested"),
    node("test.p.c.2", "source.p.raw.checked"),
    node("model.p.a", "source.p.raw.checked", "source.p.raw.plain"),
    node("model.p.e", "model.p.a", materialized="ephemeral"),
    node("model.p.b", "source.p.raw.tested"),
]


@pytest.mark.parametrize(
    ("sources", "behavior", "tasks"),
    [
        (SourceRenderingBehavior.NONE, TestBehavior.AFTER_ALL, set()),
        (SourceRenderingBehavior.WITH_TESTS_OR_FRESHNESS, TestBehavior.AFTER_ALL, {"raw_checked_source", "raw_tested_source"}),
        (SourceRenderingBehavior.ALL, TestBehavior.AFTER_ALL, {"raw_checked_source", "raw_tested_source", "raw_plain_source"}),
        (SourceRenderingBehavior.ALL, TestBehavior.AFTER_EACH, {"raw_checked.source", "raw_tested.source", "raw_plain_source"}),
    ],
)
def test_which_sources_show_under_which_ids(sources: SourceRenderingBehavior, behavior: TestBehavior, tasks: set[str]) -> None:
    specs = graph_of(*SOURCES, behavior=behavior, sources=sources)
    assert {task for key, task in ids(specs).items() if key.startswith("source.")} == tasks


def test_a_source_is_a_task_above_its_models_and_empty_without_freshness() -> None:
    specs = graph_of(*SOURCES, sources=SourceRenderingBehavior.ALL)
    assert specs["model.p.a"].upstream == ("tests of source.p.raw.checked", "source.p.raw.plain")
    assert (specs["source.p.raw.checked"].kind, specs["source.p.raw.checked"].nodes) == (TaskKind.SOURCE, ("source.p.raw.checked",))
    assert {specs[f"source.p.raw.{name}"].kind for name in ("tested", "plain")} == {TaskKind.EMPTY}
    assert specs["tests of source.p.raw.tested"].nodes == ("test.p.t.1",)


def test_what_lies_below_a_checked_source_may_have_a_skipped_task_above_it() -> None:
    specs = graph_of(*SOURCES, sources=SourceRenderingBehavior.ALL)
    assert below_sources(specs.values()) == {"tests of source.p.raw.checked", "model.p.a", "model.p.e"}
    assert below_sources(graph_of(*SOURCES).values()) == frozenset()


def test_a_test_of_a_source_gates_the_models_that_read_it() -> None:
    specs = graph_of(node("source.p.s.t"), node("model.p.a", "source.p.s.t"), node("model.p.b"), node("test.p.fresh.1", "source.p.s.t"))
    assert specs["model.p.a"].upstream == ("test.p.fresh.1",)
    assert specs["model.p.b"].upstream == ()


def test_a_test_of_a_model_and_a_source_gates_only_below_both() -> None:
    specs = graph_of(
        node("model.p.a"),
        node("model.p.below_a", "model.p.a"),
        node("model.p.below_both", "model.p.a", "source.p.s.t"),
        node("test.p.rel.1", "model.p.a", "source.p.s.t"),
    )
    assert specs["model.p.below_a"].upstream == ("model.p.a",)
    assert specs["model.p.below_both"].upstream == ("model.p.a", "test.p.rel.1")
    assert specs["test.p.rel.1"].upstream == ("model.p.a",)


@pytest.mark.parametrize("behavior", EVERY)
def test_a_cycle_is_refused(behavior: TestBehavior) -> None:
    with pytest.raises(ConfigError, match=r"cycle: .*model\.p\.a.*dbt parse"):
        graph_of(node("model.p.a", "model.p.b"), node("model.p.b", "model.p.a"), behavior=behavior)


def test_nothing_gives_nothing() -> None:
    assert graph_of() == {}


# Names ---------------------------------------------------------------------------------------------------------------


def test_versions_of_a_model_have_tasks_of_their_own() -> None:
    assert sorted(ids(graph_of(node("model.p.m.v1"), node("model.p.m.v2"))).values()) == ["m_v1_run", "m_v2_run"]


def test_a_name_in_two_packages_gets_the_package_in_front() -> None:
    specs = graph_of(node("model.p.m"), node("model.q.m"), node("test.q.t.1", "model.q.m"), behavior=TestBehavior.BUILD)
    assert ids(specs) == {"model.p.m": "p_m_run", "model.q.m": "q_m_run"}


def test_a_group_and_a_task_do_not_share_an_id() -> None:
    """``orders`` without tests is the task orders_run, ``orders_run`` with tests is a group of that id."""
    specs = graph_of(node("model.p.orders"), node("model.p.orders_run"), node("test.p.t.1", "model.p.orders_run"))
    top = [spec.group or spec.task_id for spec in specs.values() if spec.kind is not TaskKind.TEST]
    assert len(set(top)) == 2


def test_a_model_and_a_seed_of_two_packages_do_not_share_a_group() -> None:
    specs = graph_of(node("model.p.x"), node("seed.q.x"), node("test.p.t.1", "model.p.x"), node("test.p.u.2", "seed.q.x"))
    assert sorted(ids(specs).values()) == ["p_x.run", "p_x.test", "q_x.seed", "q_x.test"]


def test_tests_of_one_name_are_told_apart() -> None:
    subjects = ("model.p.a", "model.p.b")
    generic = graph_of(*map(node, subjects), node("test.p.rel.1", *subjects, name="rel"), node("test.p.rel.2", *subjects, name="rel"))
    singular = graph_of(*map(node, subjects), node("test.p.rel", *subjects), node("test.q.rel", *subjects))
    for specs in (generic, singular):
        found = [spec.task_id for spec in specs.values() if spec.kind is TaskKind.TEST]
        assert len(set(found)) == 2, found


@pytest.mark.parametrize(
    ("name", "task"),
    [("a b", "a_b_run"), ("a/b:c", "a_b_c_run"), ("größe", "größe_run"), ("a.b", "a_b_run"), ("a-b", "a-b_run"), ("a\n", "a__run")],
)
def test_names_become_valid_ids(name: str, task: str) -> None:
    assert ids(graph_of(node(f"model.p.{name}")))[f"model.p.{name}"] == task


def test_a_test_name_becomes_a_valid_id() -> None:
    specs = graph_of(node("model.p.a"), node("model.p.b"), node("test.p.x.1", "model.p.a", "model.p.b", name="a = b? (v1.2)"))
    assert specs["test.p.x.1"].task_id == "a___b___v1.2__test"


def test_an_id_that_the_dag_needs_is_not_taken() -> None:
    nodes = [node("model.p.producer"), node("test.p.t.1", "model.p.producer")]
    assert graph_of(*nodes)["model.p.producer"].group == "producer"
    assert graph_of(*nodes, reserved={"producer"})["model.p.producer"].group == "p_producer"


def test_without_room_for_names_the_groups_around_are_named_as_the_cause() -> None:
    with pytest.raises(ConfigError, match="task groups around"):
        graph_of(node("model.p.a"), id_limit=10)


NAMES = st.text(st.sampled_from("ab_. /\u00e9"), min_size=1, max_size=6) | st.text("ab", min_size=240, max_size=300)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["model", "seed", "snapshot"]), st.sampled_from(["p", "q", "p_a"]), NAMES), unique=True, max_size=8),
    st.data(),
)
def test_ids_are_valid_short_and_unique(nodes: list[tuple[str, str, str]], data: st.DataObject) -> None:
    raw = [node(".".join(one)) for one in nodes]
    known = [one["unique_id"] for one in raw]
    if known:
        for i in range(data.draw(st.integers(0, 4))):
            subjects = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=2, unique=True))
            raw.append(node(f"test.p.{i}", *subjects, name=data.draw(NAMES)))
    limit = data.draw(st.sampled_from([250, 60]))
    for behavior in EVERY:
        specs = build_graph(view_of(*raw), behavior, reserved={"a", "a_run"}, id_limit=limit)
        full = [f"{spec.group}.{spec.task_id}" if spec.group else spec.task_id for spec in specs]
        groups = {spec.group for spec in specs if spec.group}
        assert len({spec.key for spec in specs}) == len(specs)
        assert len(set(full)) == len(full)
        assert not groups & {*full, "a", "a_run"}
        assert len(groups) == len({spec.name for spec in specs if spec.group and spec.kind is TaskKind.TEST})
        assert all(re.fullmatch(r"[\w.-]+", one) and len(one) <= limit for one in full)
        assert all(re.fullmatch(r"[\w-]+", one) and len(one) <= 200 for one in groups)


# Order ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(projects(), st.sampled_from(EVERY), st.data())
def test_the_order_depends_on_nothing_but_the_project(nodes: list[dict[str, Any]], behavior: TestBehavior, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(nodes))))
    assert build_graph(view_of(*nodes), behavior) == build_graph(view_of(*shuffled(nodes, order)), behavior)


@settings(max_examples=100, deadline=None)
@given(projects(), st.sampled_from(EVERY))
def test_nodes_stand_behind_their_parents(nodes: list[dict[str, Any]], behavior: TestBehavior) -> None:
    specs = build_graph(view_of(*nodes), behavior)
    place = {spec.key: i for i, spec in enumerate(specs)}
    nodes_only = [spec for spec in specs if spec.kind is not TaskKind.TEST]
    assert all(place[parent] < place[spec.key] for spec in nodes_only for parent in spec.upstream if not parent.startswith("test."))
    assert {parent for spec in specs for parent in spec.upstream} <= set(place)
    assert all(a != b for a, b in pairwise(sorted(place)))


# Tests of several nodes, counted for each of them ---------------------------------------------------------------------


def pair() -> list[dict[str, Any]]:
    """Two models with a test of both, each with a child of its own; one has a test of its own."""
    return [
        node("model.p.a"),
        node("model.p.b"),
        node("model.p.below_a", "model.p.a"),
        node("model.p.below_b", "model.p.b"),
        node("test.p.own.1", "model.p.a"),
        node("test.p.both.2", "model.p.a", "model.p.b"),
    ]


def test_a_test_of_several_nodes_counts_for_each_and_holds_up_no_child() -> None:
    specs = graph_of(*pair(), detach=False)
    names = ids(specs)
    assert {key: names[key] for key in specs if "test" in key} == {
        "tests of model.p.a": "a.test",
        "shared tests of model.p.a": "a.shared_test",
        "shared tests of model.p.b": "b.shared_test",
    }
    assert names["model.p.b"] == "b.run"
    for parent in ("a", "b"):
        leaf = specs[f"shared tests of model.p.{parent}"]
        assert (leaf.nodes, leaf.upstream, leaf.owner) == (("test.p.both.2",), ("model.p.a", "model.p.b"), f"model.p.{parent}")
    assert specs["model.p.below_a"].upstream == ("tests of model.p.a",)
    assert specs["model.p.below_b"].upstream == ("model.p.b",)


def test_a_test_that_nodes_wait_for_keeps_its_own_task() -> None:
    specs = graph_of(*pair(), node("model.p.joined", "model.p.below_a", "model.p.b"), detach=False)
    assert specs["model.p.joined"].upstream == ("model.p.b", "model.p.below_a", "test.p.both.2")
    assert specs["shared tests of model.p.a"].nodes == specs["shared tests of model.p.b"].nodes == ("test.p.both.2",)


def test_a_test_of_sources_alone_keeps_its_own_task() -> None:
    specs = graph_of(node("model.p.a"), node("test.p.src.1", "source.p.s.t"), detach=False)
    assert ids(specs) == {"model.p.a": "a_run", "test.p.src.1": "src_test"}


@given(projects(), st.sampled_from([TestBehavior.AFTER_EACH, TestBehavior.BUILD]))
def test_counting_them_for_each_neither_loses_tests_nor_changes_what_nodes_wait_for(
    nodes: list[dict[str, Any]], behavior: TestBehavior
) -> None:
    apart, counted = graph_of(*nodes, behavior=behavior), graph_of(*nodes, behavior=behavior, detach=False)
    assert {uid for spec in counted.values() for uid in spec.nodes} == {uid for spec in apart.values() for uid in spec.nodes}
    assert {key: counted[key].upstream for key in counted if key in apart} == {key: apart[key].upstream for key in apart if key in counted}
    assert not {parent for spec in counted.values() for parent in spec.upstream} - set(counted)
    assert not [parent for spec in counted.values() for parent in spec.upstream if parent.startswith("shared tests of ")]
    named = ids(counted).values()
    assert len(set(named)) == len(named)
