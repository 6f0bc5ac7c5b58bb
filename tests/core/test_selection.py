"""What a DAG is drawn from where there is no dbt: plans, what dbt answered before, files elsewhere. And how a selection is drawn."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from ledger_watcher import codec
from ledger_watcher.capture.argv import DbtCommand
from ledger_watcher.capture.listing import ask, selection_of
from ledger_watcher.errors import ConfigError
from ledger_watcher.project import (
    Cache,
    Place,
    ProjectView,
    Question,
    Selection,
    SourceRenderingBehavior,
    TestBehavior,
    build_graph,
    load_listing,
    load_plan,
    load_project,
    pack_plan,
)
from ledger_watcher.project.cache import CACHE_ENV
from ledger_watcher.project.fingerprint import dbt_identity, project_hash
from ledger_watcher.project.manifest import parse_manifest
from ledger_watcher.storage import LocalStore, open_store
from tests.lister import Lister
from tests.projects import manifest, node, real_manifest

SELECTION = Selection(select=("tag:daily", "path:models/marts"), exclude=("b",), options=("--indirect-selection", "cautious"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    return tmp_path / "cache"


def view_of(*nodes: dict[str, Any]) -> ProjectView:
    return parse_manifest(json.dumps(manifest(*nodes)).encode(), "m.json")


# Words ---------------------------------------------------------------------------------------------------------------


def test_words_are_as_dbt_takes_them() -> None:
    assert Selection.of("a b", ["c", "d,e  f"], None) == Selection(select=("a", "b"), exclude=("c", "d,e", "f"))
    assert Selection.of((), (), "nightly").words == ("--selector", "nightly")
    assert SELECTION.words[:6] == ("--select", "tag:daily", "--select", "path:models/marts", "--exclude", "b")
    assert not Selection.of([], "", "")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("a", (), "nightly"), "dbt would ignore"),
        (((), "a", "nightly"), "dbt would ignore"),
        (([1], (), None), "holds 1"),
        (((), (), 7), "=7"),
    ],
)
def test_what_are_no_words_is_refused(given: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Selection.of(*given)


@pytest.mark.parametrize(
    ("command", "selection"),
    [
        ("dbt build", Selection()),
        ("dbt build --select a b --exclude c --threads 4", Selection(select=("a", "b"), exclude=("c",))),
        ("dbt build -s a -m b --models c --select=d", Selection(select=("a", "b", "c", "d"))),
        ("dbt --quiet run -sa --target prod", Selection(select=("a",))),
        ("uv run dbt build --selector one --selector two", Selection(selector="two")),
        ("dbt build --state old -s state:new", Selection(select=("state:new",), options=("--state", "old"))),
        (
            "dbt build --resource-type model --indirect-selection=empty",
            Selection(options=("--resource-type", "model", "--indirect-selection=empty")),
        ),
    ],
)
def test_what_of_a_command_selects_is_found(command: str, selection: Selection) -> None:
    assert selection_of(DbtCommand.parse(tuple(command.split()))) == selection


# Drawing ---------------------------------------------------------------------------------------------------------------


def drawn(view: ProjectView, *chosen: str, **more: Any) -> dict[str, set[str]]:
    specs = build_graph(replace(view, selected=frozenset(chosen)), TestBehavior.AFTER_EACH, **more)
    return {spec.key: set(spec.upstream) for spec in specs}


CHAIN = (
    node("source.shop.raw.t", freshness={"warn_after": {"count": 1, "period": "day"}}),
    node("model.shop.a", "source.shop.raw.t"),
    node("model.shop.b", "model.shop.a"),
    node("model.shop.c", "model.shop.b"),
    node("test.shop.ta", "model.shop.a"),
    node("test.shop.tb", "model.shop.b"),
    node("test.shop.both", "model.shop.a", "model.shop.b"),
    node("unit_test.shop.b.u", "model.shop.b", "model.shop.a"),
)


def test_what_is_not_selected_is_looked_through() -> None:
    """As in dbt, which keeps the order across what it leaves out."""
    assert drawn(view_of(*CHAIN), "model.shop.a", "model.shop.c") == {"model.shop.a": set(), "model.shop.c": {"model.shop.a"}}


def test_a_test_that_is_not_selected_is_neither_drawn_nor_waited_for() -> None:
    both = drawn(view_of(*CHAIN), "model.shop.a", "model.shop.b", "test.shop.tb")
    assert both == {"model.shop.a": set(), "model.shop.b": {"model.shop.a"}, "tests of model.shop.b": {"model.shop.b"}}


def test_tests_without_their_nodes_are_tasks_of_their_own() -> None:
    assert drawn(view_of(*CHAIN), "test.shop.tb", "model.shop.a") == {"model.shop.a": set(), "test.shop.tb": {"model.shop.a"}}
    alone = drawn(view_of(*CHAIN), "unit_test.shop.b.u", "model.shop.c")
    assert alone == {"unit_test.shop.b.u": set(), "model.shop.c": {"unit_test.shop.b.u"}}


def test_a_source_is_drawn_if_it_is_selected() -> None:
    every = {"sources": SourceRenderingBehavior.ALL}
    assert set(drawn(view_of(*CHAIN), "model.shop.a", **every)) == {"model.shop.a"}
    assert drawn(view_of(*CHAIN), "model.shop.b", "source.shop.raw.t", **every)["model.shop.b"] == {"source.shop.raw.t"}


def test_nothing_selected_is_nothing_drawn() -> None:
    assert drawn(view_of(*CHAIN)) == {}


# Plans -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned() -> ProjectView:
    view = parse_manifest(real_manifest("1.11"), "m.json")
    return replace(view, selected=frozenset(list(view.nodes)[:9]), selection=SELECTION)


def test_a_plan_comes_back(planned: ProjectView, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(pack_plan(planned))
    assert load_plan(Place.of(tmp_path / "plan.json")) == planned
    assert pack_plan(planned) == pack_plan(replace(planned, selected=frozenset(sorted(planned.selected or (), reverse=True))))


def test_a_plan_of_another_version_is_read_as_far_as_it_goes(planned: ProjectView, tmp_path: Path) -> None:
    told = codec.loads(pack_plan(planned))
    told["project"]["fields"] = ["unique_id", "resource_type", "name", "from_the_future"]
    told["project"]["nodes"] = [["model.p.a", "model", "a", {"x": 1}]]
    (tmp_path / "plan.json").write_bytes(codec.dumps(told))
    (found,) = load_plan(Place.of(tmp_path / "plan.json")).nodes.values()
    assert (found.unique_id, found.parents, found.tags) == ("model.p.a", (), ())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"{", "is no plan"),
        (b"[1]", "is no plan"),
        (b'{"ledger_watcher_plan": 1}', "is no plan"),
        (b'{"ledger_watcher_plan": 2}', "of format 2"),
        (b'{"metadata": {}}', "is no plan"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        load_plan(Place.of(tmp_path / "plan.json"))


# Files elsewhere -------------------------------------------------------------------------------------------------------


@pytest.fixture
def remote() -> Iterator[Callable[[str, bytes], str]]:
    memory = fsspec.filesystem("memory")

    def put(name: str, data: bytes) -> str:
        memory.pipe_file(f"/drawn/{name}", data)
        return f"memory://drawn/{name}"

    yield put
    if memory.exists("/drawn"):
        memory.rm("/drawn", recursive=True)


def test_a_remote_file_is_read_again_only_if_it_changed(
    remote: Callable[[str, bytes], str], planned: ProjectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = Place.read
    monkeypatch.setattr(Place, "read", lambda place: (read.append(place.name), real(place))[1])
    for name, load, data in [("plan.json", load_plan, pack_plan(planned)), ("manifest.json", load_project, real_manifest("1.11"))]:
        place = Place.of(remote(name, data))
        first = load(place)
        assert load(place) == first
        assert read == [place.name]
        remote(name, data)
        assert load(place) == first
        assert read == [place.name] * 2
        read.clear()


def test_a_remote_file_that_is_not_there_is_a_clear_error(remote: Callable[[str, bytes], str]) -> None:
    place = Place.of(remote("other.json", b"").replace("other", "manifest"))
    with pytest.raises(ConfigError, match="no usable dbt manifest at memory://drawn/manifest"):
        load_project(place)
    with pytest.raises(ConfigError, match="nosuch"):
        Place.of("nosuch://bucket/manifest.json")


def test_a_file_is_written_as_a_whole_here_and_elsewhere(remote: Callable[[str, bytes], str], tmp_path: Path) -> None:
    for place in (Place.of(tmp_path / "plan.json"), Place.of(remote("plan.json", b"old"))):
        place.write(b"new")
        assert place.read() == b"new"


def test_the_output_of_dbt_ls_is_drawn_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "ls.txt").write_text(
        "12:00:00  Running with dbt=1.11\n"
        + "\n".join(json.dumps(one) for one in (*CHAIN[1:4], {"unique_id": "exposure.shop.e", "resource_type": "exposure"}))
    )
    view = load_listing(Place.of(tmp_path / "ls.txt"))
    assert drawn(view, *view.selected or ()) == {"model.shop.a": set(), "model.shop.b": {"model.shop.a"}, "model.shop.c": {"model.shop.b"}}
    assert view.selection.exactly


@pytest.mark.parametrize(("text", "words"), [("", "no line with a node"), ("{", "cannot be read"), ('{"unique_id": "a"}', "resource_type")])
def test_what_is_no_output_of_dbt_ls_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "ls.txt").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_listing(Place.of(tmp_path / "ls.txt"))


# What an answer depends on ---------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    for name in ("dbt_project.yml", "models/a.sql", "dbt_packages/p/models/b.sql", "build/compiled/a.sql", "logs/dbt.log", ".git/x.sql"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("select 1")
    (folder / "dbt_project.yml").write_text("name: shop\ntarget-path: build\n")
    (folder / "dbt_packages" / "back").symlink_to(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda folder: (folder / "models" / "a.sql").write_text("select 2"), True),
        (lambda folder: (folder / "models" / "a.sql").rename(folder / "models" / "c.sql"), True),
        (lambda folder: (folder / "dbt_packages" / "p" / "models" / "b.sql").unlink(), True),
        (lambda folder: (folder / "selectors.yml").write_text("selectors: []"), True),
        (lambda folder: os.utime(folder / "models" / "a.sql", (1, 1)), False),
        (lambda folder: (folder / "build" / "compiled" / "a.sql").write_text("select 2"), False),
        (lambda folder: (folder / "models" / "notes.txt").write_text("x"), False),
        (lambda folder: (folder / ".git" / "x.sql").write_text("x"), False),
    ],
)
def test_the_hash_of_a_project_is_that_of_what_dbt_reads(
    project: Path, own_cache: Path, change: Callable[[Path], object], counts: bool
) -> None:
    before = project_hash(project, Cache(own_cache))
    assert project_hash(project, Cache(own_cache)) == project_hash(project, Cache(own_cache / "other")) == before
    change(project)
    assert (project_hash(project, Cache(own_cache)) != before) is counts


def test_dbt_is_known_by_its_packages_or_by_itself(tmp_path: Path) -> None:
    assert "dbt_core-" in dbt_identity(None)
    program = tmp_path / "venv" / "bin" / "dbt"
    program.parent.mkdir(parents=True)
    program.write_text("v1")
    alone = dbt_identity(str(program))
    program.write_text("v2")
    assert dbt_identity(str(program)) != alone
    (tmp_path / "venv" / "lib" / "python3.12" / "site-packages" / "dbt_core-1.9.0.dist-info").mkdir(parents=True)
    assert dbt_identity(str(program)) == "dbt_core-1.9.0"


@pytest.fixture
def question(project: Path, tmp_path: Path) -> Question:
    program = Lister(tmp_path).write(*CHAIN, selected=("model.shop.a", "exposure.shop.e"))
    return Question(
        command=(str(program), "build", "--project-dir", str(project), "--select", "a"),
        project_dir=project,
        selection=Selection(select=("a",)),
    )


def test_dbt_is_asked_once_and_again_when_something_changes(
    question: Question, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(own_cache)
    assert question.known(cache) is None
    view = ask(question, cache)
    assert view.selected == {"model.shop.a"}
    assert set(view.nodes) == {one["unique_id"] for one in CHAIN}
    assert question.known(cache) == ask(question, cache) == view
    assert len(Lister(tmp_path).said) == 1
    state = tmp_path / "state"
    state.mkdir()
    changed = [
        replace(question, command=(*question.command, "--vars", "{}")),
        replace(question, env={"A": "1"}),
        replace(question, files=(tmp_path / "shop" / "models" / "a.sql",)),
        replace(question, also=("other",)),
        replace(question, command=(*question.command, "--state", str(state))),
    ]
    assert [one.known(cache) for one in changed] == [None] * 5
    ask(changed[-1], cache)
    (state / "manifest.json").write_text("{}")
    assert changed[-1].known(cache) is None
    monkeypatch.setenv("DBT_TARGET", "prod")
    assert question.known(cache) is None


def test_a_shared_cache_serves_those_without_dbt_and_other_paths(question: Question, project: Path, tmp_path: Path) -> None:
    shared = LocalStore(str(tmp_path / "shared"))
    view = ask(question, Cache(tmp_path / "here", shared))
    elsewhere = project.rename(tmp_path / "moved")
    command = tuple(word.replace(str(project), str(elsewhere)) for word in question.command)
    other = replace(question, command=("/no/such/dbt", *command[1:]), project_dir=elsewhere)
    assert other.known(Cache(tmp_path / "there")) is None
    assert other.known(Cache(tmp_path / "there", shared)) == view
    assert other.known(Cache(tmp_path / "there")) == view, "it is kept here, too"


def test_a_shared_cache_that_is_away_is_said_and_done_without(question: Question, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = open_store("s3://bucket/cache", storage_options={"endpoint_url": "http://127.0.0.1:9", "key": "a", "secret": "b"})
    assert ask(question, Cache(tmp_path / "here", away)).selected == {"model.shop.a"}
    assert "The shared cache cannot be asked" in caplog.text
    assert "The shared cache cannot be written" in caplog.text


def test_a_corrupt_answer_is_asked_for_again(question: Question, own_cache: Path, tmp_path: Path) -> None:
    ask(question, Cache(own_cache))
    for file in own_cache.glob("plan-*"):
        file.write_bytes(b"{")
    assert ask(question, Cache(own_cache)).selected == {"model.shop.a"}
    assert len(Lister(tmp_path).said) == 2


def test_what_nobody_reads_any_more_goes(own_cache: Path) -> None:
    cache = Cache(own_cache)
    cache.put("used.json", b"1")
    cache.put("unused.json", b"1")
    for name in ("used.json", "unused.json"):
        os.utime(own_cache / name, (0, 0))
    assert cache.get("used.json") == b"1"
    cache.put("new.json", b"1")
    assert {file.name for file in own_cache.iterdir()} == {"used.json", "new.json"}


def test_nothing_is_written_to_the_project(question: Question, project: Path, own_cache: Path, tmp_path: Path) -> None:
    """Packages are installed beside it, too."""
    before = sorted(project.rglob("*"))
    view = ask(replace(question, deps=True), Cache(own_cache))
    assert view.selected == {"model.shop.a"}
    deps, listing = Lister(tmp_path).said
    assert "deps" in deps
    assert str(project) not in " ".join(listing)
    assert sorted(project.rglob("*")) == before


def test_what_dbt_says_of_its_failure_is_told_without_secrets(
    question: Question, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_ENV_SECRET_PW", "hunter2hunter2")
    (tmp_path / "broken").touch()
    with pytest.raises(ConfigError, match="exit code 2: Parsing Error") as caught:
        ask(question, Cache(own_cache))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="was not found"):
        ask(replace(question, command=("/no/such/dbt", "build")), Cache(own_cache))
