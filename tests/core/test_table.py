from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ledger_watcher.errors import CorruptLedger, Denied, Transient
from ledger_watcher.ledger import ChainReader, Kind, RunFollower, RunKey
from ledger_watcher.records import Outcome, Record
from ledger_watcher.report.grid import Cell, Column, Grid, terminal
from ledger_watcher.report.table import follow, live_table, progress_line
from ledger_watcher.report.text import age, duration, encodable, first_line, inert, width
from ledger_watcher.report.view import name_of, node_rows
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore
from tests.core.ledgers import at, began, ended, ends, more, plan, segment, starts, truncate, write, write_open

RUN = RunKey("shop", "run-1")
HOSTILE = "\x1b[2J\x07\x9b1m\r\n\u202eevil"


def state_of(root: Path, *records: Record, end: bool = False) -> RunState:
    chain = write_open(root, RUN, began(), records)
    if end:
        more(chain, ended(9.0), kind=Kind.END)
    state = RunState()
    state.apply(ChainReader(LocalStore(str(root)), RUN).read())
    return state


def drawn(renderable: object, *, width: int = 100, height: int = 40) -> str:
    """What a terminal of that size shows, without its colours."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system="truecolor")
    console.print(renderable)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _a_terminal_of_known_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.setitem(sys.modules, name, None)


# The table ------------------------------------------------------------------------------------------------------------


def test_each_node_has_a_symbol_a_word_a_name_and_its_seconds(tmp_path: Path) -> None:
    state = state_of(tmp_path, plan("a", "b", "c", "d"), ends("a", execution_time=0.25), ends("b", Outcome.FAILED), starts("c", 3.0))
    text = drawn(live_table(state, now=at(5.5)))
    rows = [line.split() for line in text.splitlines()]
    assert rows[1:5] == [
        ["✓", "success", "model", "a", "0.25"],
        ["✗", "failed", "model", "b", "0.50"],
        ["▶", "running", "model", "c", "2.50"],
        ["…", "waiting", "model", "d"],
    ]
    assert rows[5][0] == rows[6][0] == "▶"
    assert "▶ ━━━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌ 50 %, about 0.38 s left (by what is done so far)" in text
    assert "running (last seen 2 s ago): 2 of 4 nodes done (1 success, 1 failed, 1 running, 1 waiting), 5.50 s" in text


def test_without_rich_it_is_text(tmp_path: Path, no_rich: None) -> None:
    state = state_of(tmp_path, ends("a"), end=True)
    assert live_table(state) == (
        "status   type   node  seconds\nsuccess  model  a        0.50\nsuccess: 1 of 1 nodes done (1 success), 9.00 s"
    )
    assert terminal(Terminal()) is None


def test_expected_nodes_keep_their_place(tmp_path: Path) -> None:
    state = state_of(tmp_path, starts("z"), ends("b"))
    expected = ["model.shop.a", "model.shop.b", "test.shop.unique_a.0123456789"]
    assert [(row.name, row.state) for row in node_rows(state, expected)] == [
        ("a", "waiting"),
        ("b", "success"),
        ("unique_a", "waiting"),
        ("z", "running"),
    ]


def test_before_the_first_record(tmp_path: Path) -> None:
    text = drawn(live_table(RunState(), ["model.shop.a"]))
    assert "waiting" in text
    assert "nothing in the ledger yet" in text
    assert drawn(live_table(RunState())).strip() == "nothing in the ledger yet"
    assert progress_line(state_of(tmp_path), now=at(1)).endswith(": no node yet, 1.00 s")


def test_on_a_small_screen_what_matters_stays(tmp_path: Path) -> None:
    names = [f"n{number:02d}" for number in range(30)]
    done = [ends(name, seconds=float(number)) for number, name in enumerate(names[:20])]
    state = state_of(tmp_path, plan(*names), ends("n25", Outcome.FAILED, 1.0), *done, starts("n26", 20.0))
    text = drawn(live_table(state, now=at(21), max_rows=5))
    assert re.findall(r"n\d\d", text) == ["n25", "n17", "n18", "n19", "n26"], "failed, running, and those that finished last"
    assert "and 25 more: 17 success, 8 waiting" in text


def test_hostile_names_are_inert(tmp_path: Path, no_rich: None) -> None:
    state = state_of(tmp_path, ends(HOSTILE, Outcome.FAILED, message=HOSTILE))
    text = live_table(state)
    assert isinstance(text, str)
    assert text.replace("\n", "").isprintable()
    assert len(text.splitlines()) == 3


def test_hostile_names_are_inert_on_a_terminal(tmp_path: Path) -> None:
    state = state_of(tmp_path, ends(f"[red]{HOSTILE}[/nope]"))
    text = drawn(live_table(state))
    assert text.replace("\n", "").isprintable()
    assert "[red]\\x1b[2J" in text, "markup of rich is only text too"


# Following ------------------------------------------------------------------------------------------------------------


def reader(root: Path) -> RunFollower:
    return RunFollower(LocalStore(str(root)), RUN)


def script(*steps: Callable[[], object] | None) -> Callable[[], bool]:
    """A ``stop`` that lets something happen before each read; it says stop when there is no more to happen."""
    remaining: Iterator[Callable[[], object] | None] = iter(steps)

    def stop() -> bool:
        step = next(remaining, script)
        if step is script:
            return True
        if step is not None:
            step()
        return False

    return stop


def test_a_line_per_finished_node_as_it_finishes(tmp_path: Path) -> None:
    out, seen = io.StringIO(), []
    chain = write_open(tmp_path, RUN, began())
    state = follow(
        reader(tmp_path),
        out=out,
        interval=0,
        stop=script(
            lambda: more(chain, plan("a", "b"), starts("a"), ends("a", execution_time=0.25)),
            lambda: (seen.append(out.getvalue()), more(chain, ends("b", Outcome.FAILED, message="Boom\nmore"))),
            None,
            lambda: more(chain, ended(4.0, 1), kind=Kind.END),
        ),
    )
    assert state.ended
    assert seen == ["attempt 1: dbt build\nsuccess    a  0.25 s\n"]
    assert out.getvalue() == (
        "attempt 1: dbt build\n"
        "success    a  0.25 s\n"
        "failed     b  0.50 s  Boom\n"
        "failed (exit 1): 2 of 2 nodes done (1 success, 1 failed), 4.00 s\n"
    )


def test_it_starts_before_the_run_does_and_ends_with_it(tmp_path: Path) -> None:
    out = io.StringIO()
    follow(reader(tmp_path), out=out, interval=0, stop=script(None, None, lambda: write(tmp_path, RUN, began(), [ends("a")], ended(2))))
    assert out.getvalue().splitlines()[-1] == "success: 1 of 1 nodes done (1 success), 2.00 s"


def test_stop_still_shows_what_was_written_before(tmp_path: Path) -> None:
    out = io.StringIO()
    chain = write_open(tmp_path, RUN, began())

    def stop() -> bool:
        more(chain, ends("a"))
        return True

    state = follow(reader(tmp_path), out=out, stop=stop)
    assert not state.ended
    assert "success    a" in out.getvalue()


def test_a_later_attempt_can_be_waited_for(tmp_path: Path) -> None:
    out = io.StringIO()
    write(tmp_path, RUN, began(), [ends("a"), ends("b", Outcome.FAILED)], ended(3, 1))
    again = [ends("a", source="carried_over"), ends("b", seconds=12)]
    steps = script(None, lambda: write(tmp_path, RUN, began(10), again, ended(14)))
    state = follow(reader(tmp_path), attempt=2, out=out, interval=0, stop=steps)
    assert max(state.attempts) == 2
    assert out.getvalue().splitlines() == [
        "attempt 1: dbt build",
        "success    a  0.50 s",
        "failed     b  0.50 s",
        "failed (exit 1): 2 of 2 nodes done (1 success, 1 failed), 3.00 s",
        "attempt 2: dbt build",
        "success    b  0.50 s",
        "attempt 2 success: 2 of 2 nodes done (2 success), 4.00 s",
    ]


def test_hostile_lines_are_inert(tmp_path: Path) -> None:
    out = io.StringIO()
    write(tmp_path, RUN, began(command=("dbt", HOSTILE)), [ends(HOSTILE, Outcome.FAILED, message=HOSTILE)], ended(2, 1))
    follow(reader(tmp_path), out=out)
    assert out.getvalue().replace("\n", "").isprintable()
    assert len(out.getvalue().splitlines()) == 3


class Failing(LocalStore):
    """A folder whose reads fail now and then."""

    def __init__(self, path: str, *errors: Exception | None) -> None:
        super().__init__(path)
        self._errors = list(errors)

    def get(self, key: str) -> bytes:
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        return super().get(key)


def test_a_storage_out_of_reach_is_waited_for_and_said_once(tmp_path: Path) -> None:
    write(tmp_path, RUN, began(), [ends("a")], ended(2))
    out = io.StringIO()
    away = Transient("get", "x", "timed out")
    store = Failing(str(tmp_path), away, away, away)
    assert follow(RunFollower(store, RUN), out=out, interval=0).ended
    assert out.getvalue().count("waiting for the storage: ") == 1


def test_what_waiting_does_not_mend_is_raised(tmp_path: Path) -> None:
    write(tmp_path, RUN, began(), [ends("a")], ended(2))
    with pytest.raises(Denied):
        follow(RunFollower(Failing(str(tmp_path), Denied("get", "x")), RUN), out=io.StringIO())
    truncate(segment(tmp_path, RUN, 1))
    with pytest.raises(CorruptLedger):
        follow(reader(tmp_path), out=io.StringIO())


def test_on_a_terminal_the_whole_table_stays_at_the_end(tmp_path: Path) -> None:
    """More nodes than the screen has lines: cut while it runs, complete afterwards."""
    names = [f"n{number:03d}" for number in range(60)]
    chain = write_open(tmp_path, RUN, began(), [plan(*names)])
    out = Terminal()
    steps = script(None, lambda: more(chain, *(ends(name) for name in names)), lambda: more(chain, ended(5), kind=Kind.END))
    follow(reader(tmp_path), out=out, interval=0, stop=steps)
    text = out.getvalue()
    assert "\x1b[?25l" in text, "the cursor is hidden while it is redrawn"
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "and comes back"
    assert "and 26 more: 26 waiting" in text
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text[text.rfind("\x1b[?25h") :])
    assert re.findall(r"n\d\d\d", last) == names
    assert "success: 60 of 60 nodes done (60 success), 5.00 s" in last


def test_an_error_leaves_the_terminal_in_order(tmp_path: Path) -> None:
    write(tmp_path, RUN, began(), [ends("a")], ended(2))
    truncate(segment(tmp_path, RUN, 2))
    out = Terminal()
    write_open(tmp_path, RunKey("shop", "other"), began())
    with pytest.raises(CorruptLedger):
        follow(reader(tmp_path), out=out)
    text = out.getvalue()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


# Text -----------------------------------------------------------------------------------------------------------------


@given(st.text())
def test_inert_text_is_printable_and_printable_text_stays(text: str) -> None:
    assert inert(text).isprintable()
    if text.isprintable():
        assert inert(text) == text


@given(st.text(), st.sampled_from(["ascii", "latin-1", "utf-8", None]))
def test_inert_text_can_be_written_in_any_encoding(text: str, encoding: str | None) -> None:
    encodable(inert(text), encoding).encode(encoding or "utf-8")


def test_a_lone_surrogate_can_be_shown() -> None:
    assert inert("a\udc80b") == "a\\udc80b"


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8).map(str.strip)), max_size=5))
def test_plain_columns_are_aligned(rows: list[tuple[str, str]]) -> None:
    lines = Grid((Column("one"), Column("two", right=True)), [("x", "y"), *rows]).plain().split("\n")
    assert len(lines) == len(rows) + 2
    assert {width(line) for line, row in zip(lines[2:], rows, strict=True) if row[1]} <= {width(lines[0])}


def test_a_terminal_as_wide_as_needed_shows_everything() -> None:
    grid = Grid(
        (Column("state"), Column("name", wraps=6), Column("n", right=True)), [(Cell("failed", "failed"), "abcdefghijklmnopqr", "12345")]
    )
    assert grid.least_width() == (8 + 2) + (6 + 2) + (5 + 2)
    assert drawn(grid.rich(), width=grid.least_width()).split() == [
        "state",
        "name",
        "n",
        "✗",
        "failed",
        "abcdef",
        "12345",
        "ghijkl",
        "mnopqr",
    ]


def test_an_empty_column_is_left_out_and_wide_characters_count_twice() -> None:
    grid = Grid((Column("a"), Column("b"), Column("c")), [(Cell("日本", "failed"), "", "x"), ("é", "", "y")])
    assert grid.plain() == "a     c\n日本  x\né     y"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-1, "0.00 s"),
        (0.306, "0.31 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3725, "1 h 02 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (200_000, "2 d")])
def test_ages(seconds: int, text: str) -> None:
    assert age(at(0), at(seconds)) == text


def test_the_first_line_that_says_something() -> None:
    assert first_line("\n  \n  Runtime\tError \x07\nmore") == "Runtime   Error \\x07"
    assert first_line(None) == ""


@pytest.mark.parametrize(
    ("unique_id", "name"),
    [
        ("model.shop.orders", "orders"),
        ("model.shop.orders.v2", "orders.v2"),
        ("test.shop.unique_orders_id.0123456789", "unique_orders_id"),
        ("test.shop.orders_add_up", "orders_add_up"),
        ("unit_test.shop.orders.adds_up", "orders.adds_up"),
        ("odd", "odd"),
    ],
)
def test_names_within_unique_ids(unique_id: str, name: str) -> None:
    assert name_of(unique_id) == name
