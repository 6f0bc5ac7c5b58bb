"""What is known only when a task runs: mapped task groups, results of other tasks as arguments."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, task, task_group

from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger import RunKey
from ledger_watcher_airflow import DbtTaskGroup, ExecutionConfig, ExecutionMode, ProfileConfig, bash_producer
from ledger_watcher_airflow.states import states_in
from tests.operators.commands import context, dbt_words, options, rendered
from tests.operators.conftest import LEDGER

PRODUCER = "dbt_producer_watcher"


@task
def words() -> list[str]:
    return ["one", "two"]


def mapped(configs: dict[str, Any], operator_args: Any = None, **more: Any) -> DAG:  # noqa: ANN401 - a function of the mapped argument
    """A DAG with the project in a mapped group."""

    @task_group
    def each(word: str) -> None:
        own = {name: value(word) if callable(value) else value for name, value in more.items()}
        DbtTaskGroup("dbt", **{**configs, **own}, operator_args=operator_args(word) if operator_args else None)

    with DAG("bigger", schedule=None) as dag:
        each.expand(word=words())
    return dag


def test_a_mapped_group_has_the_tasks_of_any_other_and_their_arguments_are_resolved_late(configs: dict[str, Any]) -> None:
    args = {
        "vars": lambda word: {"a": {"b": [word]}},
        "env": lambda word: {"A": word},
        "target": lambda word: word,
        "select": lambda word: word,
    }
    dag = mapped(configs, lambda word: {name: make(word) for name, make in args.items()})
    producer = dag.get_task(f"each.dbt.{PRODUCER}")
    assert producer.ledger_group == "each.dbt"
    assert dag.get_task("each.dbt.orders.run").start_from_trigger
    context = {"ti": SimpleNamespace(map_index=1, xcom_pull=lambda **_: None)}
    for value in producer.build.templates.values():
        resolve_from(value, ["one", "two"])
    build = producer.build.rendered(lambda values: producer.render_template(values, context))
    argv = build.argv("dbt")
    assert ('{"a":{"b":["two"]}}' in argv, build.env, argv[argv.index("--target") + 1], argv[argv.index("--select") + 1]) == (
        True,
        {"A": "two"},
        "two",
        "two",
    )


def resolve_from(value: Any, known: list[str]) -> None:  # noqa: ANN401 - any nesting
    """Let a mapped argument find a literal where its XCom would be."""
    if isinstance(value, dict):
        for one in value.values():
            resolve_from(one, known)
    elif isinstance(value, list):
        for one in value:
            resolve_from(one, known)
    elif hasattr(value, "_input"):
        value._input.value["word"] = known


def test_the_producer_waits_for_the_task_whose_result_it_takes(configs: dict[str, Any]) -> None:
    with DAG("bigger", schedule=None) as dag:
        DbtTaskGroup("dbt", **configs, operator_args={"vars": {"words": words()}})
    assert dag.get_task(f"dbt.{PRODUCER}").upstream_task_ids == {"words"}


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ({"operator_args": lambda word: {"threads": word}}, r"operator_args\['threads'\]"),
        ({"operator_args": lambda word: {"pool": word}}, r"operator_args\['pool'\]"),
        ({"operator_args": lambda word: {"callback_args": {"a": [word]}}}, r"operator_args\['callback_args'\]"),
        ({"profile_config": lambda word: ProfileConfig(profile_name="shop", target_name=word)}, r"ProfileConfig\(target_name=...\)"),
        ({"execution_config": lambda word: ExecutionConfig(ledger_uri=word)}, r"ExecutionConfig\(ledger_uri=...\)"),
        ({"execution_config": lambda word: ExecutionConfig(ledger_uri=LEDGER, setup_operator_args={"queue": word})}, r"\['queue'\]"),
    ],
)
def test_what_is_needed_to_draw_the_tasks_cannot_be_known_late(configs: dict[str, Any], what: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){named}.*vars, env"):
        mapped(configs, **what)


def test_variables_of_the_project_are_for_all_of_a_mapped_group(configs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"ProjectConfig\(dbt_vars=...\)"):
        mapped({**configs, "project_config": None}, project_config=lambda word: replace(configs["project_config"], dbt_vars={"w": word}))


def test_a_producer_that_is_a_command_takes_templates(configs: dict[str, Any]) -> None:
    execution = ExecutionConfig(ledger_uri=LEDGER, producer=bash_producer())
    with pytest.raises(ConfigError, match="is made of templates"):
        mapped({**configs, "execution_config": execution}, lambda word: {"vars": {"word": word}})
    command = mapped({**configs, "execution_config": execution}, lambda _: {"vars": {"word": "{{ ti.map_index }}"}})
    assert "ti.map_index" in command.get_task(f"each.dbt.{PRODUCER}").bash_command


def test_each_index_of_a_command_has_the_ledger_that_its_tasks_look_into(configs: dict[str, Any]) -> None:
    """What the producer says to ledger-watcher names the same run as what a node's task of that index watches, in any order of indices."""
    execution = ExecutionConfig(ledger_uri=LEDGER, producer=bash_producer())
    dag = mapped({**configs, "execution_config": execution}, lambda _: {"vars": {"word": "{{ ti.map_index }}"}})
    node_task = dag.get_task("each.dbt.orders.run")
    runs = set()
    for index in (1, 0):
        ctx = context(map_index=index)
        argv = shlex.split(rendered(dag.get_task(f"each.dbt.{PRODUCER}").prepare_for_execution(), ctx).bash_command)
        said = options(argv)
        run = RunKey(dag_id=said["--dag-id"], run_id=said["--run-id"], group=said["--group"], map_index=int(said["--map-index"]))
        assert run == node_task._run(ctx["ti"])
        (variables,) = [word.removeprefix("--vars=") for word in dbt_words(argv) if word.startswith("--vars=")]
        assert json.loads(variables) == {"word": str(index)}
        runs.add(run.prefix)
    assert len(runs) == 2


