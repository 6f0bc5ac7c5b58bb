"""Every wrong input is one ConfigError that says what to change, when the DAG file is parsed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import (
    ExecutionConfig,
    ExecutionMode,
    InvocationMode,
    LoadMode,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
    TestBehavior,
)
from tests.projects import manifest, write_project

MakeDag = Callable[..., Any]


def error_of(make: Callable[[], object], *words: str) -> str:
    """The message of the one ConfigError, which holds all the words."""
    with pytest.raises(ConfigError) as caught:
        make()
    message = str(caught.value)
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"
    return message


# The ledger ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (None, ["ExecutionConfig(ledger_uri=", "AIRFLOW__LEDGER_WATCHER__URI"]),
        ("", ["ExecutionConfig(ledger_uri=", "AIRFLOW__LEDGER_WATCHER__URI"]),
        ("   ", ["empty", "s3://bucket/prefix"]),
        ("ledgers", ["relative", "absolute"]),
        ("./ledgers", ["relative", "absolute"]),
        ("s3:bucket", ["relative", "absolute"]),
        ("file://host/ledgers", ["three slashes"]),
        ("s3://", ["bucket"]),
        ("s3:///prefix", ["bucket"]),
        ("s3://bucket/prefix?versionId=1", ["query"]),
        ("s3://bucket/prefix#part", ["fragment"]),
        ("nosuch://bucket/prefix", ["unknown scheme", "nosuch", "s3://"]),
    ],
)
def test_a_wrong_ledger_is_refused(make_dag: MakeDag, uri: str | None, words: list[str]) -> None:
    error_of(lambda: make_dag(execution_config=ExecutionConfig(ledger_uri=uri)), *words)


@pytest.mark.parametrize("uri", ["s3://AKIAKEY:hunter2@bucket/p", "s3://hunter2@bucket/p"])
def test_a_ledger_with_credentials_is_refused_without_repeating_them(make_dag: MakeDag, uri: str) -> None:
    message = error_of(lambda: make_dag(execution_config=ExecutionConfig(ledger_uri=uri)), "credentials", "ledger_conn_id")
    assert "hunter2" not in message
    assert "AKIAKEY" not in message


@pytest.mark.parametrize("uri", ["s3://bucket/prefix", "s3://bucket", "/data/ledgers", "file:///data/ledgers", "gs://b/p", "abfs://c/p"])
def test_a_right_ledger_is_taken(uri: str) -> None:
    assert ExecutionConfig(ledger_uri=uri).ledger().uri == uri


def test_a_default_ledger_comes_from_the_environment(make_dag: MakeDag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__LEDGER_WATCHER__URI", "s3://default/ledgers")
    monkeypatch.setenv("AIRFLOW__LEDGER_WATCHER__DEPLOYMENT", "blue")
    arguments = make_dag(execution_config=ExecutionConfig()).get_task("sales_run").start_trigger_args.trigger_kwargs
    assert (arguments["ledger"], arguments["deployment"]) == ("s3://default/ledgers", "blue")
    assert ExecutionConfig(ledger_uri="s3://own/ledgers").ledger().uri == "s3://own/ledgers"


def test_a_wrong_default_ledger_is_refused_too(make_dag: MakeDag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__LEDGER_WATCHER__URI", "relative/path")
    error_of(lambda: make_dag(execution_config=ExecutionConfig()), "relative")


@pytest.mark.parametrize("poll", [0, -1])
def test_a_poll_interval_of_nothing_is_refused(make_dag: MakeDag, poll: float) -> None:
    error_of(lambda: make_dag(execution_config=ExecutionConfig(ledger_uri="/l", poll_interval=poll)), "poll_interval", "more than 0")


def test_what_a_connections_filesystem_is_given_is_what_its_provider_understands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Amazon provider hands the options to botocore's Config, which refuses anything else; no cache, whoever built the filesystem."""
    import airflow.sdk.io
    from botocore.config import Config
    from fsspec.implementations.memory import MemoryFileSystem

    asked: dict[str, object] = {}

    def get_fs(scheme: str, conn_id: str | None, options: dict[str, object]) -> MemoryFileSystem:
        asked.update(scheme=scheme, conn_id=conn_id, config=Config(**options))
        return MemoryFileSystem(skip_instance_cache=True, use_listings_cache=True)

    monkeypatch.setattr(airflow.sdk.io, "get_fs", get_fs)
    store = ExecutionConfig(ledger_uri="s3://bucket/p", ledger_conn_id="storage").ledger().store()
    assert store.list("") == []
    assert (asked["scheme"], asked["conn_id"]) == ("s3", "storage")
    assert asked["config"].retries["total_max_attempts"] == 1
    assert store._filesystem().dircache.use_listings_cache is False


def test_a_connection_that_is_not_there_is_named() -> None:
    """Asked for when the storage is first used, and no reason to wait for ever."""
    store = ExecutionConfig(ledger_uri="s3://bucket/p", ledger_conn_id="no_such_connection").ledger().store()
    error_of(lambda: store.get("key"), "no_such_connection", "ledger_conn_id", "s3://bucket/p")


