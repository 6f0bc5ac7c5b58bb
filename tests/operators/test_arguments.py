"""The parameters that users of astronomer-cosmos know: they exist, or an error says what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import (
    DbtDag,
    DbtResourceType,
    DbtTaskGroup,
    ExecutionConfig,
    ExecutionMode,
    InvocationMode,
    LoadMode,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
    SourceRenderingBehavior,
    TestBehavior,
    TestIndirectSelection,
)

MakeDag = Callable[..., DbtDag]
PRODUCER = "dbt_producer_watcher"

KNOWN = {
    ProjectConfig: "dbt_project_path manifest_path manifest_conn_id project_name install_dbt_deps dbt_vars env_vars partial_parse",
    ProfileConfig: "profile_name target_name profiles_yml_filepath profile_mapping",
    ExecutionConfig: "execution_mode invocation_mode setup_operator_args dbt_executable_path dbt_project_path install_dbt_deps "
    "test_indirect_selection virtualenv_dir",
    RenderConfig: "select exclude selector dbt_project_path dbt_executable_path dbt_ls_path load_method test_behavior emit_datasets group_nodes_by_folder source_rendering_behavior ephemeral_models_as_empty_operator "
    "node_converters normalize_task_id normalize_task_display_name should_detach_multiple_parents_tests enable_owner_inheritance "
    "source_pruning",
}
CHOICES = {
    ExecutionMode: "WATCHER LOCAL VIRTUALENV",
    LoadMode: "AUTOMATIC CUSTOM DBT_LS DBT_LS_FILE DBT_MANIFEST",
    TestBehavior: "BUILD NONE AFTER_EACH AFTER_ALL",
    InvocationMode: "SUBPROCESS DBT_RUNNER",
    SourceRenderingBehavior: "NONE ALL WITH_TESTS_OR_FRESHNESS",
    DbtResourceType: "MODEL SEED SNAPSHOT SOURCE TEST EXPOSURE",
}
OPERATOR_ARGS: dict[str, Any] = {
    "install_deps": True,
    "full_refresh": True,
    "vars": {"a": 1},
    "env": {"A": "1"},
    "dbt_cmd_flags": ["--threads", "2"],
    "dbt_cmd_global_flags": ["--no-use-colors"],
    "deferrable": True,
    "poke_interval": 5,
    "timeout": 100,
    "execution_timeout": timedelta(seconds=9),
    "retries": 1,
    "retry_delay": timedelta(seconds=1),
    "queue": "q",
    "pool": "p",
    "trigger_rule": "all_done",
    "callback": print,
    "callback_args": {},
    "append_env": True,
    "fail_fast": True,
}
INSTEAD = {
    ProjectConfig: "models_relative_path seeds_relative_path snapshots_relative_path copy_dbt_packages",
    ProfileConfig: "conn_id profile_args",
    ExecutionConfig: "async_py_requirements",
    RenderConfig: "dbt_deps env_vars enable_mock_profile airflow_vars_to_purge_dbt_ls_cache node_conversion_by_task_group",
}


@pytest.mark.parametrize(("config", "name"), [(config, name) for config, names in KNOWN.items() for name in names.split()])
def test_the_parameters_of_cosmos_exist(config: type, name: str) -> None:
    assert name in {one.name for one in fields(config)}


@pytest.mark.parametrize(("config", "name"), [(config, name) for config, names in KNOWN.items() for name in names.split()])
def test_a_misspelt_parameter_names_the_one_that_is_meant(config: type, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(**{name[:3] + name[4] + name[3] + name[5:]: 1})
    assert f"{config.__name__}({name}=...)" in str(error.value)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in CHOICES.items() for name in names.split()])
def test_the_choices_of_cosmos_exist(kind: type, name: str) -> None:
    assert kind[name].name == name  # type: ignore[index]


def test_the_classes_take_what_those_of_cosmos_take() -> None:
    """By name; ``group_id`` has the same default, and what a group is called is in its tasks' ids."""
    both = {"project_config", "profile_config", "execution_config", "render_config", "operator_args", "on_warning_callback"}
    for kind in (DbtDag, DbtTaskGroup):
        assert both <= inspect.signature(kind.__init__).parameters.keys()
    assert inspect.signature(DbtTaskGroup.__init__).parameters["group_id"].default == "dbt_task_group"


