"""The producer that makes its own dbt: a real environment, made once, also if two tasks want it at the same moment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger import ChainReader, RunKey
from ledger_watcher.records import AttemptStarted
from ledger_watcher.storage import LocalStore
from ledger_watcher_airflow import (
    DbtDag,
    DbtProducerWatcherVirtualenvOperator,
    DbtRunVirtualenvOperator,
    ExecutionConfig,
    ExecutionMode,
    ProfileConfig,
)
from ledger_watcher_airflow.producers.venvs import BuildFailed, VenvSpec, default_folder, ready_venv
from tests.operators.commands import context

ROOT = Path(__file__).parents[2]
PRODUCER = "dbt_producer_watcher"
FAKE = """
import json, os, sys
def main():
    line = {"name": "MainReportVersion", "level": "info", "msg": "fake", "ts": "2026-01-01T00:00:00Z", "invocation_id": "i"}
    print(json.dumps({"info": line, "data": {"version": "=1.99.0"}}), flush=True)
    print("python", sys.prefix, "said", os.environ.get("WORD"), "to", *sys.argv[1:], flush=True)
"""
BUILD = """
import sys
from pathlib import Path
from ledger_watcher_airflow.producers.venvs import VenvSpec, ready_venv
said = []
print(ready_venv(VenvSpec(requirements=(sys.argv[1],), install_options=tuple(sys.argv[3:])), Path(sys.argv[2]), said.append))
print(sum(line.startswith("Making the virtual environment") for line in said))
"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny distributions: one that brings a dbt, one that does not."""
    folder = tmp_path_factory.mktemp("wheels")
    for name, script in (("tinydbt", "dbt"), ("tinyother", "other")):
        source = folder / name
        source.mkdir()
        (source / f"{name}.py").write_text(FAKE)
        (source / "pyproject.toml").write_text(
            f'[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
            f'[project]\nname = "{name}"\nversion = "1.0"\n[project.scripts]\n{script} = "{name}:main"\n'
            f'[tool.hatch.build.targets.wheel]\ninclude = ["{name}.py"]\n'
        )
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, check=True, cwd=source, capture_output=True)
    return folder


@pytest.fixture(params=["uv", "venv"])
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """With uv on PATH, and without."""
    path = [part for part in os.environ["PATH"].split(os.pathsep) if not (Path(part) / "uv").exists()]
    if request.param == "uv":
        found = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
        assert Path(found).exists(), "uv is needed; `make env` installs it"
        path.insert(0, str(Path(found).parent))
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    assert (shutil.which("uv") is not None) is (request.param == "uv")
    return str(request.param)


def spec(wheels: Path, name: str = "tinydbt") -> VenvSpec:
    return VenvSpec(requirements=(f"{name}==1.0",), install_options=("--no-index", "--find-links", str(wheels)))


def make(make_dag: Callable[..., DbtDag], wheels: Path, tmp_path: Path, name: str = "tinydbt", **more: Any) -> Any:  # noqa: ANN401
    execution = ExecutionConfig(
        ledger_uri=str(tmp_path / "ledger"), execution_mode=ExecutionMode.WATCHER_VIRTUALENV, virtualenv_dir=tmp_path / "venvs"
    )
    wanted = {"py_requirements": [f"{name}==1.0"], "pip_install_options": ["--no-index", "--find-links", str(wheels)]}
    return make_dag(execution_config=execution, operator_args={**wanted, **more}).get_task(PRODUCER)


def test_it_runs_the_dbt_of_its_environment(
    make_dag: Callable[..., DbtDag], wheels: Path, tmp_path: Path, tool: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Templates in vars and env are rendered; the environment has neither this package nor Airflow."""
    args = {"vars": {"run": "{{ run_id }}"}, "env": {"WORD": "{{ dag_run.conf['word'] }}"}}
    producer = make(make_dag, wheels, tmp_path, **args)
    assert type(producer) is DbtProducerWatcherVirtualenvOperator
    producer.execute(context("manual__1", conf={"word": "{{ hello }}"}))
    (venv,) = [path for path in (tmp_path / "venvs").iterdir() if path.is_dir()]
    out = capfd.readouterr().out
    assert f"python {venv} said {{{{ hello }}}} to " in out
    assert '--vars {"run":"manual__1"}' in out
    first = ChainReader(LocalStore(str(tmp_path / "ledger")), RunKey(dag_id="shop", run_id="manual__1")).read()[0].record
    assert isinstance(first, AttemptStarted)
    assert first.command[0] == str(venv / "bin" / "dbt")
    assert first.invocation == "subprocess"
    for package in ("airflow", "ledger_watcher"):
        assert (
            subprocess.run([venv / "bin" / "python", "-c", f"import {package}"], check=False, cwd=tmp_path, capture_output=True).returncode
            == 1
        )


def test_an_operator_of_one_command_shares_it(wheels: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same environment, whoever needs it first."""
    (tmp_path / "dbt_project.yml").write_text("name: shop\n")
    one = spec(wheels)
    venv = ready_venv(one, tmp_path / "venvs", lambda _: None)
    operator = DbtRunVirtualenvOperator(
        task_id="run",
        project_dir=tmp_path,
        profile_config=ProfileConfig(profile_name="shop"),
        virtualenv_dir=tmp_path / "venvs",
        py_requirements=list(one.requirements),
        pip_install_options=list(one.install_options),
        env={"WORD": "{{ run_id }}"},
    )
    operator.execute(context("manual__1"))
    out = capfd.readouterr().out
    assert f"python {venv} said manual__1 to " in out
    assert "Making the virtual environment" not in out


def test_two_that_want_it_at_once_make_it_once(wheels: Path, tmp_path: Path) -> None:
    one = spec(wheels)
    command = [sys.executable, "-c", BUILD, *one.requirements, str(tmp_path / "venvs"), *one.install_options]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(4)]
    said = [process.communicate()[0].split() for process in both]
    assert [process.returncode for process in both] == [0] * 4
    assert len({path for path, _ in said}) == 1
    assert sorted(made for _, made in said) == ["0", "0", "0", "1"]
    assert subprocess.run([Path(said[0][0]) / "bin" / "dbt"], check=True, capture_output=True).stdout


