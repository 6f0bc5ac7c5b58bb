"""Each example of the pages works: Python as Airflow imports it, commands as a shell runs them, docstrings as doctest does."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import re
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from ledger_watcher.cli import main
from ledger_watcher.ledger import RunKey
from tests.core.ledgers import began, ended, ends, write
from tests.docs.examples import IMPORTS, dag_file, places
from tests.docs.pages import PAGES, ROOT, blocks, name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

README, TUTORIAL = ROOT / "README.md", ROOT / "docs" / "tutorial.md"
WHOLE = (README, TUTORIAL)
"""Pages whose examples are to be copied as they are, so they import what they use."""
ELSEWHERE = {
    "docs/how-to/kubernetes.md": "needs the provider of Kubernetes: tests/operators/test_producer_factories.py",
    "docs/sql.md": "no DAG: tests/core/test_sql.py runs it",
}
SHELL = [(page, line) for page in PAGES for language in ("bash", "sh") for block in blocks(page, language) for line in block.splitlines()]
OURS = [(page, line) for page, line in SHELL if line.startswith("ledger-watcher ")]
SOURCES = [path for package in ("ledger_watcher", "operators/ledger_watcher_airflow") for path in sorted((ROOT / package).rglob("*.py"))]
DOCTESTS = [path for path in SOURCES if ">>> " in path.read_text()]
assert DOCTESTS


# Python ----------------------------------------------------------------------------------------------------------------


def imported(text: str, folder: Path) -> dict[str, Any]:
    """The DAGs of a file, as Airflow finds them."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    file = folder / "dags" / "page.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    found = DagBag(dag_folder=file, collect_dags=True)
    assert found.import_errors == {}
    for dag in found.dags.values():
        DagSerialization.to_dict(dag)
    return dict(found.dags)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEDGER_WATCHER_CACHE_DIR", str(tmp_path / "cache"))
    places(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python") and page not in WHOLE], ids=name)
def test_the_python_of_a_page_is_imported_by_airflow(page: Path, folder: Path) -> None:
    if name(page) in ELSEWHERE:
        pytest.skip(ELSEWHERE[name(page)])
    text = dag_file(blocks(page, "python"), folder, imports=IMPORTS)
    assert bool(imported(text, folder)) == ("DbtDag(" in text)


def test_the_readmes_python_makes_the_dags_that_it_speaks_of(folder: Path) -> None:
    dags = imported(dag_file(blocks(README, "python"), folder), folder)
    assert set(dags["jaffle"].task_ids) == {
        "dbt_producer_watcher",
        "raw_customers_seed",
        "customers.run",
        "customers.test",
        "orders_run",
        "orders_history_snapshot",
        "dbt_assets",
    }
    assert "per_region.dbt.customers.run" in dags["regions"].task_ids
    assert set(dags["chores"].task_ids) == {"grant", "docs"}
    assert dags["report"].timetable.asset_condition.uri == "x-dbt://analytics/marts/orders"


def test_the_readmes_yaml_is_what_a_task_gets(folder: Path) -> None:
    (text,) = blocks(README, "yaml")
    (model,) = yaml.safe_load(text)["models"]
    manifest = folder / "opt" / "dbt" / "jaffle" / "target" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["nodes"][f"model.jaffle.{model['name']}"] |= {"meta": model["config"]["meta"]}
    manifest.write_text(json.dumps(content))
    task = imported(dag_file(blocks(README, "python")[:1], folder), folder)["jaffle"].get_task("orders_run")
    assert (task.pool, task.retries, task.retry_delay) == ("warehouse", 2, timedelta(seconds=60))


# Commands --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted({page for page, _ in OURS}), ids=name)
def test_a_command_of_ours_takes_what_the_page_gives_it(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/docs/test_tutorial.py runs those of the tutorial."""
    monkeypatch.setenv("LEDGER_WATCHER_LEDGER", "ledger")
    monkeypatch.setenv("HASH", "0" * 64)
    for command, *words in (words_of(line) for at, line in OURS if at == page):
        if "--help" not in words:
            with main.make_context("ledger-watcher", [command, *words]) as context:
                main.commands[command].make_context(command, words, parent=context)


def words_of(line: str) -> list[str]:
    """Without the program."""
    return [os.path.expandvars(word) for word in shlex.split(line, comments=True)][1:]


def test_the_readmes_commands_say_what_is_in_a_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket is a folder; tests/docs/test_tutorial.py has those that start dbt."""
    write(tmp_path / "ledgers", RunKey("shop", "run-1"), began(), [ends("customers")], ended(3.0))
    monkeypatch.chdir(tmp_path)
    said = {}
    for command, *words in (words_of(line.replace("s3://bucket/", f"{tmp_path}/")) for page, line in OURS if page == README):
        if command not in ("run", "plan"):
            done = CliRunner().invoke(main, [command, *words])
            assert done.exit_code == 0, done.output
            said[command] = done.output
    assert set(said) == {"ls", "show", "report", "tail", "verify", "gc"}
    assert json.loads(said["show"])["nodes"][0]["unique_id"] == "model.shop.customers"
    assert (tmp_path / "report.html").read_text().startswith("<!")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_makes_and_installs_is_there(page: Path) -> None:
    """Targets of the Makefile, extras of the package. tests/packaging installs them."""
    text = page.read_text()
    targets = set(" ".join(re.findall(r"^([a-z0-9 -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)).split())
    made = {found for code in re.findall(r"`make ([a-z0-9-]+)", text) for found in [code]}
    made |= {words[1] for at, line in SHELL if at == page and (words := line.split())[:1] == ["make"]}
    assert made <= targets
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert {extra for found in re.findall(r"ledger-watcher\[([\w,-]+)\]", text) for extra in found.split(",")} <= extras


# Docstrings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCTESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_examples_of_docstrings(path: Path) -> None:
    package = "ledger_watcher_airflow" if "operators" in path.relative_to(ROOT).parts else "ledger_watcher"
    place = path.relative_to(ROOT / ("operators" if package == "ledger_watcher_airflow" else ""))
    found = doctest.testmod(importlib.import_module(".".join(place.with_suffix("").parts)))
    assert found.attempted > 0
    assert found.failed == 0
