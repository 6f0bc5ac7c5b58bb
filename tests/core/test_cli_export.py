from __future__ import annotations

import csv
import io
import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ledger_watcher import codec
from ledger_watcher.cli import main
from ledger_watcher.ledger import ChainReader, LedgerWriter, RunKey
from ledger_watcher.records import Artifact, Heartbeat, HookFinished, Outcome, Record, Unknown
from ledger_watcher.report.export import COLUMNS
from ledger_watcher.storage import LocalStore
from tests.core.ledgers import at, began, dbt, ended, ends, log, plan, segment, starts, truncate, write, write_open

RUN = RunKey("shop", "run-1", group="etl.dbt")
HOSTILE = "\x1b[31mred\x1b]0;owned\x07 \x9b2J\u202egnp"
STORED = b'{"metadata":{"dbt_version":"1.11.16"},"results":[]}'


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["export", *(str(arg) for arg in args)])


def table(*args: object) -> list[dict[str, str]]:
    result = run(*args, "--to", "csv")
    assert result.exit_code == 0
    return list(csv.DictReader(io.StringIO(result.stdout, newline="")))


def with_artifact(root: Path, *records: Record, seconds: float = 0.0, data: bytes = STORED) -> None:
    """An attempt that stored a run_results.json."""
    writer = LedgerWriter(LocalStore(str(root)), RUN)
    writer.open(began(seconds))
    for record in records:
        writer.append(record)
    writer.put_file("run_results.json", data)
    writer.close(ended(seconds + 5))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "ledger"
    records = [
        dbt(),
        plan("a", "b", "c", "d"),
        starts("a", materialized="table", relation="db.main.a", thread="Thread-1"),
        log("a", "10:00:01 START a"),
        ends("a", rows_affected=7, query_id="q-1", adapter_response={"code": "OK"}, started_at=at(1)),
        ends("b", Outcome.FAILED, 3.0, message='Runtime Error, in "b"\n  division by zero', execution_time=1.25),
        ends("c", Outcome.SKIPPED, skip_cause=("model.shop.b", "model.shop.x"), execution_time=0.0),
        Heartbeat(ts=at(3.5)),
        HookFinished(ts=at(4), unique_id="operation.shop.end-0", outcome=Outcome.FAILED, status="error", message="no such role"),
        Unknown(ts=at(4.6), original_kind="lineage", data={"x": 1}),
    ]
    write(folder, RUN, began(), records, ended(5.0, 1))
    return folder


def test_jsonl_has_every_record_with_its_place_and_run(root: Path) -> None:
    result = run(root, "--to", "jsonl")
    assert (result.exit_code, result.stderr) == (0, "")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    more = ("seq", "epoch", "deployment", "dag_id", "run_id", "group", "map_index")
    entries = ChainReader(LocalStore(str(root)), RUN).read()
    assert [{key: value for key, value in line.items() if key not in more} for line in found] == [
        codec.loads(codec.encode(entry.record)) for entry in entries
    ]
    assert [(line["seq"], line["epoch"]) for line in found] == [(entry.seq, entry.epoch) for entry in entries]
    assert {tuple(line[name] for name in more[2:]) for line in found} == {("default", "shop", "run-1", "etl.dbt", -1)}


def test_the_csv_has_a_row_per_node(root: Path) -> None:
    rows = table(root)
    assert tuple(rows[0]) == COLUMNS
    assert [(row["name"], row["state"], row["status"]) for row in rows] == [
        ("a", "success", "success"),
        ("b", "failed", "error"),
        ("c", "skipped", "skipped"),
        ("d", "not_run", ""),
    ]
    assert rows[0] == {
        "deployment": "default",
        "dag_id": "shop",
        "run_id": "run-1",
        "group": "etl.dbt",
        "map_index": "-1",
        "unique_id": "model.shop.a",
        "name": "a",
        "resource_type": "model",
        "materialized": "table",
        "relation": "db.main.a",
        "attempt": "1",
        "state": "success",
        "status": "success",
        "execution_time": "0.5",
        "started_at": "2026-07-31T10:00:01Z",
        "finished_at": "2026-07-31T10:00:02Z",
        "rows_affected": "7",
        "failures": "",
        "query_id": "q-1",
        "thread": "Thread-1",
        "skip_cause": "",
        "source": "event",
        "message": "",
        "by_choice": "",
    }
    assert rows[1]["message"] == 'Runtime Error, in "b"\n  division by zero'
    assert rows[2]["skip_cause"] == "model.shop.b model.shop.x"


