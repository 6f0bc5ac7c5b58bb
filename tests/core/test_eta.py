"""How long a run will still take."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_watcher.cli._past import past_of
from ledger_watcher.ledger import ChainReader, RunKey
from ledger_watcher.records import NodeFinished, Outcome, Record
from ledger_watcher.report.eta import Past, progress
from ledger_watcher.report.table import live_table
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore
from tests.core.ledgers import at, began, ended, ends, plan, starts, truncate, write, write_open

RUN = RunKey("shop", "run-9", group="dbt")


def ran(name: str, start: float, end: float, outcome: Outcome = Outcome.SUCCESS) -> NodeFinished:
    """A node that ran from then to then."""
    return ends(name, outcome, end, started_at=at(start), execution_time=end - start)


def state_of(root: Path, *records: Record, command: tuple[str, ...] = ("dbt", "build")) -> RunState:
    write_open(root, RUN, began(command=command), records)
    state = RunState()
    state.apply(ChainReader(LocalStore(str(root)), RUN).read())
    return state


def test_what_is_left_by_an_earlier_run(tmp_path: Path) -> None:
    """a is done; b has run for 2 of its 10 s; c takes 4, the unknown d the mean: (8 + 4 + 5) s, two at once."""
    past = Past("run-8", ("dbt", "build"), {"model.shop.a": 1.0, "model.shop.b": 10.0, "model.shop.c": 4.0}, at_once=2.0)
    state = state_of(tmp_path, plan("a", "b", "c", "d"), ran("a", 0, 1), starts("b", 1.0))
    far = progress(state, at(3), past=past)
    assert (far.done, far.total, far.guessed, far.by) == (1, 4, False, "run-8")
    assert far.left == pytest.approx((8 + 4 + 5) / 2)
    assert progress(state, at(100), past=past).left == 5.0, "d alone; b, which takes longer than ever, may end at any moment"


def test_never_less_than_the_longest_node(tmp_path: Path) -> None:
    past = Past("run-8", (), {"model.shop.a": 60.0}, at_once=8.0)
    assert progress(state_of(tmp_path, plan("a")), at(1), past=past).left == 60.0


def test_by_what_is_done_so_far(tmp_path: Path) -> None:
    """Two nodes of 2 s each ran side by side; the two that are left take 2 s together."""
    state = state_of(tmp_path, plan("a", "b", "c", "d"), ran("a", 1, 3), ran("b", 1, 3))
    far = progress(state, at(3))
    assert (far.left, far.by) == (2.0, "what is done so far")
    assert "50 %, about 2.00 s left (by what is done so far)" in _plain(state)
    silent = _plain(state, 200)
    assert "silent (last seen 3 min ago): 2 of 4 nodes done" in silent
    assert "left" not in silent, "nobody knows whether it goes on"


def _plain(state: RunState, now: float = 3) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as shown:
        console.print(live_table(state, now=at(now)))
    return shown.get()


def test_without_a_plan_the_nodes_of_the_same_command_are_to_come(tmp_path: Path) -> None:
    past = Past("run-8", ("dbt", "build"), {"model.shop.a": 1.0, "model.shop.b": 3.0})
    state = state_of(tmp_path / "same", ran("a", 0, 1))
    far = progress(state, at(1), past=past)
    assert (far.done, far.total, far.guessed, far.left) == (1, 2, True, 3.0)
    other = state_of(tmp_path / "other", ran("a", 0, 1), command=("dbt", "build", "--select", "a"))
    assert progress(other, at(1), past=past).left is None, "another selection: nobody knows"
    assert progress(state, at(1)).left is None, "nothing to go by"


def test_nothing_is_said_before_anything_is_done_and_after_the_end(tmp_path: Path) -> None:
    assert progress(RunState(), at(0)).left is None
    assert progress(state_of(tmp_path, plan("a")), at(1)).left is None
    write(tmp_path, RUN, began(9), [ran("a", 9, 10)], ended(11))
    state = RunState()
    state.apply(ChainReader(LocalStore(str(tmp_path)), RUN).read())
    assert progress(state, at(12), past=Past("x", (), {"model.shop.a": 5.0})).left is None


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=8))
def test_nodes_at_once_on_average(spans: list[tuple[int, int]]) -> None:
    """Work over the seconds in which anything ran, counted second by second."""
    state = RunState()
    from ledger_watcher.ledger import Entry

    state.apply(Entry(0, 1, record) for record in [began(), *(ran(f"n{i}", s, s + d) for i, (s, d) in enumerate(spans))])
    past = Past.of("x", state)
    assert past is not None
    busy = {second for start, length in spans for second in range(start, start + length)}
    assert past.at_once == pytest.approx(max(1.0, sum(length for _, length in spans) / len(busy)))


def key(run_id: str, **more: str) -> RunKey:
    return RunKey(more.get("dag_id", "shop"), run_id, group=more.get("group", "dbt"))


def test_the_run_before_is_the_newest_ended_one_of_the_same_group(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    assert past_of(store, RUN) is None
    write(tmp_path, key("old"), began(), [ran("a", 0, 1)], ended(2))
    write(tmp_path, key("good"), began(10), [ran("a", 10, 13)], ended(14))
    write(tmp_path, key("bad"), began(20), [ran("a", 20, 21), ran("b", 20, 22, Outcome.FAILED)], ended(23, 1))
    write(tmp_path, key("empty"), began(25), [], ended(26))
    write(tmp_path, key("elsewhere", group="other"), began(30), [ran("a", 30, 39)], ended(40))
    write(tmp_path, key("another", dag_id="x"), began(30), [ran("a", 30, 39)], ended(40))
    write_open(tmp_path, key("killed"), began(50), [ran("a", 50, 59)])
    state_of(tmp_path, plan("a"))
    past = past_of(store, RUN)
    assert past is not None
    assert (past.name, past.seconds) == ("good", {"model.shop.a": 3.0})


def test_one_that_failed_will_do_and_one_that_is_damaged_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, key("bad"), began(20), [ran("a", 20, 21)], ended(23, 1))
    write(tmp_path, key("damaged"), began(30), [ran("a", 30, 31)], ended(33))
    truncate(tmp_path / key("damaged").segment(0))
    past = past_of(LocalStore(str(tmp_path)), RUN)
    assert past is not None
    assert past.name == "bad"
