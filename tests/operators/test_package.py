"""What is public, what Airflow loads on its own, and what a wheel holds."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime, timedelta, timezone
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow
import jsonschema
import pluggy
import pytest
from airflow import policies

import ledger_watcher_airflow
from ledger_watcher_airflow import DbtConsumerWatcherSensor, policy, provider_info
from tests.operators.runs import task_id_born

ROOT = Path(__file__).parents[2]


def modules_after(code: str) -> set[str]:
    """The modules that a new interpreter holds after this code."""
    script = f"import sys; before = set(sys.modules)\n{code}\nprint('\\n'.join(set(sys.modules) - before))"
    return set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split())


# Names ---------------------------------------------------------------------------------------------------------------


def test_every_public_name_resolves() -> None:
    found: dict[str, Any] = {}
    exec("from ledger_watcher_airflow import *", found)  # noqa: S102 - it is the statement under test
    assert set(ledger_watcher_airflow.__all__) <= set(found)
    assert sorted(ledger_watcher_airflow.__all__) == ledger_watcher_airflow.__all__


def test_every_public_name_is_one_of_those_that_are_found() -> None:
    """And one more, which is for Airflow to find."""
    assert (set(ledger_watcher_airflow.__all__) - {"__version__"}) | {"NodeTrigger"} == set(ledger_watcher_airflow._WHERE)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoSuchName"):
        _ = ledger_watcher_airflow.NoSuchName
    with pytest.raises(ImportError):
        exec("from ledger_watcher_airflow import NoSuchName", {})  # noqa: S102


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Airflow imports it in every process, for the provider's information."""
    found = modules_after("from ledger_watcher_airflow import provider_info; provider_info.get_provider_info()")
    ours = {name for name in found if name.startswith("ledger_watcher")}
    assert ours == {"ledger_watcher", "ledger_watcher_airflow", "ledger_watcher_airflow.provider_info"}
    assert not {name.partition(".")[0] for name in found} & {"airflow", "dbt", "fsspec", "msgspec", "yaml"}


# Provider ------------------------------------------------------------------------------------------------------------


def test_the_provider_s_information_imports_nothing() -> None:
    tree = ast.parse(Path(provider_info.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [node.module for node in imports if isinstance(node, ast.ImportFrom)] == ["__future__"]
    assert len(imports) == 1
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_the_provider_s_information_is_as_airflow_wants_it() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    information = provider_info.get_provider_info()
    jsonschema.validate(information, schema)
    assert information["package-name"] == "ledger-watcher"


def test_airflow_finds_provider_and_policy_by_their_entry_points() -> None:
    (provider,) = [
        found for found in entry_points(group="apache_airflow_provider") if found.name == "provider_info" and "ledger" in found.value
    ]
    assert provider.load()() == provider_info.get_provider_info()
    (hook,) = [found for found in entry_points(group="airflow.policy") if found.name == "ledger_watcher"]
    assert hook.load() is policy


# Policy --------------------------------------------------------------------------------------------------------------


def call_hook(task_instance: object) -> None:
    """As Airflow does: through its plugin manager, with its own specification."""
    manager = pluggy.PluginManager(policies.local_settings_hookspec.project_name)
    manager.add_hookspecs(policies)
    manager.register(policy)
    manager.check_pending()
    manager.hook.task_instance_mutation_hook(task_instance=task_instance, dag_run=None)


THEN = datetime(2026, 7, 31, 12, 0, 0, tzinfo=timezone.utc)


def ti(operator: str, state: str | None = None, *, born: float = 60) -> SimpleNamespace:
    """A task instance with an end; its try was created so many seconds after that."""
    created = task_id_born(THEN + timedelta(seconds=born))
    return SimpleNamespace(id=created, operator=operator, state=state, end_date=THEN, duration=3.0)


@pytest.mark.parametrize("state", [None, "success", "failed"])
@pytest.mark.parametrize("operator", sorted(policy.OPERATORS))
def test_an_old_end_of_our_tasks_is_forgotten(operator: str, state: str | None) -> None:
    """While Airflow clears it, a task still has its old state."""
    task = ti(operator, state)
    call_hook(task)
    assert (task.end_date, task.duration) == (None, None)


@pytest.mark.parametrize(
    "task",
    [
        ti("BashOperator"),
        ti("DbtProducerWatcherOperator"),
        ti("DbtRunWatcherOperator", "success", born=-60),
        ti("DbtRunWatcherOperator", "up_for_retry"),
        ti(""),
    ],
)
def test_the_end_of_all_others_stays(task: SimpleNamespace) -> None:
    """Its own end, and the end that a retry's delay is counted from."""
    call_hook(task)
    assert (task.end_date, task.duration) == (THEN, 3.0)


class Hostile:
    """A task instance of an Airflow to come."""

    operator = "DbtRunWatcherOperator"

    @property
    def state(self) -> str:
        raise RuntimeError("not any more")


class Frozen(SimpleNamespace):
    """One that may not be changed."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


@pytest.mark.parametrize("task", [None, object(), Hostile(), Frozen(operator="DbtRunWatcherOperator", state=None), ti([])])  # type: ignore[arg-type]
def test_the_hook_never_raises(task: object) -> None:
    """It runs in the scheduler, for every task of every DAG."""
    call_hook(task)


def test_the_hook_knows_all_our_consumers() -> None:
    def names(cls: type) -> set[str]:
        return {cls.__name__}.union(*(names(sub) for sub in cls.__subclasses__() if sub.__module__.startswith("ledger_watcher_airflow")))

    assert names(DbtConsumerWatcherSensor) | {"DbtAssetsOperator"} == policy.OPERATORS


# The wheel -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel built from this tree."""
    uv = next((str(path) for path in [ROOT / ".tools" / "bin" / "uv", shutil.which("uv")] if path and Path(path).exists()), None)
    if uv is None:
        pytest.skip("uv is not here")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv, "build", "--wheel", "--out-dir", str(folder), str(ROOT)], check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_a_wheel_holds_both_packages_and_nothing_else(wheel: set[str]) -> None:
    """A top-level package named operators would hide users' own plugins/operators."""
    top = {name.partition("/")[0] for name in wheel if ".dist-info" not in name}
    assert top == {"ledger_watcher", "ledger_watcher_airflow"}
    assert not [name for name in wheel if name.endswith(".pyc") or "__pycache__" in name or "/target/" in name or "/logs/" in name]
    assert not [name for name in wheel if name.startswith("tests/") or Path(name).name.startswith(("test_", "conftest"))]


@pytest.mark.parametrize(
    "name",
    [
        "ledger_watcher/py.typed",
        "ledger_watcher/project/names.py",
        "ledger_watcher_airflow/__init__.py",
        "ledger_watcher_airflow/py.typed",
        "ledger_watcher_airflow/provider_info.py",
        "ledger_watcher_airflow/policy.py",
    ],
)
def test_a_wheel_holds_what_is_needed(wheel: set[str], name: str) -> None:
    assert name in wheel


def test_a_wheel_holds_every_module_of_the_tree(wheel: set[str]) -> None:
    sources = [(ROOT, "ledger_watcher"), (ROOT / "operators", "ledger_watcher_airflow")]
    tree = {path.relative_to(base).as_posix() for base, package in sources for path in (base / package).rglob("*.py")}
    assert tree <= wheel


def test_a_wheel_holds_the_example_and_its_project(wheel: set[str]) -> None:
    example = [name for name in wheel if name.startswith("ledger_watcher_airflow/example_dags/")]
    assert [name for name in example if name.endswith(".py") and name.count("/") == 2]
    assert [name for name in example if name.endswith("dbt_project.yml")]