def test_the_columns_of_the_csv_are_stable_and_documented() -> None:
    """Changing or moving one breaks somebody's import: new ones go to the end of this list."""
    assert ",".join(COLUMNS) == (
        "deployment,dag_id,run_id,group,map_index,unique_id,name,resource_type,materialized,relation,attempt,state,status,execution_time,"
        "started_at,finished_at,rows_affected,failures,query_id,thread,skip_cause,source,message,by_choice"
    )
    text = " ".join(run("--help").stdout.split())
    assert ", ".join(COLUMNS) in text
    assert "Exit codes: 0 written" in text


@pytest.mark.parametrize(
    "message", ['a,b;"c"', "one\ntwo", "lone \r return", 'quote " only', ",", '"', "  blanks  ", "ünïcode ✓", "tab\there"]
)
def test_csv_by_its_rules(tmp_path: Path, message: str) -> None:
    write(tmp_path, RUN, began(), [ends("a", message=message), ends("b")], ended(2))
    rows = table(tmp_path)
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[0]["message"] == "\n".join(line.expandtabs(4) for line in message.splitlines())


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", "\t=1+1", "\r=1+1", "\n=cmd|' /C calc'!A0", "  =1"]  # noqa: RUF001


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_defused_when_asked(tmp_path: Path, text: str) -> None:
    write(tmp_path, RUN, began(), [ends("a", message=text, rows_affected=-1)], ended(2))
    (plain,) = table(tmp_path)
    (safe,) = table(tmp_path, "--spreadsheet-safe")
    assert not plain["message"].startswith("'")
    assert safe["message"] == f"'{plain['message']}"
    assert (safe["rows_affected"], safe["map_index"]) == ("-1", "-1"), "a number is no formula"


def test_what_is_no_formula_stays_as_it_is(root: Path) -> None:
    assert table(root, "--spreadsheet-safe") == table(root)
    assert run(root, "--to", "jsonl", "--spreadsheet-safe").exit_code == 2


def test_the_stored_run_results_byte_for_byte(tmp_path: Path) -> None:
    with_artifact(tmp_path, ends("a"))
    result = run(tmp_path, "--to", "run_results")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes == STORED


def test_the_newest_attempts_run_results(tmp_path: Path) -> None:
    with_artifact(tmp_path, ends("a"), ends("b", Outcome.FAILED))
    with_artifact(tmp_path, ends("b"), seconds=10, data=b'{"results":[2]}')
    result = run(tmp_path, "--to", "run_results")
    assert result.stdout_bytes == b'{"results":[2]}'
    assert result.stderr.startswith("It is that of attempt 2: 1 nodes of earlier attempts are not in it")


def test_an_older_attempts_run_results_are_not_taken_for_the_runs(tmp_path: Path) -> None:
    with_artifact(tmp_path, ends("a"), ends("b", Outcome.FAILED))
    write_open(tmp_path, RUN, began(10), [ends("b")])
    result = run(tmp_path, "--to", "run_results")
    assert "stored no run_results.json: this one is made of the records" in result.stderr
    assert {node["unique_id"]: node["status"] for node in json.loads(result.stdout)["results"]} == {
        "model.shop.a": "success",
        "model.shop.b": "success",
    }


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(STORED[:-1] + b" "), lambda file: file.write_bytes(b""), Path.unlink])
def test_a_damaged_artifact_is_refused(tmp_path: Path, damage: object) -> None:
    with_artifact(tmp_path, ends("a"))
    (file,) = (tmp_path / RUN.prefix / "files").iterdir()
    damage(file)  # type: ignore[operator]
    result = run(tmp_path, "--to", "run_results")
    assert (result.exit_code, result.stdout) == (3, "")
    assert str(file) in result.stderr
    assert run(tmp_path, "--to", "csv").exit_code == 0, "that does not need it"


def test_a_record_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"hidden")
    record = Artifact(ts=at(1), name="run_results.json", sha256="ab" * 32, size=6, path="../secret")
    write(tmp_path / "ledger", RUN, began(), [record], ended(2))
    result = run(tmp_path / "ledger", "--to", "run_results")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot be there" in result.stderr


