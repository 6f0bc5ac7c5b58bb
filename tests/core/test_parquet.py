"""``export --to parquet``: a schema that stays, and the values of the ledger."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli import main
from ledger_watcher.ledger import RunKey
from ledger_watcher.records import Outcome
from ledger_watcher.report.export import COLUMNS
from tests.core.ledgers import at, began, ended, ends, plan, segment, starts, truncate, write, write_open

RUN = RunKey("shop", "run-1", group="dbt")
PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text("utf-8")
RESPONSE = {"code": "OK", "bytes": 10**12, "nested": {"é": [1, None]}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "ledger"
    done = ends("a", started_at=at(1), rows_affected=2**40, query_id="q", adapter_response=RESPONSE, thread="Thread-1", relation='"db"."a"')
    skipped = ends("c", Outcome.SKIPPED, skip_cause=("model.shop.b", "model.shop.x"), execution_time=None, finished_at=None)
    records = [plan("a", "b", "c", "d"), starts("a"), done, ends("b", Outcome.FAILED, message="Boom\x1b", failures=3), skipped]
    write(folder, RUN, began(), records, ended(5, 1))
    write_open(folder, RunKey("other", "live \udc80", map_index=2), began(60), [starts("z", 61)])
    return folder


def export(root: Path, *args: object) -> Result:
    return CliRunner().invoke(main, ["export", str(root), "--to", "parquet", *(str(arg) for arg in args)])


def table(root: Path, *args: object) -> pyarrow.Table:
    file = root.parent / "nodes.parquet"
    result = export(root, "-o", file, *args)
    assert (result.exit_code, result.output) == (0, "")
    return pyarrow.parquet.read_table(file)


def test_the_schema_is_that_of_the_page(root: Path) -> None:
    """Changing a type, a name or the order breaks somebody's query: new columns go to the end."""
    schema = table(root).schema
    section = PAGE.partition("## Parquet")[2].partition("```")[0]
    rows = [row.replace("&lt;", "<").replace("&gt;", ">") for row in re.findall(r"^\| `.*$", section, re.MULTILINE)]
    documented = [tuple(cell.strip(" `") for cell in row.split("|")[1:3]) for row in rows]
    assert [(field.name, re.sub(r"element: ", "", str(field.type))) for field in schema] == documented
    assert tuple(schema.names[:-1]) == COLUMNS, "those of the csv come first"
    assert schema.metadata[b"ledger_watcher.schema"] == b"1"


def test_the_values_are_the_ledger_s(root: Path) -> None:
    rows = table(root, "--run-id", "run-1").to_pylist()
    assert [(row["name"], row["state"]) for row in rows] == [("a", "success"), ("b", "failed"), ("c", "skipped"), ("d", "not_run")]
    first = rows[0]
    assert (first["rows_affected"], first["execution_time"], first["map_index"], first["attempt"]) == (2**40, 0.5, -1, 1)
    assert first["started_at"] == datetime(2026, 7, 31, 10, 0, 1, tzinfo=timezone.utc)
    assert (rows[1]["message"], rows[1]["failures"]) == ("Boom\x1b", 3)
    assert rows[2]["skip_cause"] == ["model.shop.b", "model.shop.x"]
    assert rows[3]["finished_at"] is rows[3]["execution_time"] is rows[3]["adapter_response"] is None
    found = duckdb.sql(f"SELECT adapter_response->>'$.nested.é[0]' FROM '{root.parent}/nodes.parquet' WHERE name = 'a'").fetchall()  # noqa: S608
    assert found == [("1",)]


def test_all_runs_the_page_s_query_over_them(root: Path) -> None:
    rows = table(root, "--all").to_pylist()
    assert [(row["dag_id"], row["run_id"], row["state"]) for row in rows][-1] == ("other", "live \\udc80", "running"), "oldest run first"
    assert len(rows) == 5
    assert len(table(root, "--all", "--dag-id", "other")) == 1
    statements = re.search(r"```sql\n(SET VARIABLE nodes.*?)```", PAGE, re.DOTALL)
    assert statements
    table(root, "--all")
    connection = duckdb.connect()
    connection.execute(statements[1].replace("nodes.parquet", f"{root.parent}/nodes.parquet"))
    assert connection.fetchall() == [("shop", "run-1", 4, 1, 1.0), ("other", "live \\udc80", 1, 0, None)]


def test_a_run_without_nodes_has_the_schema_too(tmp_path: Path) -> None:
    write(tmp_path / "ledger", RUN, began(), [], ended(1))
    assert table(tmp_path / "ledger").num_rows == 0


def test_mistakes_and_damage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CliRunner().invoke(main, ["export", str(root), "--to", "csv", "--all"]).exit_code == 2
    assert export(f"{root}/{RUN.prefix}", "--all").exit_code == 2  # type: ignore[arg-type]
    assert "nothing to export" in export(root, "--all", "--dag-id", "none").stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    missing = export(root)
    assert missing.exit_code == 3
    assert "pip install 'ledger-watcher[parquet]'" in missing.stderr
    truncate(segment(root, RUN, 1))
    file = root.parent / "out.parquet"
    assert export(root, "--all", "-o", file).exit_code == 3
    assert not file.exists(), "half a run would look as if that were all"
