"""One task for a group of nodes: what is in it, what it waits for, and groups that need each other."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.project import ProjectView, TaskKind, TaskSpec, TestBehavior, build_graph, by_folder, by_tag, coarsened
from ledger_watcher.project.manifest import parse_manifest
from ledger_watcher.project.view import NodeView
from tests.projects import DBT_VERSIONS, manifest, node, real_manifest

MANIFEST = Path("/project/target/manifest.json")


def view_of(*nodes: dict[str, Any]) -> ProjectView:
    return parse_manifest(json.dumps(manifest(*nodes)).encode(), MANIFEST)


def model(name: str, *parents: str, folder: str = "models", **more: Any) -> dict[str, Any]:
    return node(f"model.shop.{name}", *(f"model.shop.{one}" for one in parents), original_file_path=f"{folder}/{name}.sql", **more)


def tasks(
    view: ProjectView, label: Callable[[NodeView], str | None] | None = None, behavior: TestBehavior = TestBehavior.AFTER_EACH
) -> dict[str, TaskSpec]:
    specs = coarsened(build_graph(view, behavior), view, label or by_folder(view))
    names = {spec.key: f"{spec.group}.{spec.task_id}" if spec.group else spec.task_id for spec in specs}
    assert len(set(names.values())) == len(specs)
    sorter = TopologicalSorter({spec.key: spec.upstream for spec in specs})
    assert set(sorter.static_order()) == {spec.key for spec in specs}  # no cycle, and no edge to nowhere
    return {names[spec.key]: spec for spec in specs}


def edges(found: dict[str, TaskSpec]) -> set[tuple[str, str]]:
    ids = {spec.key: name for name, spec in found.items()}
    return {(ids[parent], name) for name, spec in found.items() for parent in spec.upstream}


def test_a_folder_is_one_task_with_its_nodes_and_their_tests() -> None:
    found = tasks(
        view_of(
            node("seed.shop.raw", original_file_path="seeds/raw.csv"),
            node("model.shop.a", "seed.shop.raw", original_file_path="models/staging/a.sql"),
            model("b", "a", folder="models/staging"),
            model("c", "b", folder="models/marts"),
            node("test.shop.unique_b.1", "model.shop.b"),
            node("unit_test.shop.c.rounds", "model.shop.c"),
        )
    )
    assert set(found) == {"seeds_build", "models_staging_build", "models_marts_build"}
    assert found["models_staging_build"].nodes == ("model.shop.a", "model.shop.b", "test.shop.unique_b.1")
    assert found["models_marts_build"].nodes == ("unit_test.shop.c.rounds", "model.shop.c")
    assert found["models_staging_build"].members == ("model.shop.a", "model.shop.b")
    assert {spec.kind for spec in found.values()} == {TaskKind.BUILD}
    assert edges(found) == {("seeds_build", "models_staging_build"), ("models_staging_build", "models_marts_build")}


def test_groups_that_need_each_other_show_in_parts() -> None:
    found = tasks(
        view_of(
            model("a1", folder="a"),
            model("b1", "a1", folder="b"),
            model("a2", "b1", folder="a"),
            model("a3", folder="a"),
            model("b2", "b1", folder="b"),
        )
    )
    assert {name: spec.members for name, spec in found.items()} == {
        "a_build": ("model.shop.a1", "model.shop.a3"),
        "b_build": ("model.shop.b1", "model.shop.b2"),
        "a_2_build": ("model.shop.a2",),
    }
    assert edges(found) == {("a_build", "b_build"), ("b_build", "a_2_build")}


def test_a_test_of_several_nodes_belongs_to_the_lowest_of_their_groups() -> None:
    found = tasks(
        view_of(
            model("a", folder="low"),
            model("b", "a", folder="high"),
            model("c", "b", folder="top"),
            node("test.shop.sums", "model.shop.a", "model.shop.b"),
        )
    )
    assert {name: spec.nodes[1:] for name, spec in found.items()} == {"low_build": (), "high_build": ("test.shop.sums",), "top_build": ()}
    assert edges(found) == {("low_build", "high_build"), ("high_build", "top_build")}


def test_tests_between_groups_that_do_not_need_each_other_make_no_cycle() -> None:
    pairs = [("a", "b"), ("b", "c"), ("c", "a")]
    found = tasks(
        view_of(
            *(model(name, folder=name) for name in "abc"),
            *(node(f"test.shop.t{i}", f"model.shop.{x}", f"model.shop.{y}") for i, (x, y) in enumerate(pairs)),
        )
    )
    assert sorted(uid for spec in found.values() for uid in spec.nodes if uid.startswith("test.")) == [
        "test.shop.t0",
        "test.shop.t1",
        "test.shop.t2",
    ]


def test_the_tests_that_come_last_stay_a_task_of_their_own() -> None:
    view = view_of(model("a"), node("test.shop.t.1", "model.shop.a"))
    found = tasks(view, behavior=TestBehavior.AFTER_ALL)
    assert (found["models_build"].nodes, found["shop_test"].nodes) == (("model.shop.a",), ("test.shop.t.1",))
    assert edges(found) == {("models_build", "shop_test")}


def test_tags_and_functions_name_groups_too() -> None:
    view = view_of(model("a", tags=["nightly", "core"]), model("b", "a", tags=["nightly"]), model("c", "b"))
    assert set(tasks(view, by_tag)) == {"core_build", "nightly_build", "untagged_build"}
    own = tasks(view, lambda one: None if one.name == "b" else "rest")
    assert {name: spec.kind for name, spec in own.items()} == {
        "rest_build": TaskKind.BUILD,
        "b_run": TaskKind.RUN,
        "rest_2_build": TaskKind.BUILD,
    }
    assert edges(own) == {("rest_build", "b_run"), ("b_run", "rest_2_build")}


def test_nodes_of_packages_have_folders_of_their_own() -> None:
    view = view_of(model("a"), node("model.utils.b", original_file_path="models/b.sql"))
    assert set(tasks(view)) == {"models_build", "utils_models_build"}


def test_labels_that_make_one_name_are_told_apart() -> None:
    found = tasks(view_of(model("a", folder="x/y_z"), model("b", folder="x_y/z")))
    assert len(found) == 2


@pytest.mark.parametrize("version", DBT_VERSIONS)
def test_projects_of_every_dbt_version_have_coarse_graphs(version: str) -> None:
    view = parse_manifest(real_manifest(version), MANIFEST)
    found = tasks(view)
    fine = build_graph(view, TestBehavior.AFTER_EACH)
    assert sorted({uid for spec in found.values() for uid in spec.nodes}) == sorted({uid for spec in fine for uid in spec.nodes})
    assert len(found) < len(fine) / 2


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_groups_there_is_no_cycle_and_no_edge_is_lost(seed: int) -> None:
    """What a node waits for in the fine graph, its group waits for in the coarse one, unless it is in it."""
    chance = random.Random(seed)
    names = [f"m{i}" for i in range(60)]
    models = [
        model(name, *chance.sample(names[:i], min(i, chance.randint(0, 3))), folder=f"f{chance.randint(0, 7)}")
        for i, name in enumerate(names)
    ]
    shared = [node(f"test.shop.t{i}", *(f"model.shop.{one}" for one in chance.sample(names, 2))) for i in range(15)]
    view = view_of(*models, *shared)
    found = tasks(view)
    home = {uid: spec.key for spec in found.values() for uid in spec.nodes}
    by_key = {spec.key: spec for spec in found.values()}
    for spec in build_graph(view, TestBehavior.AFTER_EACH):
        for parent in spec.upstream:
            assert home[parent] == home[spec.key] or home[parent] in by_key[home[spec.key]].upstream