@pytest.mark.parametrize("mode", [ExecutionMode.LOCAL, ExecutionMode.VIRTUALENV])
def test_each_index_of_a_task_with_a_dbt_of_its_own_has_its_arguments(configs: dict[str, Any], mode: ExecutionMode) -> None:
    more = {"py_requirements": ["dbt-duckdb"]} if mode.in_virtualenv else {}
    given = {**configs, "execution_config": ExecutionConfig(execution_mode=mode)}
    dag = mapped(given, lambda word: {"vars": {"a": word}, "env": {"A": word}, "target": word, **more})
    for task_id in ("raw_seed", "orders.run", "orders.test", "sales_run", "history_snapshot"):
        operator = dag.get_task(f"each.dbt.{task_id}")
        for value in operator.call.templates.values():
            resolve_from(value, ["one", "two"])
        for index, word in enumerate(["one", "two"]):
            ctx = {"ti": SimpleNamespace(map_index=index, xcom_pull=lambda **_: None)}
            call = operator.call.rendered(lambda values, operator=operator, ctx=ctx: operator.render_template(values, ctx))
            argv = call.argv("dbt")
            assert (f'{{"a":"{word}"}}' in argv, call.env, argv[argv.index("--target") + 1]) == (True, {"A": word}, word)


def test_what_says_which_nodes_is_refused_where_each_task_has_its_own(configs: dict[str, Any]) -> None:
    given = {**configs, "execution_config": ExecutionConfig(execution_mode=ExecutionMode.LOCAL)}
    with pytest.raises(ConfigError, match=r"operator_args\['select'\] has no meaning with ExecutionMode.LOCAL"):
        mapped(given, lambda word: {"select": word})
    with pytest.raises(ConfigError, match=r"operator_args\['threads'\]"):
        mapped(given, lambda word: {"threads": word})


@pytest.mark.parametrize(
    ("mapped_states", "unmapped", "state"),
    [
        ({"p_3": "running"}, {"p": "never asked"}, {"p": "running"}),
        ({}, {"p": None}, {"p": None}),  # not expanded yet: it waits for a run before this one
        ({}, {"p": "upstream_failed"}, {"p": "upstream_failed"}),
        ({}, {"p_0": "success", "p_1": "success"}, {}),  # the group has fewer indices now
    ],
)
def test_a_task_that_is_not_expanded_yet_is_not_taken_for_one_that_is_gone(
    mapped_states: dict[str, str], unmapped: dict[str, str | None], state: dict[str, str | None]
) -> None:
    def answer(map_index: int | None, **_: Any) -> dict[str, Any]:
        return {"r": mapped_states if map_index == 3 else unmapped}

    assert states_in(answer, dag_id="d", run_id="r", map_index=3, task_ids=["p"]) == state
