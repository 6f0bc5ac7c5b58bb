"""The producer as a command: what it says, and that hostile texts arrive as they are, through Jinja and a real shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from ledger_watcher.errors import ConfigError
from ledger_watcher.verdict import rendered_hash
from ledger_watcher_airflow import (
    DbtConsumerWatcherSensor,
    DbtDag,
    DbtTaskGroup,
    ExecutionConfig,
    ProducerCommand,
    ProfileConfig,
    ProjectConfig,
    bash_producer,
)
from ledger_watcher_airflow.producers.command import make_producer
from tests.operators.commands import HOSTILE, NODES, PLAIN, command, context, dbt_words, options, rendered
from tests.operators.conftest import LEDGER

DUMP = "import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open(os.environ['DUMP'], 'w'))"


def ran(made: ProducerCommand, ctx: dict[str, Any], folder: Path, *, native: bool = False) -> tuple[list[str], dict[str, str]]:
    """What the command gets when a real bash runs it."""
    file = folder / "dump.json"
    producer = bash_producer(watcher=[sys.executable, "-c", DUMP], env={"DUMP": str(file)}, cwd=str(folder))
    with DAG("shop", schedule=None, render_template_as_native_obj=native):
        operator = make_producer(producer, made)
    rendered(operator, ctx).execute(ctx)
    assert [path.name for path in folder.iterdir()] == ["dump.json"]
    argv, env = json.loads(file.read_text())
    return argv, env


def nodes_of(task: DbtConsumerWatcherSensor) -> list[str]:
    watched: list[str] = task.start_trigger_args.trigger_kwargs["nodes"]
    return watched


def variables(argv: list[str]) -> Any:  # noqa: ANN401 - JSON is any
    (word,) = [word for word in dbt_words(argv) if word.startswith("--vars=")]
    return json.loads(word.removeprefix("--vars="))


# What it says --------------------------------------------------------------------------------------------------------


def test_it_names_the_run_of_the_task(tmp_path: Path) -> None:
    argv, _ = ran(command(ledger_group="outer.dbt", deployment="blue"), context(), tmp_path)
    assert argv[0] == "run"
    assert options(argv) == {
        "--ledger": "s3://company-ledgers/prod",
        "--deployment": "blue",
        "--group": "outer.dbt",
        "--dag-id": "shop",
        "--run-id": PLAIN,
        "--map-index": "-1",
        "--try-number": "2",
        "--clear-number": "1",
        "--producer-started-at": "2026-07-31T12:00:00+00:00",
        "--since": "2026-07-31T11:00:00+00:00",
        "--done": "",
        "--only": "",
        "--after": "",
        "--task-id": "",
        "--project-dir": "/opt/dbt/shop",
        "--rendered": rendered_hash(NODES),
    }
    assert dbt_words(argv) == ["dbt", "build", "--project-dir", "/opt/dbt/shop", "--profile", "shop"]


def test_a_mapped_task_names_its_index(tmp_path: Path) -> None:
    argv, _ = ran(command(), context(map_index=3), tmp_path)
    assert options(argv)["--map-index"] == "3"


def test_deps_are_asked_for(tmp_path: Path) -> None:
    argv, _ = ran(command(flags={"install_deps": True}), context(), tmp_path)
    assert "--deps" in options(argv)


def test_operators_without_a_task_for_all_are_what_the_callable_makes(make_dag: Callable[..., DbtDag]) -> None:
    seen: list[ProducerCommand] = []

    def own(made: ProducerCommand) -> BashOperator:
        seen.append(made)
        return BashOperator(task_id=made.task_id, bash_command=made.shell(), **made.task_args)

    execution = ExecutionConfig(ledger_uri=LEDGER, producer=own, dbt_executable_path="/opt/venv/bin/dbt")
    dag = make_dag(execution_config=execution, operator_args={"queue": "far", "priority_weight": 3})
    task = dag.get_task("dbt_producer_watcher")
    assert type(task) is BashOperator
    assert (task.queue, task.priority_weight, task.do_xcom_push) == ("far", 10_000, False)
    words = rendered(task, context()).bash_command
    assert "/opt/venv/bin/dbt' 'build'" in words
    watched = [node for other in dag.tasks if isinstance(other, DbtConsumerWatcherSensor) for node in nodes_of(other)]
    assert watched
    assert f"'--rendered={rendered_hash(watched)}'" in words
    assert len(seen) == 1


def test_in_a_group_the_command_names_the_group(configs: dict[str, Any]) -> None:
    configs["execution_config"] = ExecutionConfig(ledger_uri=LEDGER, producer=bash_producer())
    with DAG("bigger", schedule=None) as dag:
        DbtTaskGroup("dbt", **configs)
    task = dag.get_task("dbt.dbt_producer_watcher")
    assert "'--group=dbt'" in rendered(task, context()).bash_command


def test_project_and_profile_may_be_elsewhere(configs: dict[str, Any], project: Path) -> None:
    configs["project_config"] = ProjectConfig("/opt/far/shop", manifest_path=project / "target" / "manifest.json")
    configs["profile_config"] = ProfileConfig(profile_name="shop", profiles_yml_filepath="/opt/far/profiles.yml")
    configs["execution_config"] = ExecutionConfig(ledger_uri=LEDGER, producer=bash_producer())
    assert "'--profiles-dir' '/opt/far'" in rendered(DbtDag("far", **configs).get_task("dbt_producer_watcher"), context()).bash_command


# Hostile texts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_arrive_as_they_are(text: str, native: bool, tmp_path: Path) -> None:
    """As run id, variable, key of one, value from the run's conf, environment variable, path and flag."""
    made = command(
        dbt_vars={"given": text, text or "x": [text, {"deep": text}], "number": 1.5, "nothing": None, "yes": True},
        env_vars={"GIVEN": text},
        flags={
            "vars": {"conf": "{{ dag_run.conf['word'] }}", "deep": [{"more": "<{{ dag_run.conf['word'] }}>"}], "own": "day {{ run_id }}"},
            "env": {"CONF": "{{ dag_run.conf['word'] }}"},
            "dbt_cmd_flags": ["--log-path", text],
        },
        folder=f"/opt/{text}",
    )
    argv, env = ran(made, context(text, conf={"word": text}), tmp_path, native=native)
    assert options(argv)["--run-id"] == text
    assert variables(argv) == {
        "given": text,
        text or "x": [text, {"deep": text}],
        "number": 1.5,
        "nothing": None,
        "yes": True,
        "conf": text,
        "deep": [{"more": f"<{text}>"}],
        "own": f"day {text}",
    }
    assert (env["GIVEN"], env["CONF"]) == (text, text)
    assert dbt_words(argv)[-2:] == ["--log-path", text]
    assert Path(options(argv)["--project-dir"]) == Path(f"/opt/{text}")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_shell_form_carries_the_environment_too(shell: str, text: str, tmp_path: Path) -> None:
    """As the SSH producer sends it: one string for the login shell of another host."""
    made = command(env_vars={"GIVEN": text}, flags={"env": {"CONF": "{{ dag_run.conf['word'] }}"}})
    shelled = make_producer(lambda one: BashOperator(task_id=one.task_id, bash_command=one.shell([sys.executable, "-c", DUMP])), made)
    line = rendered(shelled, context(text, conf={"word": text})).bash_command
    file = tmp_path / "dump.json"
    subprocess.run([shell, "-c", line], check=True, cwd=tmp_path, env={**os.environ, "DUMP": str(file)})
    argv, env = json.loads(file.read_text())
    assert options(argv)["--run-id"] == text
    assert (env["GIVEN"], env["CONF"]) == (text, text)
    assert [path.name for path in tmp_path.iterdir()] == ["dump.json"]


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"env_vars": {"DBT_ENV_SECRET_GIT": "hunter2"}},
        {"env_vars": {"SNOWFLAKE_PASSWORD": "hunter2"}},
        {"flags": {"env": {"AWS_SECRET_ACCESS_KEY": "hunter2"}}},
        {"dbt_vars": {"api_token": "hunter2"}},
        {"flags": {"vars": {"private-key": "hunter2", "private_key": "hunter2"}}},
    ],
)
def test_what_looks_like_a_secret_is_to_be_given_by_reference(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="by reference") as caught:
        command(**more)
    assert "hunter2" not in str(caught.value)


def test_a_variable_without_a_proper_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="'A B' is no name"):
        command(env_vars={"A B": "x"})


@pytest.mark.parametrize(
    ("producer", "says"),
    [
        (lambda _: None, "return an operator"),
        (lambda _: EmptyOperator(task_id="other"), "task_id=command.task_id"),
    ],
)
def test_a_callable_that_makes_no_producer_is_refused(make_dag: Callable[..., DbtDag], producer: Callable[..., Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_dag(execution_config=ExecutionConfig(ledger_uri=LEDGER, producer=producer))


def test_the_command_is_not_the_users_to_give() -> None:
    with pytest.raises(ConfigError, match="leave it out"):
        bash_producer(bash_command="dbt build")
