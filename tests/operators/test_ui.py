"""The pages for Airflow's UI, as far as they need no Airflow that runs: tests/e2e/test_ui.py has the rest."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task_group
from airflow.serialization.serialized_objects import DagSerialization

from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger import Kind, RunKey
from ledger_watcher.records import Outcome
from ledger_watcher.report.timeline import timeline_data
from ledger_watcher_airflow import DbtTaskGroup, ExecutionConfig, ExecutionMode
from ledger_watcher_airflow.consumer import DbtBuildWatcherOperator
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.ui.dags import DagLedger, Place, Run, ledgers_of
from ledger_watcher_airflow.ui.lazy import HEADERS, LazyApp
from ledger_watcher_airflow.ui.timeline import AT_ONCE, NO_LEDGER, OFTEN, SELDOM, LiveRuns, answer
from tests.core.ledgers import at, began, dbt, ended, ends, log, more, plan, segment, starts, truncate, write, write_open

if TYPE_CHECKING:
    from ledger_watcher_airflow import DbtDag

ROOT = Path(__file__).parents[2]
LOADED = """
import json, sys, time
from importlib.metadata import EntryPoint
from airflow.plugins_manager import AirflowPlugin, is_valid_plugin
before = set(sys.modules)
began = time.process_time()
found = EntryPoint("ledger_watcher", sys.argv[1], "airflow.plugins").load()
took = time.process_time() - began
assert is_valid_plugin(found)
print(json.dumps([sorted(set(sys.modules) - before), took]))
"""


def entry_point() -> str:
    found = re.search(r'entry-points."airflow.plugins"]\nledger_watcher = "(.*)"', (ROOT / "pyproject.toml").read_text())
    assert found is not None
    return found[1]


def test_it_costs_nothing_where_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Every process of Airflow loads plugins: beside what Airflow itself has loaded by then, these are a few small modules."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", LOADED, entry_point()], env=env, capture_output=True, text=True, check=True)
    imported, took = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(f"\nthe plugin beyond Airflow's own modules: {took * 1000:.1f} ms CPU")  # noqa: T201 - the figure is what the test is for
    ui = "ledger_watcher_airflow.ui"
    assert f"{ui}.plugin" in imported
    assert set(imported) <= {"ledger_watcher", "ledger_watcher_airflow", ui, f"{ui}.lazy", f"{ui}.plugin"}


# The app that is built by its first request -------------------------------------------------------------------------


def requested(app: LazyApp) -> tuple[dict[str, Any], bytes]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:  # noqa: ANN401 - of ASGI
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "GET", "path": "/run", "headers": []}, receive, send))
    return sent[0], b"".join(one.get("body", b"") for one in sent[1:])


def test_an_app_that_cannot_be_built_is_the_answer_and_no_more(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "ledger_watcher_airflow.ui.app", None)
    start, body = requested(LazyApp())
    assert start["status"] == 500
    assert b"the log of the api-server says why" in body
    assert "cannot be shown" in caplog.text


def test_what_it_answers_is_sent_with_a_strict_policy_over_any_other() -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - of ASGI
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Cache-Control", b"public"), (b"x-other", b"stays")]})
        await send({"type": "http.response.body", "body": b"x"})

    app = LazyApp()
    app._app = inner
    start, body = requested(app)
    headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
    assert sorted(headers) == sorted([("x-other", "stays"), *HEADERS.items()])
    assert (start["status"], body) == (200, b"x")
    assert "unsafe" not in HEADERS["content-security-policy"]


# Which ledgers a DAG has ---------------------------------------------------------------------------------------------


def stored(dag: DAG) -> list[DagLedger]:
    return ledgers_of(DagSerialization.from_dict(DagSerialization.to_dict(dag)))


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_ledger_is_that_of_the_serialized_dag(
    make_dag: Callable[..., DbtDag], monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__LEDGER_WATCHER__DEPLOYMENT", "prod")
    execution = ExecutionConfig(ledger_uri="s3://bucket/ledgers", ledger_conn_id="aws")
    [found] = stored(make_dag(execution_config=execution, operator_args={"deferrable": deferrable}))
    assert found.ref == LedgerRef(uri="s3://bucket/ledgers", conn_id="aws", deployment="prod")
    assert (found.group, found.producer) == ("", "dbt_producer_watcher")
    assert found.tasks["orders.run"] == ("model.shop.orders",)
    assert len(found.tasks["orders.test"]) == 2


def test_each_group_has_its_own(configs: dict[str, Any]) -> None:
    @task_group
    def each(number: int) -> None:
        DbtTaskGroup("dbt", **configs)

    with DAG("bigger", schedule=None) as dag:
        DbtTaskGroup("one", **configs) >> EmptyOperator(task_id="between")
        each.expand(number=[1, 2])
        DbtTaskGroup("local", **{**configs, "execution_config": ExecutionConfig(execution_mode=ExecutionMode.LOCAL)})
    found = {ledger.group: ledger for ledger in stored(dag)}
    assert sorted(found) == ["each.dbt", "one"]
    assert found["each.dbt"].producer == "each.dbt.dbt_producer_watcher"
    assert found["one"].tasks["one.orders.run"] == ("model.shop.orders",)


def test_a_task_of_many_nodes() -> None:
    nodes = [f"model.shop.m{number:03}" for number in range(300)]
    with DAG("coarse", schedule=None) as dag:
        DbtBuildWatcherOperator(task_id="all", nodes=nodes, ledger=LedgerRef(uri="/ledger"), producer_task_id="p")
    [found] = stored(dag)
    assert found.tasks == {"all": tuple(nodes)}


# The timeline while it grows -----------------------------------------------------------------------------------------

KEY = RunKey(dag_id="shop", run_id="one")


def place(root: Path | str, **more: Any) -> Place:
    ledger = DagLedger(ref=LedgerRef(uri=str(root), **more), group="", producer="dbt_producer_watcher", tasks={})
    return Place(ledger=ledger, map_index=-1, state="running")


def run_of(*places: Place, state: str = "running") -> Run:
    return Run(number=1, dag_id=KEY.dag_id, run_id=KEY.run_id, state=state, started_at=None, places=places)


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any] | None]:
    """What a page gets: nothing, if it has seen that."""
    monkeypatch.setattr("ledger_watcher_airflow.ui.timeline.utcnow", lambda: at(20))
    lives, seen = LiveRuns(), [""]

    def ask(state: str = "running") -> dict[str, Any] | None:
        where = place(tmp_path)
        seen[0], found = answer(run_of(where, state=state), where, lives, seen[0])
        return found

    return ask


def test_a_page_sees_a_run_grow_and_is_told_only_news(look: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    first = look()
    assert (first["timeline"], first["again"]) == (None, OFTEN)
    assert "is not there yet. The task dbt_producer_watcher, which writes it, is: running." in first["problem"]
    assert look() is None
    chain = write_open(tmp_path, KEY, began(), [plan("a", "b"), starts("a")])
    grown = look()
    assert (grown["problem"], grown["again"], grown["timeline"]["counts"]["running"]) == (None, OFTEN, 1)
    assert look() is None
    more(chain, ends("a", Outcome.FAILED, message="Binder Error"), starts("b"))
    node = look()["timeline"]["nodes"][0]
    assert (node["state"], node["message"]) == ("failed", "Binder Error")
    more(chain, ended(4, 1), kind=Kind.END)
    done = look(state="failed")
    assert (done["again"], done["timeline"]["live"], done["timeline"]["status"]["word"]) == (None, False, "failed")


def test_all_attempts_are_there(look: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    write(tmp_path, KEY, began(), [dbt(), starts("a"), log("a", "said"), ends("a", Outcome.FAILED)], ended(4, 1))
    write(tmp_path, KEY, began(10), [starts("a", 11), ends("a", seconds=12)], ended(13))
    found = look()
    assert found["again"] == SELDOM, "the DAG run goes on: there may be another attempt"
    assert [one["state"] for one in found["timeline"]["nodes"][0]["earlier"]] == ["failed"]
    assert look(state="success")["again"] is None


def test_a_run_that_ended_without_a_ledger(look: Callable[..., dict[str, Any]]) -> None:
    found = look(state="failed")
    assert (found["again"], found["timeline"]) == (None, None)
    assert "has written nothing. Its log says why" in found["problem"]


def test_a_damaged_ledger_is_shown_up_to_there(look: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    write(tmp_path, KEY, began(), [starts("a"), ends("a")], ended(4))
    truncate(segment(tmp_path, KEY, 1))
    found = look(state="success")
    assert "is corrupt" in found["problem"]
    assert "This is only what stands before an error" in found["timeline"]["notes"][0]


def test_a_segment_that_is_gone_is_not_taken_for_the_end(look: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    write(tmp_path, KEY, began(), [starts("a"), ends("a")], ended(4))
    segment(tmp_path, KEY, 1).unlink()
    assert "it is gone although later segments are there" in look(state="success")["problem"]


def test_no_ledger_and_one_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = answer(run_of(), None, LiveRuns())
    assert found is not None
    assert (found["problem"], found["again"], found["chosen"]) == (NO_LEDGER, None, None)

    def refuse(*args: object) -> None:
        raise ConfigError("create the connection 'aws'")

    monkeypatch.setattr("ledger_watcher_airflow.ledger.connected_filesystem", refuse)
    where = place("s3://bucket", conn_id="aws")
    _, found = answer(run_of(where), where, LiveRuns())
    assert found is not None
    assert "create the connection 'aws'" in found["problem"]
    nowhere = place("s3:/bucket")
    _, found = answer(run_of(nowhere), nowhere, LiveRuns())
    assert found is not None
    assert "one slash after its scheme" in found["problem"]


def test_what_takes_long_to_read_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, KEY, began(), [starts("a"), ends("a")], ended(4))
    lives, where = LiveRuns(), place(tmp_path)
    with lives.of(where.ledger.ref, KEY) as live:
        live.look(0)
        assert live.behind
        assert live.objects == 1
        assert timeline_data(live.source())["nodes"] == []
    monkeypatch.setattr("time.monotonic", iter(range(10**9)).__next__)
    _, found = answer(run_of(where, state="success"), where, lives)
    assert found is not None
    assert found["again"] == AT_ONCE


def test_few_runs_are_kept_and_none_that_nobody_asks_for(tmp_path: Path) -> None:
    lives = LiveRuns(most=2, idle=60)
    ref = LedgerRef(uri=str(tmp_path))
    keys = [RunKey(dag_id="shop", run_id=str(number)) for number in range(3)]
    for key in keys:
        with lives.of(ref, key) as live:
            assert live.state.attempts == {}
    assert [key.run_id for _, key in lives._kept] == ["1", "2"]
    lives._idle = -1
    with lives.of(ref, keys[0]):
        assert [key.run_id for _, key in lives._kept] == ["0"]
