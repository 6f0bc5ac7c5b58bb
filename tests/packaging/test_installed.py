"""The wheel in fresh environments: with dbt alone, with Airflow alone, with both, on each Python that is here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.installed import ROOT, VERSIONS, Environment, interpreter

EXAMPLE = ROOT / "operators" / "ledger_watcher_airflow" / "example_dags" / "dbt" / "jaffle"
PUBLIC = (
    "from ledger_watcher_airflow import DbtDag, DbtTaskGroup, ExecutionConfig, ExecutionMode, ProfileConfig, ProjectConfig, RenderConfig"
)


@pytest.fixture(scope="module", params=VERSIONS)
def python(request: pytest.FixtureRequest) -> Path:
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} on this machine")
    return found


@pytest.fixture(scope="module")
def wheel(dist: Path) -> str:
    (found,) = dist.glob("*.whl")
    return str(found)


@pytest.fixture
def airflow_home(tmp_path: Path) -> Iterator[dict[str, str]]:
    yield {"AIRFLOW_HOME": str(tmp_path), "HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    shutil.rmtree(tmp_path, ignore_errors=True)


def builds_the_example(environment: Environment, folder: Path) -> None:
    """`ledger-watcher run` with the environment's dbt, and what `ls` says of it."""
    project = shutil.copytree(EXAMPLE, folder / "jaffle")
    ledger = f"file://{folder / 'ledger'}"
    dbt = ["--", "dbt", "build", "--project-dir", str(project), "--profiles-dir", str(project)]
    environment.program(
        "ledger-watcher", "run", "--ledger", ledger, *dbt, HOME=str(folder), JAFFLE_DUCKDB_PATH=str(folder / "jaffle.duckdb")
    )
    (run,) = json.loads(environment.program("ledger-watcher", "ls", ledger, "--json"))["runs"]
    assert (run["state"], run["exit_code"]) == ("success", 0)


def test_with_dbt_alone(wheel: str, python: Path, tmp_path: Path) -> None:
    environment = Environment.made(tmp_path / "venv", python, f"{wheel}[dbt]", "dbt-duckdb")
    assert environment.python("import importlib.util as u; print(u.find_spec('airflow'))") == "None"
    builds_the_example(environment, tmp_path)
    with pytest.raises(AssertionError, match="No module named 'airflow'"):
        environment.python(PUBLIC)


def test_with_airflow_alone(wheel: str, python: Path, tmp_path: Path, airflow_home: dict[str, str]) -> None:
    environment = Environment.made(tmp_path / "venv", python, f"{wheel}[airflow,s3]")
    assert environment.python("import importlib.util as u; print(u.find_spec('dbt'))") == "None"
    told = environment.program("airflow", "providers", "get", "ledger-watcher", "--full", **airflow_home)
    assert "Ledger Watcher" in told
    assert "runs dbt once" in told.casefold()
    assert environment.program("airflow", "config", "get-value", "ledger_watcher", "deployment", **airflow_home).strip().endswith("default")
    environment.python(PUBLIC, airflow_home)
    heavy = "import sys, ledger_watcher_airflow; print(sorted({name.partition('.')[0] for name in sys.modules} & {'airflow', 'fsspec', 'msgspec'}))"
    assert environment.python(heavy, airflow_home) == "[]"


def test_with_both(wheel: str, python: Path, tmp_path: Path, airflow_home: dict[str, str]) -> None:
    environment = Environment.made(tmp_path / "venv", python, f"{wheel}[airflow,dbt,s3]", "dbt-duckdb")
    environment.python(PUBLIC, airflow_home)
    builds_the_example(environment, tmp_path)