def test_what_was_left_unfinished_is_made_anew(wheels: Path, tmp_path: Path) -> None:
    one = spec(wheels)
    half = tmp_path / one.digest()
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "dbt").write_text("half")
    said: list[str] = []
    venv = ready_venv(one, tmp_path, said.append)
    assert venv == half
    assert (venv / "bin" / "dbt").read_text() != "half"
    made = len(said)
    assert ready_venv(one, tmp_path, said.append) == venv
    assert len(said) == made > 0


def test_other_requirements_are_another_environment(wheels: Path) -> None:
    one = spec(wheels)
    others = [
        spec(wheels, "tinyother"),
        VenvSpec(requirements=one.requirements),
        VenvSpec(requirements=one.requirements, install_options=one.install_options, system_site_packages=True),
        VenvSpec(requirements=one.requirements, install_options=one.install_options, python="/usr/bin/python3"),
    ]
    assert len({one.digest(), *(other.digest() for other in others)}) == 5
    assert VenvSpec(requirements=("a", "b")).digest() == VenvSpec(requirements=("b", "a", "a")).digest()


def test_what_cannot_be_installed_is_named_and_may_be_tried_again(
    make_dag: Callable[..., DbtDag], wheels: Path, tmp_path: Path, tool: str
) -> None:
    with pytest.raises(BuildFailed, match="no-such-thing"):
        ready_venv(VenvSpec(requirements=("no-such-thing==1",), install_options=("--no-index",)), tmp_path, lambda _: None)
    with pytest.raises(AirflowException, match="no-such-thing") as caught:
        make(make_dag, wheels, tmp_path, name="no-such-thing").execute(context())
    assert not isinstance(caught.value, AirflowFailException)


def test_requirements_without_dbt_are_named(make_dag: Callable[..., DbtDag], wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match=r"\['tinyother==1.0'\] install no dbt"):
        make(make_dag, wheels, tmp_path, name="tinyother").execute(context())


def test_a_folder_that_cannot_be_written_is_named(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Give a folder that the worker can write"):
        ready_venv(spec(wheels), tmp_path / "file" / "venvs", lambda _: None)


def test_the_folder_of_environments_is_in_the_cache_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "ledger_watcher" / "venvs"


@pytest.mark.parametrize(
    ("execution", "operator_args", "says"),
    [
        ({"execution_mode": "watcher_virtualenv"}, {}, "py_requirements is empty"),
        ({"execution_mode": "watcher_virtualenv"}, {"py_requirements": "dbt-core"}, "py_requirements is a string"),
        ({}, {"py_requirements": ["dbt-core"]}, "ExecutionMode.WATCHER_VIRTUALENV"),
        ({"virtualenv_dir": "venvs"}, {}, "ExecutionMode.WATCHER_VIRTUALENV"),
        ({"execution_mode": "watcher_virtualenv", "dbt_executable_path": "dbt"}, {}, "leave dbt_executable_path"),
        ({"execution_mode": "watcher_virtualenv", "invocation_mode": "dbt_runner"}, {}, "leave dbt_executable_path"),
        ({"execution_mode": "watcher_virtualenv", "producer": print}, {}, "leave invocation_mode out"),
        ({"invocation_mode": "subprocess", "producer": print}, {}, "leave invocation_mode out"),
        ({"producer": "kubernetes"}, {}, "cannot be called"),
    ],
)
def test_contradictions_are_refused(
    make_dag: Callable[..., DbtDag], execution: dict[str, Any], operator_args: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        make_dag(execution_config=ExecutionConfig(ledger_uri="s3://b/l", **execution), operator_args=operator_args)


def test_what_is_in_an_environment_stands_in_it(wheels: Path, tmp_path: Path) -> None:
    venv = ready_venv(spec(wheels), tmp_path, lambda _: None)
    assert json.loads((venv / "ledger-watcher-ready.json").read_text())["requirements"] == ["tinydbt==1.0"]
