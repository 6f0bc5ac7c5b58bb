"""docs/sql.md: its statements run over real ledgers, local and on S3. deploy/sql: the columns are those of the format, the views say what DuckDB's do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import duckdb
import fsspec
import pytest
import sqlglot

from ledger_watcher.ledger import ChainReader, LedgerWriter, RunFollower, RunKey, list_runs
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.records import KINDS, NodeFinished, Outcome
from ledger_watcher.report.view import node_rows
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore
from tests.core.ledgers import T0, began, ended, ends, log, more, plan, starts
from tests.core.servers import CREDENTIALS, MotoServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sql.md").read_text("utf-8")
ATHENA, BIGQUERY = ((ROOT / "deploy" / "sql" / f"{name}.sql").read_text("utf-8") for name in ("athena", "bigquery"))
HEADER = {"type": str, "run": str, "seq": int, "epoch": int}
"""What of a header is a column, too."""


def blocks(title: str, language: str = "sql") -> list[str]:
    """The code below a heading, down to the next heading."""
    section = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/sql.md has no section {title!r}"
    found = re.findall(rf"^```{language}\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    assert found, f"{title!r} has no {language}"
    return found


def execute(connection: duckdb.DuckDBPyConnection, title: str, *, once: bool = False, **replaced: object) -> list[tuple[Any, ...]]:
    """Run the statements below a heading, with other values for some variables; the rows of the last one.

    :param once: read the ledger once, as the page says of remote ones.
    """
    for block in blocks(title):
        for statement in filter(str.strip, block.split(";\n")):
            name = re.match(r"\s*SET VARIABLE (\w+) =", statement)
            mine = f"SET VARIABLE {name[1]} = '{replaced[name[1]]}'" if name and name[1] in replaced else statement
            connection.execute(mine.replace("VIEW ledger_lines", "TABLE ledger_lines") if once else mine)
    return connection.fetchall()


def checked(name: str, day: int, outcome: Outcome = Outcome.SUCCESS, hour: float = 0) -> NodeFinished:
    """A test that ended."""
    ts = T0 + timedelta(days=day, hours=hour)
    return NodeFinished(
        ts=ts, unique_id=f"test.shop.{name}.0123456789", name=name, resource_type="test", outcome=outcome, status="pass", execution_time=0.1
    )


def built(name: str, day: int, seconds: float, **more_fields: Any) -> NodeFinished:
    """A model that ended on that day of July (T0 is the 31st)."""
    fields = {"execution_time": seconds, "started_at": None, "finished_at": None, **more_fields}
    return ends(name, fields.pop("outcome", Outcome.SUCCESS), day * 86400.0 + 1, **fields)


RUN = RunKey("shop/ä", "scheduled__1", group="etl.dbt")
LONG = RunKey("d" * 450, "r" * 230, map_index=3, deployment="prod")
"""Its names take several path parts."""


def fill(store: LocalStore) -> None:
    """A month of runs: a test that flaps, one that fails at first in the same run, a model that grows, attempts that go on from others."""
    for number, day in enumerate((-20, -10, -1, 0), 1):
        run = RunKey(RUN.dag_id, f"scheduled__{number}", group=RUN.group)
        failed = number in (2, 4)
        records = [
            plan("orders", "customers"),
            starts("orders", day * 86400.0),
            built("orders", day, 10.0 + number, rows_affected=100 * number, query_id=f"q-{number}", adapter_response=billed(number)),
            log("orders", "OK"),
            built("customers", day, 1.0, query_id=f"c-{number}"),
            checked("flaps", day, Outcome.FAILED if failed else Outcome.SUCCESS),
            checked("broken", day, Outcome.FAILED),
            checked("fine", day),
        ]
        append(store, run, day, records, 1 if failed else 0)
    again = RunKey(RUN.dag_id, "scheduled__9", group=RUN.group)
    append(store, again, 0, [built("orders", 0, 50.0, outcome=Outcome.FAILED), checked("shaky", 0, Outcome.FAILED)], 1)
    carried = built("customers", 0, 99.0, source="carried_over")
    append(store, again, 0, [built("orders", 0, 5.0), carried, checked("shaky", 0, hour=1)], 0)
    append(store, LONG, -40, [built("june", -40, 1000.0)], 0)
    chain = write_open_at(store, RunKey("live", "x"))
    more(chain, starts("orders"))


def billed(number: int) -> dict[str, Any]:
    return {"bytes_billed": number * 1024**4, "slot_ms": 7, "note": "a,b"}


def append(store: LocalStore, run: RunKey, day: int, records: list[Any], code: int) -> None:
    writer = LedgerWriter(store, run)
    writer.open(began(day * 86400.0))
    for record in records:
        writer.append(record)
    writer.close(ended(day * 86400.0 + 60, code))


def write_open_at(store: LocalStore, run: RunKey) -> ChainWriter:
    chain = ChainWriter(store, run)
    chain.claim(began())
    return chain


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledgers")
    fill(LocalStore(str(folder)))
    return folder


@pytest.fixture(scope="module", params=["local", "s3"])
def sql(request: pytest.FixtureRequest, local: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the views of the page, over a folder or a bucket."""
    connection = duckdb.connect()
    where = str(local)
    if request.param == "s3":
        moto: MotoServer = request.getfixturevalue("moto")
        options = {"endpoint_url": moto.url, **CREDENTIALS}
        where = f"s3://{moto.bucket()}/ledgers"
        files = fsspec.filesystem("s3", **options)
        files.put(f"{local}/v1", f"{where}/v1", recursive=True)
        assert "register_filesystem(fsspec.filesystem(" in blocks("S3, GCS, Azure", "python")[0]
        connection.register_filesystem(files)
    execute(connection, "DuckDB", ledger=where, once=True)
    yield connection
    connection.close()


