"""``ledger-watcher plan``: what it writes where, of which command, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli import main
from ledger_watcher.project import Place, Selection, load_plan
from tests.lister import Lister
from tests.projects import node

Plan = Callable[..., Result]


@pytest.fixture
def lister(tmp_path: Path) -> Lister:
    found = Lister(tmp_path)
    found.write(node("model.shop.a"), node("model.shop.b", "model.shop.a"), selected=("model.shop.b",))
    return found


@pytest.fixture
def plan(lister: Lister, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Run it in the folder of a project, with dbt on PATH."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "dbt_project.yml").write_text("name: shop\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{lister.folder}:/usr/bin:/bin")
    monkeypatch.setenv("LEDGER_WATCHER_CACHE_DIR", str(tmp_path / "cache"))
    return lambda *args: CliRunner().invoke(main, ["plan", *args])


def test_a_plan_is_written_for_the_words_of_the_command(plan: Plan, tmp_path: Path, lister: Lister) -> None:
    file = tmp_path / "plan.json"
    result = plan("-o", str(file), "--", "dbt", "build", "--select", "b", "tag:x", "--target", "prod", "--threads", "8")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 of 2 nodes are selected" in result.stderr
    view = load_plan(Place.of(file))
    assert view.selected == {"model.shop.b"}
    assert view.selection == Selection(select=("b", "tag:x"))
    (said,) = lister.said
    assert "--target prod" in " ".join(said)
    assert "--threads" not in said
    assert not (tmp_path / "cache").exists(), "what is asked here is asked anew each time"
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["dbt_project.yml"]


def test_a_plan_goes_to_a_storage_or_to_standard_output(plan: Plan) -> None:
    memory = fsspec.filesystem("memory")
    try:
        assert plan("-o", "memory://plans/shop.json", "--", "dbt", "run").exit_code == 0
        stored = memory.cat_file("/plans/shop.json")
    finally:
        memory.rm("/plans", recursive=True)
    result = plan("-o", "-", "--", "dbt", "run")
    assert json.loads(result.stdout) == json.loads(stored)


def test_packages_may_be_installed_before(plan: Plan, tmp_path: Path, lister: Lister) -> None:
    assert plan("-o", str(tmp_path / "p.json"), "--deps", "--", "dbt", "build").exit_code == 0
    assert [("deps" in said, "ls" in said) for said in lister.said] == [(True, False), (False, True)]
    assert not (tmp_path / "shop" / "dbt_packages").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("-o", "p.json", "--", "dbt", "docs", "generate"), "`dbt docs` selects nothing to build"),
        (("-o", "p.json"), "There is no command to run"),
        (("-o", "p.json", "--project-dir", "/no/such", "--", "dbt", "build"), "/no/such does not exist"),
        (("-o", "p.json", "--", "/no/such/dbt", "build"), "was not found"),
        (("-o", "p.json", "--", "dbt", "build", "--selector", "a", "--select", "b"), "dbt would ignore"),
        (("-o", "/no/such/folder/p.json", "--", "dbt", "build"), "cannot be written"),
        (("-o", "nosuch://b/p.json", "--", "dbt", "build"), "nosuch"),
    ],
)
def test_what_cannot_be_is_one_line_that_says_so(plan: Plan, args: tuple[str, ...], words: str) -> None:
    result = plan(*args)
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr


def test_what_dbt_says_of_its_failure_is_told(plan: Plan, lister: Lister) -> None:
    (lister.folder / "broken").touch()
    result = plan("-o", "p.json", "--", "dbt", "build")
    assert result.exit_code == 3
    assert "Parsing Error: model x" in result.stderr
    assert not Path("p.json").exists()
