"""manifest.json to ProjectView: what is read, what is refused, and the cache."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher import codec
from ledger_watcher.errors import ConfigError
from ledger_watcher.project import TestBehavior, build_graph, load_project
from ledger_watcher.project import manifest as manifest_module
from ledger_watcher.project.cache import CACHE_ENV
from ledger_watcher.project.manifest import parse_manifest
from ledger_watcher.project.view import BUILDABLE, NodeView, ProjectView, pack_view, unpack_view
from tests.projects import DBT_VERSIONS, fhir_nodes, manifest, node, real_manifest

MANIFEST = Path("/project/target/manifest.json")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_ENV, str(folder))
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest(node("model.shop.orders"), node("model.shop.sales", "model.shop.orders"))))
    return path


def view_of(*nodes: dict[str, Any]) -> ProjectView:
    return parse_manifest(json.dumps(manifest(*nodes)).encode(), MANIFEST)


def no_manifest_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: bytes, path: Path) -> ProjectView:
        raise AssertionError(f"{path} was parsed")

    monkeypatch.setattr(manifest_module, "parse_manifest", refuse)


@pytest.mark.parametrize("version", DBT_VERSIONS)
def test_every_dbt_version_gives_the_same_nodes(version: str) -> None:
    view = parse_manifest(real_manifest(version), MANIFEST)
    raw = json.loads(real_manifest(version))
    known = {uid for uid, one in raw["nodes"].items() if one["resource_type"] in BUILDABLE | {"test"}} | set(raw["unit_tests"])
    assert set(view.nodes) == known | set(raw.get("functions", {})) | set(raw["sources"]) | set(raw["exposures"])
    source = view.nodes["source.kitchen.ext.raw_ext"]
    assert (source.name, source.resource_type, source.parents, source.freshness) == ("ext_raw_ext", "source", (), True)
    assert list(view.nodes) == sorted(view.nodes)
    assert view.project == "kitchen"
    assert len(view.manifest_sha256) == 64
    eph = view.nodes["model.kitchen.eph"]
    assert (eph.name, eph.package, eph.parents, eph.ephemeral) == ("eph", "kitchen", ("model.kitchen.ok_table",), True)
    assert eph.path == "models/base/eph.sql"
    assert view.nodes["model.kitchen.ver_model.v2"].name == "ver_model_v2"


@pytest.mark.parametrize("version", DBT_VERSIONS)
def test_disabled_nodes_hooks_and_analyses_are_left_out(version: str) -> None:
    view = parse_manifest(real_manifest(version), MANIFEST)
    assert not [uid for uid in view.nodes if uid.split(".")[0] in {"operation", "analysis"} or "disabled" in uid]


def test_the_owner_of_a_test_is_the_only_node_that_it_is_about() -> None:
    view = view_of(
        node("model.shop.a"),
        node("model.shop.b"),
        node("test.shop.one.1", "model.shop.a"),
        node("test.shop.twice.2", "model.shop.a", "model.shop.a"),
        node("test.shop.two.3", "model.shop.a", "model.shop.b"),
        node("test.shop.none.4"),
        node("unit_test.shop.b.unit", "model.shop.b", "model.shop.a"),
    )
    owners = {uid: one.owner for uid, one in view.nodes.items() if "test" in uid}
    assert owners == {
        "test.shop.one.1": "model.shop.a",
        "test.shop.twice.2": "model.shop.a",
        "test.shop.two.3": None,
        "test.shop.none.4": None,
        "unit_test.shop.b.unit": "model.shop.b",
    }


def test_all_fields_but_the_unique_id_may_be_absent() -> None:
    bare = {"unique_id": "model.shop.a", "resource_type": "model"}
    raw = {"metadata": {"dbt_schema_version": "x/v12.json"}, "nodes": {"model.shop.a": bare}, "unit_tests": None, "functions": None}
    view = parse_manifest(json.dumps(raw).encode(), MANIFEST)
    assert view.nodes == {"model.shop.a": NodeView(unique_id="model.shop.a", name="a", resource_type="model")}


def test_a_view_comes_back_from_its_plain_data() -> None:
    view = parse_manifest(real_manifest("1.11"), MANIFEST)
    assert unpack_view(codec.loads(codec.dumps(pack_view(view)))) == view


def test_what_a_node_becomes_is_named_as_dbt_writes_it() -> None:
    view = parse_manifest(real_manifest("1.11"), MANIFEST)
    assert view.nodes["model.kitchen.ok_table"].relation == '"kitchen"."main"."ok_table"'
    assert view.nodes["snapshot.kitchen.snap"].relation == '"kitchen"."snaps"."snap"'
    assert view.nodes["model.kitchen.eph"].relation == ""


@pytest.mark.parametrize("place", ["cosmos", "ledger_watcher"])
def test_arguments_of_a_task_stand_in_the_meta_of_its_node_or_of_its_config(place: str) -> None:
    told = {place: {"operator_kwargs": {"pool": "small", "retries": 2}}, "owner": "team"}
    (own,) = view_of(node("model.shop.a", meta=told)).nodes.values()
    (configured,) = view_of(node("model.shop.a", config={"meta": told})).nodes.values()
    assert own.operator_kwargs == configured.operator_kwargs == {"pool": "small", "retries": 2}
    assert unpack_view(codec.loads(codec.dumps(pack_view(view_of(node("model.shop.a", meta=told)))))).nodes["model.shop.a"] == own


def test_a_profile_of_a_node_s_own_is_refused() -> None:
    """Cosmos has them; one run of dbt cannot."""
    with pytest.raises(ConfigError, match="one profile"):
        view_of(node("model.shop.a", meta={"cosmos": {"profile_config": {"target_name": "prod"}}}))


def test_owners_columns_and_exposures_are_read() -> None:
    raw = manifest(
        node(
            "model.shop.a",
            config={"meta": {"owner": "@ana"}},
            columns={"id": {"description": "Key.\nMore"}, "x": {"description": ""}, "y": None},
        ),
        node("model.shop.b", meta={"owner": ["@ana", "", 3, "@bo"]}, group="finance"),
        node("model.shop.c", config={"group": "finance"}),
        node("model.shop.d", meta={"owner": {"name": "x"}}, group="unknown"),
    )
    raw["groups"] = {"group.shop.finance": {"name": "finance", "owner": {"name": "Finance"}}}
    raw["exposures"] = {"exposure.shop.board": node("exposure.shop.board", "metric.shop.m", "model.shop.a")}
    raw["metrics"] = {"metric.shop.m": {"depends_on": {"nodes": ["semantic_model.shop.s", "metric.shop.m"]}}}
    raw["semantic_models"] = {"semantic_model.shop.s": {"depends_on": {"nodes": ["model.shop.b"]}}}
    view = parse_manifest(json.dumps(raw).encode(), MANIFEST)
    assert [one.team for one in view.nodes.values()] == ["", "@ana", "@ana, @bo", "Finance", ""]
    assert view.nodes["model.shop.a"].columns == {"id": "Key."}
    assert view.nodes["model.shop.b"].meta == {"owner": ["@ana", "", 3, "@bo"]}
    assert set(view.nodes["exposure.shop.board"].parents) == {"model.shop.a", "model.shop.b"}
    assert unpack_view(codec.loads(codec.dumps(pack_view(view)))) == view


def test_our_own_arguments_win() -> None:
    told = {"cosmos": {"operator_kwargs": {"pool": "small", "queue": "q"}}, "ledger_watcher": {"operator_kwargs": {"pool": "big"}}}
    (one,) = view_of(node("model.shop.a", meta=told)).nodes.values()
    assert one.operator_kwargs == {"pool": "big", "queue": "q"}


def test_meta_of_others_is_none_of_ours() -> None:
    metas: list[Any] = [None, "text", {"cosmos": None}, {"cosmos": "text"}, {"cosmos": {"profile_config": {}}}]
    for meta in metas:
        (one,) = view_of(node("model.shop.a", meta=meta, config={"meta": meta})).nodes.values()
        assert one.operator_kwargs == {}


def test_arguments_that_are_no_mapping_are_refused_by_node_and_file() -> None:
    wrong = node("model.shop.a", meta={"cosmos": {"operator_kwargs": ["pool"]}}, original_file_path="models/a.sql")
    with pytest.raises(ConfigError, match=r"model\.shop\.a \(models/a\.sql\)"):
        view_of(wrong)


# The cache -----------------------------------------------------------------------------------------------------------


def test_the_second_load_reads_no_manifest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_project(path)
    no_manifest_read(monkeypatch)
    assert load_project(path) == first


def test_a_changed_manifest_is_noticed(path: Path) -> None:
    load_project(path)
    path.write_text(json.dumps(manifest(node("model.shop.other"))))
    assert set(load_project(path).nodes) == {"model.shop.other"}


def test_a_manifest_of_the_same_size_but_another_time_is_noticed(path: Path) -> None:
    load_project(path)
    size = path.stat().st_size
    path.write_text(path.read_text().replace("orders", "0rders"))
    os.utime(path, ns=(1, 1))
    assert path.stat().st_size == size
    assert "model.shop.0rders" in load_project(path).nodes


def test_two_manifests_do_not_share_a_cache(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(manifest(node("model.shop.other"))))
    os.utime(other, ns=(1, 1))
    os.utime(path, ns=(1, 1))
    assert set(load_project(path).nodes) != set(load_project(other).nodes)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff",
        b"[]",
        b"{}",
        b"null",
        b'{"fields": ["unique_id"], "nodes": []}',
        b'{"fields": FIELDS, "project": "p", "manifest_sha256": "s", "nodes": [[]]}',
        b'{"fields": FIELDS, "project": "p", "manifest_sha256": "s", "nodes": [["a"]]}',
        b'{"fields": FIELDS, "project": "p", "manifest_sha256": "s", "nodes": 3}',
        b'{"fields": FIELDS, "nodes": []}',
    ],
)
def test_a_corrupt_cache_is_read_past_and_replaced(path: Path, cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_project(path)
    (file,) = cache.iterdir()
    fields = codec.dumps(pack_view(expected)["fields"])
    file.write_bytes(content.replace(b"FIELDS", fields))
    assert load_project(path) == expected
    no_manifest_read(monkeypatch)
    assert load_project(path) == expected


def test_a_cache_of_another_version_is_not_used(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_project(path)
    monkeypatch.setattr(manifest_module, "__version__", "0.0.0")
    load_project(path)
    assert len(list(cache.iterdir())) == 2


def test_without_a_cache_folder_the_manifest_is_read_each_time(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "file" / "cache"))  # cannot be made, not even by root
    assert load_project(path) == load_project(path)


def test_a_user_without_a_home_folder_can_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers of some platforms run as a user that no passwd file knows."""
    for name in (CACHE_ENV, "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    monkeypatch.chdir(path.parent)
    assert "model.shop.orders" in load_project(path).nodes


def test_a_cache_that_cannot_be_written_leaves_nothing_behind(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    assert "model.shop.orders" in load_project(path).nodes
    assert list(cache.iterdir()) == []


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"", "not a dbt manifest"),
        (b'{"metadata": {"dbt_schema_version": "x/v12.json"}, "nodes": {"a": {"uniq', "truncated"),
        (b"[]", "not a dbt manifest"),
        (b'"text"', "not a dbt manifest"),
        (b"\xff\xfe", "not a dbt manifest"),
        (b'{"results": []}', "not a dbt manifest"),
        (b'{"metadata": null, "nodes": {}}', "not a dbt manifest"),
        (b'{"metadata": {"dbt_schema_version": "x/v12.json"}, "nodes": []}', "not a dbt manifest"),
        (b'{"metadata": {"dbt_schema_version": "x/v12.json"}, "nodes": {"a": 1}}', "not a dbt manifest"),
        (b'{"metadata": {"dbt_schema_version": "x/v12.json"}, "nodes": {"a": {"resource_type": "model"}}}', "unique_id"),
    ],
)
def test_what_is_no_manifest_is_refused_with_advice(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_project(path)
    message = str(caught.value)
    assert str(path) in message
    assert why in message
    assert "dbt parse" in message
    assert "manifest_path" in message


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dbt parse"):
        load_project(tmp_path)


@pytest.mark.parametrize(
    "schema", ["https://schemas.getdbt.com/dbt/manifest/v4.json", "https://schemas.getdbt.com/dbt/catalog/v1.json", ""]
)
def test_an_old_or_other_schema_is_named(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest(node("model.shop.a"), schema=schema)))
    with pytest.raises(ConfigError) as caught:
        load_project(path)
    assert (schema or "unknown") in str(caught.value)
    assert "upgrade" in str(caught.value)


def test_a_relative_path_and_a_home_path_are_understood(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("HOME", str(path.parent))
    assert load_project(Path("manifest.json")) == load_project(Path("~/manifest.json")) == load_project(path)


def test_a_project_of_a_real_size_loads(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest(*fhir_nodes(), project="fhir")))
    assert len(build_graph(load_project(path), TestBehavior.AFTER_EACH)) == 198 + 2
