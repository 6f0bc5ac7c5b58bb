"""docs/cli.md is what the commands do: their options, their exit codes, the keys and types of their JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli import main
from ledger_watcher.ledger import RunKey
from ledger_watcher.records import Artifact, HookFinished, NodeProgress, Outcome
from tests.core.fakes import FakeDbt
from tests.core.ledgers import at, began, dbt, ended, ends, log, plan, segment, starts, truncate, write, write_open

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
COMMANDS: Mapping[str, click.Command] = main.commands
RUN = RunKey("shop", "run-1")


def section(title: str, level: str = "##") -> str:
    """The text below a heading, down to the next one of its level or above."""
    found = re.search(rf"^{level} {re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section {title!r}"
    return found[1]


def table(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose first heading is that."""
    lines = iter(text.splitlines())
    assert any(line.startswith(f"| {first} |") for line in lines), f"there is no table of {first}s"
    next(lines)
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


# Options --------------------------------------------------------------------------------------------------------------


def options_table(command: click.Command) -> str:
    """As the page has to have it."""
    lines = ["| option | default | variable | meaning |", "|---|---|---|---|"]
    context = click.Context(command)
    for option in (each for each in command.params if isinstance(each, click.Option)):
        default = option.get_default(context)
        known = isinstance(default, (str, int, float)) and default not in (False, "")  # of click's own word for "none" there are several
        shown = "required" if option.required else f"`{default}`" if known else ""
        named = ", ".join(f"`{name}`" for name in option.opts)
        value = "" if option.is_flag else f" {_value(option, context)}"
        help_text = (option.help or "").replace("|", "\\|")
        lines.append(f"| {named}{value} | {shown} | {f'`{option.envvar}`' if option.envvar else ''} | {help_text} |")
    return "\n".join(lines) + "\n"


def _value(option: click.Option, context: click.Context) -> str:
    if isinstance(option.type, click.Choice):
        return " or ".join(option.type.choices)
    numbers = {"integer": "N", "integer range": "N", "float range": "SECONDS"}
    return option.metavar or numbers.get(option.type.name) or "TEXT"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_of_each_command(name: str) -> None:
    """As --help tells them, and each of them has a meaning."""
    command = COMMANDS[name]
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert all(each.help for each in options)
    if options:
        assert options_table(command) in section(f"`ledger-watcher {name}`"), options_table(command)
    else:
        assert "| option |" not in section(f"`ledger-watcher {name}`")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_arguments_of_each_command(name: str) -> None:
    (usage,) = re.findall(r"^    ledger-watcher (.*)$", section(f"`ledger-watcher {name}`"), re.MULTILINE)
    words = COMMANDS[name].get_usage(click.Context(COMMANDS[name], info_name=name)).removeprefix("Usage: ")
    assert usage == words


def test_there_is_no_other_command() -> None:
    assert re.findall(r"^## `ledger-watcher (\w+)`$", PAGE, re.MULTILINE) == list(COMMANDS)


# Exit codes -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with everything in them, one that has not ended."""
    folder = tmp_path_factory.mktemp("contract") / "ledger"
    records = [
        dbt(),
        plan("a", "b", "c"),
        starts("a", materialized="table", relation="db.a", thread="Thread-1"),
        NodeProgress(ts=at(1.2), unique_id="model.shop.a", index=1, total=2, status="success", execution_time=0.25),
        log("a", "10:00:01 START a", dropped=1),
        ends("a", rows_affected=7, query_id="q", adapter_response={"code": "OK"}, relation="db.a", started_at=at(1)),
        ends("b", Outcome.FAILED, 3.0, message="Boom", failures=2),
        ends("c", Outcome.SKIPPED, skip_cause=("model.shop.b",)),
        HookFinished(ts=at(4), unique_id="operation.shop.end-0", outcome=Outcome.FAILED, status="error", message="no", execution_time=0.1),
        Artifact(ts=at(4.5), name="run_results.json", sha256="ab", size=10, path="x"),
    ]
    write(folder, RUN, began(), records, ended(5.0, 1, message="failed", incomplete="lost"))
    write(folder, RunKey("shop", "run-2"), began(60), [ends("a", seconds=62), ends("d", seconds=63)], ended(64))
    write_open(folder, RunKey("shop", "run-3"), began(90), [plan("a", "b"), starts("a", 91)])
    return folder


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    write(tmp_path / "damaged", RUN, began(), [ends("a")], ended(2))
    truncate(segment(tmp_path / "damaged", RUN, 1))
    return tmp_path / "damaged"


def invoke(name: str, *args: object) -> Result:
    words = [name, *(["openlineage"] if name == "emit" and args[0] != "--no-such-option" else []), *(str(arg) for arg in args)]
    return CliRunner().invoke(main, words, env={"OPENLINEAGE_DISABLED": "true"})


ONE = ("--run-id", "run-1")
FINE: Mapping[str, tuple[str, ...]] = {
    "ls": (),
    "show": ONE,
    "diff": ("run-1", "run-2"),
    "export": ("--to", "csv", *ONE),
    "emit": ONE,
    "report": ONE,
    "tail": ONE,
    "verify": ("--run-id", "run-2"),
    "gc": ("--older-than", "36500d"),
}
"""Options with which each command that reads does its work."""


def test_exit_code_0(root: Path) -> None:
    """Those of run are dbt's, see below; of plan, see test_cli_plan."""
    assert set(COMMANDS) == {"run", "plan", "schema", *FINE}
    for name, args in FINE.items():
        assert invoke(name, root, *args).exit_code == 0, name
    assert invoke("schema").exit_code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_exit_code_2_is_a_mistake_in_the_options(name: str) -> None:
    assert invoke(name, "--no-such-option").exit_code == 2, "run takes it for dbt's, but lacks its own"