def test_the_slowest_models_of_the_month(sql: duckdb.DuckDBPyConnection) -> None:
    assert execute(sql, "The slowest models of the month") == [
        ("orders", 5, 11.0, 14.0, 55.0),
        ("customers", 4, 1.0, 1.0, 4.0),
    ], "what failed, what was carried over and what ran in June do not count"


def test_flaky_tests(sql: duckdb.DuckDBPyConnection) -> None:
    found = execute(sql, "Flaky tests")
    assert found == [("flaps", 4, 2, 3)], "not the one that always fails, nor those that changed once"


def test_rows_over_time(sql: duckdb.DuckDBPyConnection) -> None:
    found = execute(sql, "Rows over time")
    assert [(str(day), *rest) for day, *rest in found] == [
        ("2026-07-11", "orders", 100, None),
        ("2026-07-21", "orders", 200, 100),
        ("2026-07-30", "orders", 300, 100),
        ("2026-07-31", "orders", 400, 100),
    ]


def test_cost_by_query_id(sql: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("query_id,credits\nq-1,0.5\nq-2,0.25\nc-1,2\nelse,9\n")
    found = execute(sql, "Cost by query id", history=history)
    assert found == [("shop/ä", "customers", 1, 2.0), ("shop/ä", "orders", 2, 0.75)]
    billed_first = sql.execute(blocks("Cost by query id")[0].split(";\n")[1]).fetchall()
    assert billed_first[0] == ("orders", "q-4", 4 * 1024**4, 25.0)
    assert len(billed_first) == 4


def test_the_views_say_what_show_says(sql: duckdb.DuckDBPyConnection, local: Path) -> None:
    found = sql.execute(
        "SELECT deployment, dag_id, run_id, task_group, map_index, unique_id, outcome, epoch, execution_time FROM nodes"
    ).fetchall()
    assert sorted(found) == sorted(
        (run.deployment, run.dag_id, run.run_id, run.group, run.map_index, row.unique_id, row.state, row.attempt, row.seconds())
        for run, state in states(local)
        for row in node_rows(state)
        if row.finished is not None
    )


def states(folder: Path) -> Iterator[tuple[RunKey, RunState]]:
    store = LocalStore(str(folder))
    for run in list_runs(store):
        yield run, RunFollower(store, run).snapshot()


def test_every_record_is_there(sql: duckdb.DuckDBPyConnection, local: Path) -> None:
    store = LocalStore(str(local))
    expected = sum(len(ChainReader(store, run).read()) for run in list_runs(store))
    assert sql.execute("SELECT count(*) FROM records").fetchone() == (expected,)
    ((text,),) = sql.execute("SELECT adapter_response::VARCHAR FROM nodes WHERE query_id = 'q-2'").fetchall()
    assert json.loads(text) == billed(2)


# Columns --------------------------------------------------------------------------------------------------------------


def fields() -> dict[str, Any]:
    """Every field of every record, and of the header what is a column: name -> Python's type."""
    found: dict[str, Any] = {**HEADER, "kind": str, "ts": datetime}
    for record in KINDS:
        hints = get_type_hints(record)
        found |= {name: _bare(hint) for name, hint in hints.items() if name != "kind"}
    return found


def _bare(hint: object) -> type:
    """Without ``None`` and without what is in it; an enum is text."""
    plain = [member for member in get_args(hint) if member is not type(None)] if type(None) in get_args(hint) else [hint]
    kind = get_origin(plain[0]) or plain[0]
    assert isinstance(kind, type)
    return str if issubclass(kind, Enum) else kind


DUCK = {
    str: "VARCHAR",
    int: "BIGINT",
    float: "DOUBLE",
    bool: "BOOLEAN",
    datetime: "TIMESTAMP WITH TIME ZONE",
    tuple: "VARCHAR[]",
    dict: "JSON",
}
ATHENA_TYPES = {str: "STRING", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN", datetime: "STRING", tuple: "ARRAY<STRING>", dict: "STRING"}
BIGQUERY_TYPES = {str: "STRING", int: "INT64", float: "FLOAT64", bool: "BOOL", datetime: "TIMESTAMP", tuple: "ARRAY<STRING>", dict: "JSON"}


def columns(types: Mapping[type, str]) -> dict[str, str]:
    """name -> type, as a table of lines has to have them."""
    return {name: types[kind] for name, kind in fields().items()}


def test_duckdb_s_columns_are_the_format_s(local: Path) -> None:
    connection = duckdb.connect()
    execute(connection, "DuckDB", ledger=local)
    assert connection.execute("SELECT count(*) FROM nodes").fetchone() == (24,), "as views, too"
    described = connection.execute("DESCRIBE ledger_lines").fetchall()
    assert {name: kind for name, kind, *_ in described if name != "filename"} == columns(DUCK)


@pytest.mark.parametrize(("text", "dialect", "types"), [(ATHENA, "hive", ATHENA_TYPES), (BIGQUERY, "bigquery", BIGQUERY_TYPES)])
def test_external_tables_have_the_columns_of_the_format(text: str, dialect: str, types: Mapping[type, str]) -> None:
    """Athena's DDL is Hive's."""
    create = text.partition(";\n")[0]
    table = sqlglot.parse_one(create, read=dialect)
    found = {column.name: column.args["kind"].sql(dialect) for column in table.find_all(sqlglot.exp.ColumnDef)}
    assert found == columns(types)


@pytest.mark.parametrize(("text", "dialect", "path"), [(ATHENA, "athena", "$path"), (BIGQUERY, "bigquery", "_FILE_NAME")])
def test_views_of_the_clouds_say_what_duckdb_s_say(local: Path, text: str, dialect: str, path: str) -> None:
    """Translated to DuckDB and run over a table like theirs: every object below v1, checkpoints too. There is no Athena and no BigQuery here."""
    connection = duckdb.connect()
    execute(connection, "DuckDB", ledger=local, once=True)
    expected = connection.execute("SELECT run_id, unique_id, epoch, outcome, message FROM nodes ORDER BY ALL").fetchall()
    assert expected
    as_text = " REPLACE (ts::VARCHAR AS ts)" if dialect == "athena" else ""
    everything = blocks("DuckDB")[1].replace("VIEW ledger_lines", "TABLE every_line").replace("/seg/*.jsonl", "/*.jsonl")
    connection.execute(everything)
    connection.execute(f'CREATE TABLE lines_of_cloud AS SELECT *{as_text} RENAME (filename AS "{path}") FROM every_line')  # noqa: S608
    assert connection.execute("SELECT count(*) > (SELECT count(*) FROM ledger_lines) FROM lines_of_cloud").fetchone() == (True,)
    for view in text.split(";\n")[1:]:
        if view.strip():
            (statement,) = sqlglot.transpile(view, read=dialect, write="duckdb")
            connection.execute(statement.replace("dbt_ledgers.", "").replace("ledger_lines", "lines_of_cloud"))
    found = connection.execute("SELECT run_id, unique_id, attempt_number, outcome, message FROM nodes ORDER BY ALL").fetchall()
    assert found == expected
