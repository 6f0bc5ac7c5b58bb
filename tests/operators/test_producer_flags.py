"""What a user says in operator_args: on dbt's command line, or refused with what to do instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig
from ledger_watcher_airflow.producers.attempt import CommandAttempt
from tests.operators.commands import command, context, dbt_words, rendered
from tests.operators.conftest import LEDGER

PRODUCER = "dbt_producer_watcher"
FLAGS: list[tuple[dict[str, Any], list[str]]] = [
    ({"full_refresh": True}, ["--full-refresh"]),
    ({"fail_fast": True}, ["--fail-fast"]),
    ({"threads": 8}, ["--threads", "8"]),
    ({"target": "prod"}, ["--target", "prod"]),
    ({"select": ["tag:daily", "orders+"]}, ["--select", "tag:daily", "--select", "orders+"]),
    ({"select": "tag:daily"}, ["--select", "tag:daily"]),
    ({"exclude": ["sales"]}, ["--exclude", "sales"]),
    ({"selector": "nightly"}, ["--selector", "nightly"]),
    ({"indirect_selection": "cautious"}, ["--indirect-selection", "cautious"]),
    ({"dbt_cmd_flags": ["--store-failures"]}, ["--store-failures"]),
]
GLOBAL: list[tuple[dict[str, Any], list[str]]] = [
    ({"warn_error": True}, ["--warn-error"]),
    ({"no_version_check": True}, ["--no-version-check"]),
    ({"cache_selected_only": True}, ["--cache-selected-only"]),
    ({"quiet": True}, ["--quiet"]),
    ({"partial_parse": False}, ["--no-partial-parse"]),
    ({"dbt_cmd_global_flags": ["--no-write-json"]}, ["--no-write-json"]),
]
MEANINGLESS: list[dict[str, Any]] = [
    {},
    {"append_env": True, "cancel_query_on_kill": True, "full_refresh": False, "partial_parse": True},
    {"select": None, "vars": None, "install_deps": None},
]


def plain_words(make_dag: Callable[..., DbtDag], operator_args: dict[str, Any]) -> list[str]:
    execution = ExecutionConfig(ledger_uri=LEDGER, dbt_executable_path="dbt")
    return list(make_dag(operator_args=operator_args, execution_config=execution).get_task(PRODUCER).command())


def without(words: list[str], known: list[str]) -> list[str]:
    left = list(words)
    for word in known:
        left.remove(word)
    return left


@pytest.mark.parametrize(("operator_args", "words"), [*FLAGS, *GLOBAL])
def test_a_flag_is_on_dbts_command_line_of_every_producer(
    make_dag: Callable[..., DbtDag], operator_args: dict[str, Any], words: list[str]
) -> None:
    before = plain_words(make_dag, {})
    found = plain_words(make_dag, operator_args)
    added = without(found, before)
    assert added == words
    behind = (operator_args, words) in FLAGS
    assert (found.index(words[0]) > found.index("build")) is behind

    from airflow.providers.standard.operators.empty import EmptyOperator

    elsewhere = command(flags=operator_args)
    argv = rendered(Templates(EmptyOperator(task_id="x"), elsewhere.argv()), context())
    assert without(dbt_words(argv.words), ["dbt", "build", "--project-dir", "/opt/dbt/shop", "--profile", "shop"]) == words


class Templates:
    """A list of templates that is rendered as an operator's field is."""

    def __init__(self, operator: Any, words: list[str]) -> None:  # noqa: ANN401
        self._operator, self.words = operator, words
        self.dbt_attempt, self.task_id = CommandAttempt(), operator.task_id

    def get_dag(self) -> None:
        return None

    def get_template_env(self) -> Any:  # noqa: ANN401
        return self._operator.get_template_env()

    def render_template_fields(self, ctx: Any, env: Any) -> None:  # noqa: ANN401
        self.words = self._operator.render_template(self.words, ctx, env)


@pytest.mark.parametrize("operator_args", MEANINGLESS)
def test_what_is_so_anyway_adds_nothing(make_dag: Callable[..., DbtDag], operator_args: dict[str, Any]) -> None:
    assert plain_words(make_dag, operator_args) == plain_words(make_dag, {})


def test_the_target_of_the_flags_wins(make_dag: Callable[..., DbtDag]) -> None:
    profile = ProfileConfig(profile_name="shop", target_name="dev")
    dag = make_dag(profile_config=profile, operator_args={"target": "prod"})
    words = list(dag.get_task(PRODUCER).command())
    assert words.count("--target") == 1
    assert words[words.index("--target") + 1] == "prod"


@pytest.mark.parametrize(
    ("operator_args", "says"),
    [
        ({"models": ["a"]}, "select"),
        ({"db_name": "a"}, "profile"),
        ({"schema": "a"}, "profile"),
        ({"skip_exit_code": 99}, "leave it out"),
        ({"should_store_compiled_sql": True}, "compiled SQL"),
        ({"manifest_filepath": "a"}, "manifest_path"),
        ({"dbt_executable_path": "a"}, "ExecutionConfig"),
        ({"append_env": False}, "append_env"),
        ({"cancel_query_on_kill": False}, "cancel_query_on_kill"),
        ({"threads": 0}, "threads"),
        ({"threads": "8"}, "threads"),
        ({"full_refresh": "yes"}, "neither True nor False"),
        ({"select": [1]}, "every argument is a string"),
        ({"selector": "a", "select": "b"}, "give one of them"),
    ],
)
def test_what_has_no_meaning_is_refused(make_dag: Callable[..., DbtDag], operator_args: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_dag(operator_args=operator_args)


# dbt deps ------------------------------------------------------------------------------------------------------------

DBT = """#!/bin/sh
echo "$@" >> {folder}/calls
case " $* " in *" deps "*) echo "deps said $WORD"; exit $DEPS;; esac
"""


@pytest.mark.parametrize(("code", "calls"), [(0, ["deps", "build"]), (2, ["deps"])])
def test_deps_go_before_the_build(
    make_dag: Callable[..., DbtDag], tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, calls: list[str]
) -> None:
    dbt = tmp_path / "dbt"
    dbt.write_text(DBT.format(folder=tmp_path))
    dbt.chmod(0o755)
    args = {"install_deps": True, "env": {"DEPS": str(code), "WORD": "hello"}, "vars": {"run": "{{ run_id }}"}, "no_version_check": True}
    execution = ExecutionConfig(ledger_uri=str(tmp_path / "ledger"), dbt_executable_path=dbt)
    producer = make_dag(execution_config=execution, operator_args=args).get_task(PRODUCER)
    if code:
        with pytest.raises(AirflowException, match="`dbt deps` ended with exit code 2"):
            producer.execute(context("manual__1"))
    else:
        producer.execute(context("manual__1"))
    written = (tmp_path / "calls").read_text().splitlines()
    assert [word for line in written for word in line.split() if word in ("deps", "build")] == calls
    assert written[0].startswith("--no-version-check deps --project-dir=")
    assert json.loads(written[0].partition("--vars=")[2]) == {"run": "manual__1"}
    assert "deps said hello" in capsys.readouterr().out