@pytest.mark.parametrize(("config", "name"), [(config, name) for config, names in INSTEAD.items() for name in names.split()])
def test_of_those_that_do_not_an_error_says_what_to_write(config: type, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{config.__name__}\({name}=\.\.\.\) has no meaning here: .*(write|leave it out|belong)"):
        config(**{name: 1})


@pytest.mark.parametrize(
    ("config", "wrong", "meant"),
    [
        (ProjectConfig, "project_dir", "ProjectConfig(dbt_project_path=...)"),
        (ProjectConfig, "manifest", "ProjectConfig(manifest_path=...)"),
        (ProfileConfig, "profiles_yml_path", "ProfileConfig(profiles_yml_filepath=...)"),
        (ExecutionConfig, "ledger_url", "ExecutionConfig(ledger_uri=...)"),
        (RenderConfig, "group_node_by_folder", "RenderConfig(group_nodes_by_folder=...)"),
    ],
)
def test_the_nearest_parameter_is_named(config: type, wrong: str, meant: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(**{wrong: 1})
    assert meant in str(error.value)


@pytest.mark.parametrize("name", OPERATOR_ARGS)
def test_the_operator_args_of_cosmos_are_taken(make_dag: MakeDag, name: str) -> None:
    assert make_dag(operator_args={name: OPERATOR_ARGS[name]}).task_ids


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("full_refesh", "full_refresh"),
        ("retry", "'retries'"),
        ("excution_timeout", "'execution_timeout'"),
        ("image", "kubernetes_producer"),
        ("profiles_dir", "profiles_yml_filepath"),
    ],
)
def test_the_nearest_operator_arg_is_named(make_dag: MakeDag, wrong: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=meant):
        make_dag(operator_args={wrong: 1})


@pytest.mark.parametrize(
    ("mode", "meant"),
    [
        ("KUBERNETES", "kubernetes_producer"),
        ("WATCHER_KUBERNETES", "kubernetes_producer"),
        ("DOCKER", "docker_producer"),
        ("AWS_ECS", "ecs_producer"),
        ("GCP_CLOUD_RUN_JOB", "cloud_run_producer"),
        ("AWS_EKS", "EksPodOperator"),
        ("AIRFLOW_ASYNC", r"ExecutionMode\.WATCHER"),
    ],
)
def test_execution_modes_of_cosmos_say_what_to_write(mode: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=meant):
        getattr(ExecutionMode, mode)
    assert not hasattr(ExecutionMode, mode)


def test_a_mode_that_nobody_has_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="NONSENSE"):
        ExecutionMode.NONSENSE  # type: ignore[attr-defined]  # noqa: B018


# Second places ---------------------------------------------------------------------------------------------------------


def flags(dag: DAG) -> Any:  # noqa: ANN401 - DbtFlags
    return dag.get_task(PRODUCER).build.flags


def test_what_is_said_in_a_second_place_is_the_same_as_in_the_first(make_dag: MakeDag, project: Path, configs: dict[str, Any]) -> None:
    assert flags(make_dag(project_config=ProjectConfig(project, install_dbt_deps=True))).install_deps
    assert not flags(make_dag(project_config=ProjectConfig(project, partial_parse=False))).partial_parse
    ledger = configs["execution_config"].ledger_uri
    assert flags(make_dag(execution_config=ExecutionConfig(ledger_uri=ledger, install_dbt_deps=True))).install_deps
    cautious = ExecutionConfig(ledger_uri=ledger, test_indirect_selection=TestIndirectSelection.CAUTIOUS)
    assert flags(make_dag(execution_config=cautious)).indirect_selection == "cautious"
    there = make_dag(
        project_config=ProjectConfig(manifest_path=project / "target" / "manifest.json", project_name="shop"),
        execution_config=ExecutionConfig(ledger_uri=ledger, dbt_project_path="/opt/dbt/shop"),
    )
    assert there.get_task(PRODUCER).build.project.project_dir == Path("/opt/dbt/shop")


def test_two_places_that_contradict_each_other_are_refused(make_dag: MakeDag, project: Path, configs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="contradict"):
        make_dag(project_config=ProjectConfig(project, install_dbt_deps=True), operator_args={"install_deps": False})
    ledger = configs["execution_config"].ledger_uri
    with pytest.raises(ConfigError, match="leave one of them"):
        make_dag(execution_config=ExecutionConfig(ledger_uri=ledger, dbt_project_path="/opt/dbt"))
    with pytest.raises(ConfigError, match="Where is the dbt project"):
        make_dag(project_config=ProjectConfig(manifest_path=project / "target" / "manifest.json"))


def test_a_callback_for_warnings_may_stand_beside(make_dag: MakeDag, configs: dict[str, Any]) -> None:
    def tell(_: object) -> None:
        pass

    assert make_dag(on_warning_callback=tell).get_task("orders.run")._warning_callbacks == (tell,)
    with DAG("bigger", schedule=None) as dag:
        DbtTaskGroup("dbt", **configs, on_warning_callback=tell)
    assert dag.get_task("dbt.orders.test")._warning_callbacks == (tell,)
    with pytest.raises(ConfigError, match="the same"):
        make_dag(on_warning_callback=tell, operator_args={"on_warning_callback": tell})


def test_a_ledger_for_all_is_enough(configs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A DAG file of Cosmos that says nothing of execution works after changing its imports."""
    monkeypatch.setenv("AIRFLOW__LEDGER_WATCHER__URI", "s3://bucket/ledgers")
    del configs["execution_config"]
    assert DbtDag("shop", **configs).get_task(PRODUCER).ledger.uri == "s3://bucket/ledgers"


def test_ephemeral_models_are_always_empty() -> None:
    with pytest.raises(ConfigError, match="nothing that a task"):
        RenderConfig(ephemeral_models_as_empty_operator=False)