# Choices -------------------------------------------------------------------------------------------------------------


def test_a_choice_may_be_given_by_its_value() -> None:
    """Compared by identity further on, a mere word would mean something else than it says."""
    assert RenderConfig(test_behavior="none").test_behavior is TestBehavior.NONE  # type: ignore[arg-type]
    assert RenderConfig(load_method="dbt_manifest").load_method is LoadMode.DBT_MANIFEST  # type: ignore[arg-type]
    execution = ExecutionConfig(execution_mode="watcher", invocation_mode="dbt_runner")  # type: ignore[arg-type]
    assert (execution.execution_mode, execution.invocation_mode) == (ExecutionMode.WATCHER, InvocationMode.DBT_RUNNER)
    assert execution.runs_in_process()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RenderConfig(test_behavior="after_some"), ["test_behavior", "after_some", "TestBehavior.AFTER_EACH"]),
        (lambda: RenderConfig(load_method="dbt"), ["load_method", "dbt", "LoadMode.DBT_MANIFEST"]),
        (lambda: ExecutionConfig(execution_mode="docker"), ["execution_mode", "docker", "ExecutionMode.WATCHER"]),
        (lambda: ExecutionConfig(invocation_mode="thread"), ["invocation_mode", "thread", "InvocationMode.SUBPROCESS"]),
    ],
)
def test_a_choice_that_is_none_is_refused_with_the_known_ones(make: Callable[[], object], words: list[str]) -> None:
    error_of(make, *words)


@pytest.mark.parametrize("config", [ProjectConfig, ProfileConfig, ExecutionConfig, RenderConfig])
def test_an_unknown_parameter_is_a_type_error(config: type) -> None:
    with pytest.raises(TypeError, match="no_such_parameter"):
        config(no_such_parameter=1)


def test_the_project_may_be_given_by_position_as_users_of_cosmos_do(project: Path) -> None:
    assert ProjectConfig(project) == ProjectConfig(dbt_project_path=project)


@pytest.mark.parametrize(
    ("given", "in_process"),
    [
        ({}, True),  # dbt is installed here
        ({"dbt_executable_path": "/opt/dbt/bin/dbt"}, False),
        ({"invocation_mode": InvocationMode.SUBPROCESS}, False),
        ({"invocation_mode": InvocationMode.DBT_RUNNER}, True),
    ],
)
def test_how_dbt_is_started(given: dict[str, Any], in_process: bool) -> None:
    pytest.importorskip("dbt.version")
    assert ExecutionConfig(**given).runs_in_process() is in_process


# The project ---------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_project_is_refused(make_dag: MakeDag, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    error_of(
        lambda: make_dag(project_config=ProjectConfig(dbt_project_path=tmp_path / "empty")),
        str(tmp_path / "empty"),
        "dbt_project.yml",
        "dbt_project_path",
    )


def test_a_project_that_is_not_there_is_refused(make_dag: MakeDag, tmp_path: Path) -> None:
    error_of(lambda: make_dag(project_config=ProjectConfig(dbt_project_path=tmp_path / "no")), str(tmp_path / "no"), "manifest_path")


def test_a_project_may_be_elsewhere_if_its_manifest_is_here(make_dag: MakeDag, project: Path, tmp_path: Path) -> None:
    config = ProjectConfig(dbt_project_path="/only/on/workers", manifest_path=project / "target" / "manifest.json")
    assert "sales_run" in make_dag(project_config=config).task_ids


def test_a_missing_manifest_is_refused(make_dag: MakeDag, project: Path) -> None:
    (project / "target" / "manifest.json").unlink()
    manifest_only = {"render_config": RenderConfig(load_method=LoadMode.DBT_MANIFEST)}
    error_of(lambda: make_dag(**manifest_only), str(project / "target" / "manifest.json"), "dbt parse", "manifest_path")


def test_a_broken_manifest_is_refused(make_dag: MakeDag, project: Path) -> None:
    (project / "target" / "manifest.json").write_text('{"metadata": {')
    error_of(make_dag, "manifest.json", "dbt parse")


def test_an_empty_project_has_a_producer_and_no_more(make_dag: MakeDag, tmp_path: Path) -> None:
    folder = write_project(tmp_path / "nothing")
    assert make_dag(project_config=ProjectConfig(dbt_project_path=folder)).task_ids == ["dbt_producer_watcher"]
    mode = ExecutionConfig(execution_mode=ExecutionMode.LOCAL)
    assert make_dag(project_config=ProjectConfig(dbt_project_path=folder), execution_config=mode).task_ids == ["nothing_selected"]


def test_a_home_path_is_understood(make_dag: MakeDag, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project.parent))
    dag = make_dag(project_config=ProjectConfig(dbt_project_path=f"~/{project.name}"))
    assert str(project) in dag.get_task("dbt_producer_watcher").command()