@pytest.mark.parametrize("name", FINE)
def test_exit_code_3_is_work_that_could_not_be_done(name: str, tmp_path: Path, damaged: Path) -> None:
    done = invoke(name, tmp_path / "nowhere", *FINE[name])
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    args = (
        ("run-1", "run-1")
        if name == "diff"
        else ("--older-than", "0h")
        if name == "gc"
        else ()
        if name == "ls"
        else (*FINE[name][:-1], "run-1")
    )
    assert invoke(name, damaged, *args).exit_code == (1 if name == "verify" else 0 if name == "gc" else 3), name


def test_exit_code_1_is_ctrl_c(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["ledger_watcher.cli.tail"], "sleep", interrupted)
    assert invoke("tail", root, "--run-id", "run-3", "-f").exit_code == 1


def test_exit_codes_of_run_are_dbts(tmp_path: Path) -> None:
    """Each row of the page."""
    fake = FakeDbt.make(tmp_path)
    options = ("run", "--ledger", str(tmp_path / "ledger"), "--project-dir", str(fake.project), "--fresh")
    command = ("--", str(fake.path), "build")

    def code(script: str, *more: str) -> int:
        return CliRunner().invoke(main, [*options, *more, *command], env={"FAKE_DBT": script}).exit_code

    found = {
        "0": code("sys.exit(0)"),
        "1": code("sys.exit(1)"),
        "2": code("sys.exit(2)"),
        "3": code("sys.exit(0)", "--project-dir", str(tmp_path / "nowhere")),
        "128 + n": code("os.kill(os.getpid(), 9)") - 9,
    }
    assert [row[0] for row in table(section("`ledger-watcher run`"), "code")] == list(found)
    assert found == {"0": 0, "1": 1, "2": 2, "3": 3, "128 + n": 128}


def test_the_page_names_these_codes_and_no_others() -> None:
    assert [row[0] for row in table(section("Exit codes"), "code")] == ["0", "1", "2", "3"]


# JSON -----------------------------------------------------------------------------------------------------------------

SIMPLE: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "time": lambda value: isinstance(value, str) and datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None,
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
}


def shape(name: str) -> dict[str, str]:
    """key -> type of a shape of the page; a row ``...name`` stands for all keys of that shape."""
    found: dict[str, str] = {}
    for key, kind, *_ in table(section(f"`{name}`", "###"), "key"):
        found.update(shape(key.strip("`.")) if key.startswith("`...") else {key.strip("`"): kind})
    return found


def problems(value: object, kind: str, where: str) -> Iterator[str]:
    """Where a value is not of the type that the page gives it."""
    kinds = kind.split(" or ")
    if any(SIMPLE[one](value) for one in kinds if one in SIMPLE):
        return
    for one in kinds:
        if one.startswith("array of ") and isinstance(value, list):
            for at, member in enumerate(value):
                yield from problems(member, one.removeprefix("array of "), f"{where}[{at}]")
            return
        if one.startswith("numbers by ") and isinstance(value, dict):
            yield from (f"{where}.{name} is no number" for name, number in value.items() if not SIMPLE["integer"](number))
            return
        if one not in SIMPLE and not one.startswith(("array of ", "numbers by ")) and isinstance(value, dict):
            keys = shape(one)
            if list(value) != list(keys):
                yield f"{where}: keys are {list(value)}, those of {one!r} are {list(keys)}"
            for name, member in value.items():
                yield from problems(member, keys.get(name, "object"), f"{where}.{name}")
            return
    yield f"{where}: {value!r} is not {kind}"


PRINTED: Mapping[str, tuple[str, ...]] = {
    "ls": ("ls", "--json"),
    "show": ("show", "--json", *ONE),
    "show NODE": ("show", "model.shop.a", "--json", *ONE),
    "diff": ("diff", "run-1", "run-2", "--json"),
    "verify": ("verify", "--json", *ONE),
    "gc": ("gc", "--older-than", "0h", "--json"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_json_has_the_keys_and_types_of_the_page(name: str, root: Path) -> None:
    command, *args = PRINTED[name]
    printed = json.loads(invoke(command, root, *args).stdout)
    assert list(problems(printed, name, name)) == []


def test_running_and_empty_ledgers_have_the_same_keys(root: Path, tmp_path: Path) -> None:
    assert list(problems(json.loads(invoke("show", root, "--run-id", "run-3", "--json").stdout), "show", "show")) == []
    assert list(problems(json.loads(invoke("ls", tmp_path, "--json").stdout), "ls", "ls")) == []


def test_every_command_with_json_has_its_shape_on_the_page() -> None:
    with_json = {name for name, command in COMMANDS.items() if any("--json" in param.opts for param in command.params)}
    assert with_json == {name.partition(" ")[0] for name in PRINTED} | {"tail"}
    assert "docs/format.md" in section("`ledger-watcher tail`").replace("(format.md)", "docs/format.md")
    shapes = re.findall(r"^### `(.*)`$", PAGE, re.MULTILINE)
    used = {word for name in shapes for kind in shape(name).values() for word in re.split(r" or |array of |numbers by ", kind)}
    mixed_in = set(re.findall(r"^\| `\.\.\.(.*?)`", PAGE, re.MULTILINE))
    assert set(shapes) == set(PRINTED) | mixed_in | (used & set(shapes)), "no shape that nothing has"


def test_the_checker_finds_what_is_wrong(root: Path) -> None:
    printed = json.loads(invoke("ls", root, "--json").stdout)
    del printed["total"]
    printed["runs"][0]["counts"]["failed"] = "1"
    printed["runs"][1]["map_index"] = None
    assert len(list(problems(printed, "ls", "ls"))) == 3