def test_run_results_made_of_records(root: Path) -> None:
    result = run(root, "--to", "run_results")
    assert result.exit_code == 0
    assert result.stderr == (
        "The newest attempt of shop / run-1 group etl.dbt stored no run_results.json: this one is made of the records, "
        "without 1 node that did not end.\n"
    )
    found = json.loads(result.stdout)
    assert found["metadata"]["dbt_schema_version"].endswith("/run-results/v6.json")
    assert (found["metadata"]["dbt_version"], found["metadata"]["invocation_id"]) == ("1.11.16", "0000-1111")
    assert (found["args"], found["elapsed_time"]) == ({"which": "build"}, 5.0)
    assert [(node["unique_id"], node["status"]) for node in found["results"]] == [
        ("model.shop.a", "success"),
        ("model.shop.b", "error"),
        ("model.shop.c", "skipped"),
        ("operation.shop.end-0", "error"),
    ]
    assert found["results"][0] == {
        "status": "success",
        "timing": [{"name": "execute", "started_at": "2026-07-31T10:00:01Z", "completed_at": "2026-07-31T10:00:02Z"}],
        "thread_id": "",
        "execution_time": 0.5,
        "adapter_response": {"code": "OK"},
        "message": None,
        "failures": None,
        "unique_id": "model.shop.a",
        "compiled": None,
        "compiled_code": None,
        "relation_name": "db.main.a",
    }


@pytest.mark.parametrize("outcome", list(Outcome))
def test_dbt_reads_what_is_made_of_records(root: Path, outcome: Outcome) -> None:
    """The words of Fusion, too, become words that dbt knows."""
    run_artifacts = pytest.importorskip("dbt.artifacts.schemas.run")
    write(root, RUN, began(10), [ends("e", outcome, status="some-word-of-fusion"), ends("f", outcome)], ended(12))
    text = run(root, "--to", "run_results").stdout
    results = run_artifacts.RunResultsArtifact.from_dict(json.loads(text)).results
    assert len(results) == 5
    assert results[0].unique_id == "model.shop.a"


def test_into_a_file(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text("old")
    mask = os.umask(0o027)
    try:
        result = run(root, "--to", "csv", "-o", file)
    finally:
        os.umask(mask)
    assert (result.exit_code, result.output) == (0, "")
    assert file.read_bytes() == run(root, "--to", "csv").stdout_bytes
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger", "out.csv"]


@pytest.mark.parametrize("name", ["nowhere/out", ".", "ledger"])
def test_a_file_that_cannot_be_written(root: Path, tmp_path: Path, name: str) -> None:
    result = run(root, "--to", "csv", "--output", tmp_path / name)
    assert result.exit_code == 3
    assert "cannot be written" in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "run_results"])
def test_a_damaged_run_is_not_exported(root: Path, tmp_path: Path, form: str) -> None:
    truncate(segment(root, RUN, 2))
    result = run(root, "--to", form, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert not (tmp_path / "out").exists()
    segment(root, RUN, 1).unlink()
    assert "is gone" in run(root, "--to", form).stderr


def test_what_is_not_there(root: Path) -> None:
    assert run(root, "--to", "csv", "--run-id", "x").exit_code == 3
    assert run(f"{root}/{RunKey('shop', 'y').prefix}", "--to", "csv").exit_code == 3
    assert run(root).exit_code == 2
    assert run(root, "--to", "xml").exit_code == 2


def test_hostile_text_is_inert(tmp_path: Path) -> None:
    records = [ends(f"a{HOSTILE}", Outcome.FAILED, message=f"{HOSTILE}\n{HOSTILE}\x00", status=HOSTILE, query_id=HOSTILE), dbt(HOSTILE)]
    write(tmp_path, RunKey("shop", f"r{HOSTILE}"), began(command=("dbt", HOSTILE)), records, ended(2, 1))
    for form in ("csv", "run_results", "jsonl"):
        result = run(tmp_path, "--to", form)
        assert result.exit_code == 0
        assert result.output.replace("\n", "").replace("\r", "").isprintable(), form
    (row,) = table(tmp_path)
    assert row["message"].startswith("\\x1b[31mred")
    assert json.loads(run(tmp_path, "--to", "jsonl").stdout.splitlines()[0])["command"] == ["dbt", HOSTILE], "escaped, not changed"
