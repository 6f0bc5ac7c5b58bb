"""Settings that users of astronomer-cosmos may write in a second place: here they become what is written in the first."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow.config.arguments import unknown
from ledger_watcher_airflow.config.execution import ExecutionConfig
from ledger_watcher_airflow.config.project import ProjectConfig

_INSTEAD = {
    "dbt_executable": "write ExecutionConfig(dbt_executable_path=...)",
    "profiles_dir": "write ProfileConfig(profiles_yml_filepath=...)",
    "profile_config": "write DbtDag(profile_config=...)",
    "project_config": "write DbtDag(project_config=...)",
    "task_id": "ids come from the project; see RenderConfig(normalize_task_id=...)",
    "image": "write ExecutionConfig(producer=kubernetes_producer(image=...)), or docker_producer",
    "get_logs": "give it to kubernetes_producer(...), whose operator's it is",
    "is_delete_operator_pod": "give it to kubernetes_producer(...), whose operator's it is",
}


def settled(project: ProjectConfig, execution: ExecutionConfig, given: Mapping[str, Any]) -> tuple[ProjectConfig, dict[str, Any]]:
    """The project and the ``operator_args`` with what is said elsewhere.

    - ``ExecutionConfig(dbt_project_path=...)`` is ``ProjectConfig(dbt_project_path=...)``;
    - ``install_dbt_deps=True`` of either is ``operator_args={"install_deps": True}``;
    - ``ProjectConfig(partial_parse=False)`` is ``operator_args={"partial_parse": False}``;
    - ``ExecutionConfig(test_indirect_selection=...)`` is ``operator_args={"indirect_selection": ...}``.

    :raises ConfigError: both places say something, and not the same, or no place says where the project is.
    """
    said: dict[str, tuple[str, Any]] = {}
    if project.install_dbt_deps:
        said["install_deps"] = "ProjectConfig(install_dbt_deps=True)", True
    if execution.install_dbt_deps:
        said["install_deps"] = "ExecutionConfig(install_dbt_deps=True)", True
    if not project.partial_parse:
        said["partial_parse"] = "ProjectConfig(partial_parse=False)", False
    if execution.test_indirect_selection is not None:
        word = execution.test_indirect_selection.value
        said["indirect_selection"] = f"ExecutionConfig(test_indirect_selection={word!r})", word
    for name, (where, value) in said.items():
        if given.get(name, value) != value:
            raise ConfigError(f"{where} and operator_args[{name!r}]={given[name]!r} contradict each other; leave one of them out.")
    return _placed(project, execution), {**given, **{name: value for name, (_, value) in said.items()}}


def check_names(given: Mapping[str, Any], known: frozenset[str]) -> None:
    """See to it that ``operator_args`` are arguments of the tasks.

    :param known: those that are not Airflow's own.
    :raises ConfigError: one is not; names the nearest.
    """
    odd = [name for name in given if name not in known]
    if not odd:
        return
    from airflow.sdk import BaseOperator  # noqa: PLC0415

    airflow = {name for name in inspect.signature(BaseOperator.__init__).parameters if name not in ("self", "kwargs", "task_id")}
    for name in odd:
        if name not in airflow:
            raise unknown("operator_args[{!r}]", name, known | airflow, _INSTEAD)


def _placed(project: ProjectConfig, execution: ExecutionConfig) -> ProjectConfig:
    if execution.dbt_project_path is None:
        if project.dbt_project_path is None:
            raise ConfigError("Where is the dbt project? Give ProjectConfig(dbt_project_path='...'), the folder of dbt_project.yml.")
        return project
    if project.dbt_project_path is not None:
        raise ConfigError(
            "ProjectConfig(dbt_project_path=...) and ExecutionConfig(dbt_project_path=...) are the same here, where dbt runs; leave one of them "
            "out. What is drawn comes from ProjectConfig(manifest_path=...)."
        )
    return replace(project, dbt_project_path=execution.dbt_project_path)
