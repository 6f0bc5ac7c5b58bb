"""``ledger-watcher verify``: its words and exit codes; what is found at all is in test_verify.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli import main
from ledger_watcher.ledger import ChainReader, LedgerWriter, RunKey
from ledger_watcher.storage import LocalStore
from tests.core.ledgers import as_version_2, began, ended, ends, plan, segment, starts, truncate, write, write_open

RUN = RunKey("shop", "run-1")
HOSTILE = "\x1b[31mred\x1b]0;owned\x07 \x9b2J\u202egnp"


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["verify", *(str(arg) for arg in args)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An ended run with an artifact."""
    folder = tmp_path / "ledger"
    writer = LedgerWriter(LocalStore(str(folder)), RUN)
    writer.open(began())
    for record in (plan("a"), starts("a"), ends("a")):
        writer.append(record)
    writer.put_file("run_results.json", b"{}")
    writer.close(ended(3))
    return folder


def end_hash(root: Path, key: RunKey = RUN) -> str:
    reader = ChainReader(LocalStore(str(root)), key)
    reader.read()
    assert reader.last is not None
    return reader.last.sha256


def test_a_sound_run(root: Path) -> None:
    result = run(root)
    assert (result.exit_code, result.stderr) == (0, "")
    last = f"last segment 2 {end_hash(root)}"
    assert result.stdout == f"ok  shop / run-1: 3 segments, 6 records, 1 epoch, 1 artifact, 1 checkpoint, ended, {last}\n"


def test_the_last_hash_is_what_the_producer_printed(tmp_path: Path) -> None:
    """``close`` returns it, ``ledger-watcher run`` prints it: so the two can be compared by eye, or by --anchor."""
    writer = LedgerWriter(LocalStore(str(tmp_path)), RUN)
    writer.open(began())
    said = writer.close(ended(3))
    assert run(tmp_path).stdout.endswith(f" {said}\n")
    assert run(tmp_path, "--anchor", said.upper()).exit_code == 0


def test_a_run_under_way_is_fine(tmp_path: Path) -> None:
    write_open(tmp_path, RUN, began(), [starts("a")])
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "not ended, last segment 1 " in result.stdout


def test_the_folder_of_a_run(root: Path) -> None:
    assert run(f"{root}/{RUN.prefix}").exit_code == 0
    assert run(f"{root}/{RUN.prefix}", "--run-id", "run-1").exit_code == 2
    assert run(f"{root}/{RUN.prefix}", "--all").exit_code == 2


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncate, "truncated or altered"),
        (Path.unlink, "it is gone although later segments are there"),
        (lambda path: path.write_bytes(b""), "does not begin like a segment"),
    ],
)
def test_a_damaged_segment(root: Path, damage: object, says: str) -> None:
    damage(segment(root, RUN, 1))  # type: ignore[operator]
    result = run(root)
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert first.startswith("1 problem  shop / run-1: ")
    assert second.startswith(f"  file://{segment(root, RUN, 1)}: ")
    assert says in second
    assert "corrupt" not in second, "one sentence, without the advice that an exception has"


def test_a_damaged_artifact(root: Path) -> None:
    (file,) = (root / RUN.prefix / "files").iterdir()
    file.write_bytes(b"[]")
    result = run(root)
    assert result.exit_code == 1
    assert f"{file}: its content hashes to " in result.stdout
    file.unlink()
    assert f"{file}: it is gone although a record names it" in run(root).stdout


def test_all_problems_are_listed(root: Path) -> None:
    truncate(segment(root, RUN, 0))
    truncate(segment(root, RUN, 2))
    result = run(root)
    assert result.stdout.startswith("2 problems  shop / run-1: 3 segments")
    assert "the newest segment is not readable" in result.stdout


def test_strangers_are_noted_on_standard_error(root: Path) -> None:
    (root / RUN.prefix / "files" / f"x{chr(27)}[31m").write_bytes(b"")
    result = run(root)
    assert result.exit_code == 0
    assert re.fullmatch(r"Note: file://.*/files/x\\x1b\[31m: nothing in the ledger names it\n", result.stderr)


