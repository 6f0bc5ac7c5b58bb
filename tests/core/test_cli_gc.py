"""``ledger-watcher gc``: a dry run unless confirmed, its words and exit codes; what may go is in test_retention.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli import main
from ledger_watcher.errors import Denied
from ledger_watcher.ledger import ChainReader, Kind, RunKey
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.records import utcnow
from ledger_watcher.storage import LocalStore
from tests.core.ledgers import began, ended, ends, segment, starts, truncate, write, write_open

OLD, OTHER, PROD, OPEN = RunKey("shop", "old"), RunKey("other", "old"), RunKey("shop", "old", deployment="prod"), RunKey("shop", "open")
HOSTILE = "\x1b[31mred\x1b]0;owned\x07"


class Clock:
    """The time that the command believes it is."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return utcnow() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(sys.modules["ledger_watcher.cli.gc"], "utcnow", found)  # the package's name for it is the command
    return found


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["gc", *(str(arg) for arg in args)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three ended runs and one without an end."""
    folder = tmp_path / "ledger"
    for key in (OLD, OTHER, PROD):
        write(folder, key, began(), [starts("a"), ends("a")], ended(3))
    write_open(folder, OPEN, began(), [starts("a")])
    return folder


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def runs(root: Path) -> set[str]:
    """The runs that have a file left."""
    return {key.prefix for key in (OLD, OTHER, PROD, OPEN) if any(name.startswith(f"{key.prefix}/") for name in files(root))}


def test_without_confirm_nothing_is_changed(root: Path, clock: Clock) -> None:
    clock.ahead = timedelta(days=100)
    before = files(root)
    result = run(root, "--older-than", "90d")
    assert result.exit_code == 0
    assert files(root) == before
    heading, *rows = result.stdout.splitlines()
    assert heading.split() == ["deployment", "dag", "run", "age", "objects", "what"]
    assert len(rows) == 4
    assert all(row.endswith("would be deleted") for row in rows)
    assert result.stderr == "4 runs would be deleted, 0 kept, 0 younger; --confirm deletes them.\n"


def test_confirmed_old_runs_are_gone_with_their_folders(root: Path, clock: Clock) -> None:
    clock.ahead = timedelta(days=100)
    stranger = root / "v1" / "notes.txt"
    stranger.write_text("mine")
    result = run(root, "--older-than", "90d", "--confirm")
    assert result.exit_code == 0
    assert result.stderr == "4 runs deleted, 0 kept, 0 younger.\n"
    assert [path.relative_to(root) for path in root.rglob("*")] == [Path("v1"), Path("v1/notes.txt")]
    again = run(root, "--older-than", "90d", "--confirm")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "0 runs deleted, 0 kept, 0 younger.\n")


def test_young_runs_are_counted_only(root: Path) -> None:
    result = run(root, "--older-than", "1h", "--confirm")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "0 runs deleted, 0 kept, 4 younger.\n"
    assert len(runs(root)) == 4


def test_a_run_that_may_be_live_is_kept_and_named(root: Path, clock: Clock) -> None:
    clock.ahead = timedelta(hours=3)
    result = run(root, "--older-than", "2h", "--confirm")
    assert result.exit_code == 0
    assert runs(root) == {OPEN.prefix}
    assert "kept: it may be live" in result.stdout
    assert result.stderr == "3 runs deleted, 1 kept, 0 younger.\n"


def test_a_claim_that_was_left_is_deleted_only_if_said_so(root: Path, clock: Clock) -> None:
    clock.ahead = timedelta(days=100)
    store = LocalStore(str(root))
    reader = ChainReader(store, OPEN)
    chain = ChainWriter(store, OPEN)
    chain.claim(began(5))
    chain.checkpoint()
    reader.read()
    result = run(root, "--older-than", "90d", "--dag-id", "shop", "--deployment", "default", "--confirm")
    assert result.exit_code == 0
    assert "kept: an attempt may be claiming it" in result.stdout
    assert runs(root) == {OPEN.prefix, OTHER.prefix, PROD.prefix}
    assert run(root, "--older-than", "90d", "--confirm", "--claimed").exit_code == 0
    assert runs(root) == set()


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (("--dag-id", "shop"), {OTHER.prefix}),
        (("--deployment", "prod"), {OLD.prefix, OTHER.prefix, OPEN.prefix}),
        (("--dag-id", "other", "--deployment", "prod"), {OLD.prefix, OTHER.prefix, PROD.prefix, OPEN.prefix}),
    ],
)
def test_filters(root: Path, clock: Clock, options: tuple[str, ...], left: set[str]) -> None:
    clock.ahead = timedelta(days=100)
    assert run(root, "--older-than", "12w", "--confirm", *options).exit_code == 0
    assert runs(root) == left


def test_the_folder_of_one_run(root: Path, clock: Clock) -> None:
    clock.ahead = timedelta(days=100)
    uri = f"{root}/{OLD.prefix}"
    assert run(uri, "--older-than", "90d", "--dag-id", "shop").exit_code == 2
    assert run(uri, "--older-than", "90d", "--confirm").exit_code == 0
    assert runs(root) == {OTHER.prefix, PROD.prefix, OPEN.prefix}


def test_a_run_that_cannot_be_read_is_kept_and_is_an_error(root: Path, clock: Clock) -> None:
    clock.ahead = timedelta(days=100)
    truncate(segment(root, OLD, 2))
    result = run(root, "--older-than", "90d", "--confirm")
    assert result.exit_code == 3
    assert runs(root) == {OLD.prefix}
    assert result.stdout.splitlines()[-1].endswith("not deleted")
    assert "Error: 1 of 4 runs: " in result.stderr
    assert "is corrupt" in result.stderr


def test_a_storage_that_does_not_allow_it(root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.ahead = timedelta(days=100)

    def denied(_self: LocalStore, key: str) -> None:
        raise Denied("delete", key)

    monkeypatch.setattr(LocalStore, "delete", denied)
    result = run(root, "--older-than", "90d", "--confirm", "--json")
    assert result.exit_code == 3
    assert {each["action"] for each in json.loads(result.stdout)["runs"]} == {"problem"}
    assert "Check the credentials and permissions" in result.stderr
    assert len(runs(root)) == 4


def test_an_attempt_that_comes_meanwhile(root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It claims the run when the first object has gone: the rest of the run stays."""
    clock.ahead = timedelta(days=100)
    real: Callable[[LocalStore, str], None] = LocalStore.delete

    def deleting(self: LocalStore, key: str) -> None:
        real(self, key)
        if key == OLD.segment(0):
            ChainWriter(LocalStore(str(root)), OLD).claim(began(50))

    monkeypatch.setattr(LocalStore, "delete", deleting)
    result = run(root, "--older-than", "90d", "--confirm", "--dag-id", "shop", "--deployment", "default", "--json")
    assert result.exit_code == 0
    found = {each["run_id"]: each for each in json.loads(result.stdout)["runs"]}
    assert (found["old"]["action"], found["open"]["action"]) == ("stopped", "deleted")
    assert "an attempt claimed it meanwhile, 2 of its 4 old objects are gone" in found["old"]["reason"]
    reader = ChainReader(LocalStore(str(root)), OLD)
    reader.open()
    reader.read()
    assert reader.last is not None
    assert (reader.last.kind, reader.last.epoch) == (Kind.FENCE, 2)


def test_json(root: Path, clock: Clock) -> None:
    clock.ahead = timedelta(days=100)
    found = json.loads(run(root, "--older-than", "90d", "--json").stdout)
    assert (found["version"], found["confirmed"], found["younger"]) == (1, False, 0)
    (one,) = (each for each in found["runs"] if each["deployment"] == "prod")
    assert one["uri"] == f"file://{root}/{PROD.prefix}"
    assert (one["action"], one["reason"], one["objects"], one["deleted_objects"]) == ("would_delete", None, 4, 0)
    assert 99 * 86400 < one["age"] < 101 * 86400
    found = json.loads(run(root, "--older-than", "90d", "--json", "--confirm").stdout)
    assert {(each["action"], each["objects"] == each["deleted_objects"]) for each in found["runs"]} == {("deleted", True)}
    assert json.loads(run(root, "--older-than", "90d", "--json").stdout)["runs"] == []


@pytest.mark.parametrize("value", ["", "90", "d", "-1d", "1.5d", "90m", "1y", "999999d"])
def test_what_is_no_age_is_a_mistake(root: Path, value: str) -> None:
    assert run(root, "--older-than", value, "--confirm").exit_code == 2
    assert len(runs(root)) == 4


def test_the_bound_has_to_be_given(root: Path) -> None:
    assert run(root, "--confirm").exit_code == 2


def test_hostile_names_are_inert(tmp_path: Path, clock: Clock) -> None:
    write(tmp_path, RunKey(f"d{HOSTILE}", f"r{HOSTILE}", deployment=f"p{HOSTILE}"), began(), [ends("a")], ended(2))
    clock.ahead = timedelta(days=100)
    result = run(tmp_path, "--older-than", "1d")
    assert result.exit_code == 0
    assert result.output.replace("\n", "").isprintable()


def test_help_says_what_the_exit_codes_are() -> None:
    assert "Exit codes: 0 done" in run("--help").stdout