def test_a_manifest_elsewhere_is_taken(make_dag: MakeDag, project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(manifest({"unique_id": "model.shop.other", "resource_type": "model", "package_name": "shop"})))
    dag = make_dag(project_config=ProjectConfig(dbt_project_path=project, manifest_path=other))
    assert set(dag.task_ids) == {"dbt_producer_watcher", "other_run", "dbt_assets"}


# The profile ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    file = tmp_path / "profiles.yml"
    file.write_text("config: {}\nshop:\n  target: dev\n  outputs:\n    dev: {type: duckdb}\n    prod: {type: duckdb}\nempty:\nodd: [1]\n")
    return file


def profile(file: Path | str | None, name: str = "shop", target: str | None = None) -> dict[str, Any]:
    return {"profile_config": ProfileConfig(profile_name=name, target_name=target, profiles_yml_filepath=file)}


def test_a_right_profile_becomes_flags(make_dag: MakeDag, profiles: Path) -> None:
    command = make_dag(**profile(profiles, target="prod")).get_task("dbt_producer_watcher").command()
    at = command.index("--profiles-dir")
    assert command[at:] == ("--profiles-dir", str(profiles.parent), "--target", "prod")
    bare = make_dag(**profile(None)).get_task("dbt_producer_watcher").command()
    assert "--profiles-dir" not in bare
    assert "--target" not in bare


@pytest.mark.parametrize(
    ("name", "variable", "flags"),
    [("shop", "", ()), ("shop", "other", ("--profile", "shop")), ("other", "", ("--profile", "other"))],
)
def test_a_profile_is_named_where_the_project_does_not_say_it(
    make_dag: MakeDag, monkeypatch: pytest.MonkeyPatch, name: str, variable: str, flags: tuple[str, ...]
) -> None:
    """``--profile`` makes dbt parse anew after a plain ``dbt parse``; with ``DBT_PROFILE``, the project's own is not what dbt takes."""
    monkeypatch.setenv("DBT_PROFILE", variable)
    command = make_dag(**profile(None, name)).get_task("dbt_producer_watcher").command()
    assert command[command.index("--project-dir") + 2 :] == flags


def test_an_unknown_profile_is_refused_with_the_known_ones(make_dag: MakeDag, profiles: Path) -> None:
    message = error_of(lambda: make_dag(**profile(profiles, "shp")), "'shp'", "shop", str(profiles))
    assert "config" not in message.partition("it has")[2]


@pytest.mark.parametrize(("name", "known"), [("shop", "dev, prod"), ("empty", "none"), ("odd", "none")])
def test_an_unknown_target_is_refused_with_the_known_ones(make_dag: MakeDag, profiles: Path, name: str, known: str) -> None:
    error_of(lambda: make_dag(**profile(profiles, name, "staging")), "'staging'", known, repr(name))


def test_a_profiles_file_of_another_name_is_refused(make_dag: MakeDag, profiles: Path) -> None:
    other = profiles.rename(profiles.with_name("prod-profiles.yml"))
    error_of(lambda: make_dag(**profile(other)), "prod-profiles.yml", "rename")


def test_a_missing_profiles_file_is_refused(make_dag: MakeDag, tmp_path: Path) -> None:
    error_of(lambda: make_dag(**profile(tmp_path / "no" / "profiles.yml")), str(tmp_path / "no"), "profiles_yml_filepath")


@pytest.mark.parametrize("content", [b"shop: [", b"a: b: c", b"\xff\xfe\x00"])
def test_a_profiles_file_that_is_no_yaml_is_refused(make_dag: MakeDag, profiles: Path, content: bytes) -> None:
    profiles.write_bytes(content)
    error_of(lambda: make_dag(**profile(profiles)), str(profiles), "not valid YAML")


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "text"])
def test_a_profiles_file_without_profiles_is_refused(make_dag: MakeDag, profiles: Path, content: str) -> None:
    profiles.write_text(content)
    error_of(lambda: make_dag(**profile(profiles)), str(profiles), "none")


def test_a_profiles_file_is_never_stored(make_dag: MakeDag, profiles: Path) -> None:
    """Only its path is: the file may hold passwords."""
    profiles.write_text(profiles.read_text().replace("type: duckdb", "type: duckdb, password: hunter2"))
    producer = make_dag(**profile(profiles)).get_task("dbt_producer_watcher")
    assert "hunter2" not in repr(vars(producer))


# Flags ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"dbt_cmd_flags": "--threads 8"}, ["dbt_cmd_flags", "list"]),
        ({"dbt_cmd_global_flags": "--debug"}, ["dbt_cmd_global_flags", "list"]),
        ({"vars": '{"a": 1}'}, ["vars", "dict"]),
        ({"env": ["A=1"]}, ["env", "dict"]),
    ],
)
def test_flags_of_a_wrong_shape_are_refused(make_dag: MakeDag, flags: dict[str, Any], words: list[str]) -> None:
    error_of(lambda: make_dag(operator_args=flags), *words)
