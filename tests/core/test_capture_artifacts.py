from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ledger_watcher.capture import DbtCommand, Masker, Project, Target, parents_of
from ledger_watcher.capture.workspace import Workspace
from ledger_watcher.errors import ConfigError


@pytest.fixture
def project_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "dbt_project.yml").write_text("# name: no\nname: 'shop'  # yes\nmodels:\n  name: other\n")
    return folder


def command(text: str) -> DbtCommand:
    return DbtCommand.parse(tuple(text.split()))


Prepare = Callable[..., tuple[Target, Project]]


@pytest.fixture
def prepare(project_dir: Path) -> Iterator[Prepare]:
    """Prepares the target folder of a command in a workspace of its own."""
    with ExitStack() as stack:

        def prepared(text: str = "dbt build", env: dict[str, str] | None = None) -> tuple[Target, Project]:
            project = Project.of(command(text), env or {}, project_dir)
            return Target.prepare(command(text), project, env or {}, stack.enter_context(Workspace())), project

        yield prepared


def test_the_project(project_dir: Path) -> None:
    (project_dir / "models").mkdir()
    expected = Project(project_dir, "shop", None)
    assert Project.of(command("dbt build"), {}, project_dir) == expected
    assert Project.of(command("dbt build"), {}, project_dir / "models") == expected
    assert Project.of(command("dbt build --project-dir shop"), {}, project_dir.parent) == expected
    assert Project.of(command("dbt build"), {"DBT_PROJECT_DIR": "shop"}, project_dir.parent) == expected


@pytest.mark.parametrize(("text", "upwards"), [("dbt build --project-dir elsewhere", True), ("dbt build", False)])
def test_no_project(project_dir: Path, text: str, upwards: bool) -> None:
    (project_dir / "models").mkdir()
    with pytest.raises(ConfigError, match=r"There is no dbt_project.yml in "):
        Project.of(command(text), {}, project_dir / "models", upwards=upwards)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("target-path: out", "out"),
        ('target-path: "out/dir" # x', "out/dir"),
        ("target-path : 'o'", "o"),
        ("  target-path: no", None),
        ("target-path:", None),
    ],
)
def test_the_configured_target_path(project_dir: Path, line: str, value: str | None) -> None:
    (project_dir / "dbt_project.yml").write_text(f"name: shop\n{line}\nversion: 1\n")
    assert Project.of(command("dbt build"), {}, project_dir).target_path == value


def test_each_attempt_has_a_fresh_folder(project_dir: Path, prepare: Prepare) -> None:
    target, project = prepare()
    assert target.fresh
    assert list(target.path.iterdir()) == []
    assert target.env == {"DBT_TARGET_PATH": str(target.path)}
    assert (target.user, target.shown) == (project_dir / "target", "target")
    assert target.folders(project)[1] == (str(target.path), "target")
    assert prepare()[0].path != target.path


def test_partial_parsing_goes_on(project_dir: Path, prepare: Prepare) -> None:
    partial = project_dir / "target" / "partial_parse.msgpack"
    partial.parent.mkdir()
    partial.write_bytes(b"x")
    target, _ = prepare()
    assert target.env["DBT_PARTIAL_PARSE_FILE_PATH"] == str(partial)
    target, _ = prepare(env={"DBT_PARTIAL_PARSE_FILE_PATH": "mine"})
    assert "DBT_PARTIAL_PARSE_FILE_PATH" not in target.env


def test_retry_reads_the_users_folder(project_dir: Path, prepare: Prepare) -> None:
    target, _ = prepare("dbt retry")
    assert target.env["DBT_STATE"] == str(project_dir / "target")
    target, _ = prepare("dbt retry --state x")
    assert "DBT_STATE" not in target.env


@pytest.mark.parametrize(
    ("text", "env", "user"),
    [
        ("dbt build --target-path out", {}, "out"),
        ("dbt clean", {}, "target"),
        ("dbt docs generate", {"DBT_TARGET_PATH": "out"}, "out"),
    ],
)
def test_some_commands_use_the_users_folder(project_dir: Path, prepare: Prepare, text: str, env: dict[str, str], user: str) -> None:
    target, project = prepare(text, env)
    assert not target.fresh
    assert (target.path, target.env, target.folders(project)) == (project_dir / user, {}, [])
    assert project_dir.exists()


def test_an_engine_variable_is_beaten(project_dir: Path, prepare: Prepare) -> None:
    """dbt 1.11+ prefers DBT_ENGINE_TARGET_PATH."""
    target, _ = prepare(env={"DBT_ENGINE_TARGET_PATH": "out"})
    assert target.user == project_dir / "out"
    assert target.env["DBT_ENGINE_TARGET_PATH"] == target.env["DBT_TARGET_PATH"] == str(target.path)


def test_what_dbt_wrote_is_put_where_plain_dbt_would_have_written_it(project_dir: Path, prepare: Prepare) -> None:
    old = project_dir / "target" / "compiled" / "a.sql"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    (project_dir / "target" / "kept.txt").write_text("kept")
    target, project = prepare()
    (target.path / "compiled" / "models").mkdir(parents=True)
    (target.path / "compiled" / "a.sql").write_text("new")
    (target.path / "compiled" / "models" / "b.sql").write_text("b")
    (target.path / "manifest.json").write_text(json.dumps({"path": f"{target.path}/compiled/a.sql"}))
    assert target.put_back(Masker({}, target.folders(project))) == []
    assert old.read_text() == "new"
    assert (project_dir / "target" / "compiled" / "models" / "b.sql").read_text() == "b"
    assert (project_dir / "target" / "kept.txt").read_text() == "kept"
    assert json.loads((project_dir / "target" / "manifest.json").read_text()) == {"path": "target/compiled/a.sql"}
    assert sorted(path.name for path in (project_dir / "target").iterdir()) == ["compiled", "kept.txt", "manifest.json"]


def test_a_folder_that_cannot_be_written_is_a_problem_and_no_error(project_dir: Path, prepare: Prepare) -> None:
    (project_dir / "target").write_text("a file")
    target, project = prepare()
    (target.path / "manifest.json").write_text("{}")
    (problem,) = target.put_back(Masker({}, target.folders(project)))
    assert "could not be put into" in problem


def test_artifacts_of_another_run_are_not_taken_for_ours(project_dir: Path, prepare: Prepare) -> None:
    target, _ = prepare("dbt build --target-path out")
    (project_dir / "out").mkdir()
    ours = json.dumps({"metadata": {"invocation_id": "me"}}).encode()
    (project_dir / "out" / "run_results.json").write_bytes(ours)
    (project_dir / "out" / "manifest.json").write_text(json.dumps({"metadata": {"invocation_id": "other"}}))
    (project_dir / "out" / "sources.json").write_text("{")
    assert target.written("me") == {"run_results.json": ours}
    assert target.written(None) == {}


def test_parents_come_from_any_manifest(project_dir: Path, prepare: Prepare) -> None:
    odd = {
        "nodes": {"a": {"depends_on": {"nodes": ["b", 3]}}, "c": None, "d": {}},
        "unit_tests": [],
        "functions": {"f": {"depends_on": []}},
    }
    assert parents_of(odd) == {"a": ["b"], "c": [], "d": [], "f": []}
    target, _ = prepare()
    assert target.parents() == {}