def test_an_anchor(root: Path) -> None:
    anchor = end_hash(root)
    result = run(root, "--anchor", anchor)
    assert result.exit_code == 0
    assert "  anchored: segment 2 is the end of epoch 1, nothing up to it was altered\n" in result.stdout
    (root / RUN.segment(2)).unlink()
    assert "it covers segments that are not there" in run(root).stdout
    (root / RUN.checkpoint(2, end=True)).unlink()
    assert run(root).exit_code == 0, "without its anchor a shortened chain is a sound one"
    result = run(root, "--anchor", anchor)
    assert result.exit_code == 1
    assert f"no end segment has the hash {anchor}" in result.stdout


def test_an_anchor_of_an_earlier_attempt_holds_when_later_ones_were_written(root: Path) -> None:
    first = end_hash(root)
    write(root, RUN, began(10), [ends("a")], ended(12))
    assert run(root, "--anchor", first, "--anchor", end_hash(root)).exit_code == 0


def test_an_anchor_proves_nothing_on_a_damaged_chain(root: Path) -> None:
    anchor = end_hash(root)
    truncate(segment(root, RUN, 0))
    result = run(root, "--anchor", anchor)
    assert result.exit_code == 1
    assert "anchored" not in result.stdout


def test_the_hash_of_another_segment_is_no_anchor(tmp_path: Path) -> None:
    write_open(tmp_path, RUN, began(), [starts("a")])
    assert run(tmp_path, "--anchor", end_hash(tmp_path)).exit_code == 1


@pytest.mark.parametrize("value", ["", "abc", "g" * 64, "0" * 63, "\x1b[31m"])
def test_what_is_no_hash_is_a_mistake(root: Path, value: str) -> None:
    result = run(root, "--anchor", value)
    assert result.exit_code == 2
    assert "\x1b" not in result.output
    assert run(root, "--all", "--anchor", "0" * 64).exit_code == 2


def test_all_runs(root: Path) -> None:
    other, third = RunKey("shop", "run-2"), RunKey("other", "run-1", deployment="prod")
    write(root, other, began(10), [ends("a")], ended(12))
    write(root, third, began(20), [ends("a")], ended(22))
    result = run(root, "--all")
    assert result.exit_code == 0
    assert sorted(line.partition(":")[0] for line in result.stdout.splitlines()) == ["ok  prod", "ok  shop / run-1", "ok  shop / run-2"]
    truncate(segment(root, other, 0))
    result = run(root, "--all", "--dag-id", "shop")
    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in result.stdout.splitlines() if line[0] != " "] == [
        "ok  shop / run-1",
        "1 problem  shop / run-2",
    ]
    assert run(root, "--run-id", "run-1", "--dag-id", "shop").exit_code == 0


def test_a_newer_format_could_not_be_looked_at(root: Path) -> None:
    as_version_2(segment(root, RUN, 1))
    result = run(root)
    assert result.exit_code == 3
    assert result.stdout.startswith("not verified  shop / run-1")
    assert "has ledger format version 2" in result.stderr


def test_problems_outweigh_what_could_not_be_looked_at(root: Path) -> None:
    other = RunKey("shop", "run-2")
    write(root, other, began(10), [ends("a")], ended(12))
    as_version_2(segment(root, RUN, 1))
    truncate(segment(root, other, 1))
    assert run(root, "--all").exit_code == 1


def test_what_is_not_there(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for args in ((tmp_path / "empty",), (tmp_path / "empty", "--all"), (root, "--run-id", "x"), (f"{root}/{RunKey('shop', 'y').prefix}",)):
        result = run(*args)
        assert (result.exit_code, result.stdout) == (3, ""), args
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    assert run(tmp_path / "nowhere").exit_code == 3


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    key = RunKey(f"d{HOSTILE}", f"r{HOSTILE}", deployment=f"p{HOSTILE}")
    write(tmp_path, key, began(), [ends("a")], ended(2))
    truncate(segment(tmp_path, key, 1))
    result = run(tmp_path)
    assert result.exit_code == 1
    assert result.output.replace("\n", "").isprintable()


def test_help_says_what_the_exit_codes_are() -> None:
    text = run("--help").stdout
    assert "Exit codes: 0 all is well" in text
