from __future__ import annotations

import pytest

from ledger_watcher import codec
from ledger_watcher.capture import readable
from ledger_watcher.capture.argv import Output
from ledger_watcher.capture.console import Console
from tests.core.streams import events, lines

INFO = {
    "name": "LogModelResult",
    "level": "info",
    "msg": "1 of 1 \x1b[32mOK\x1b[0m",
    "ts": "2026-01-01T12:34:56.789012Z",
    "thread": "Thread-1 (worker)",
}


@pytest.mark.parametrize(
    ("info", "level", "colors", "line"),
    [
        (INFO, "info", False, "12:34:56  1 of 1 OK"),
        (INFO, "info", True, "12:34:56  1 of 1 \x1b[32mOK\x1b[0m"),
        (INFO, "error", False, None),
        (INFO, "none", False, None),
        (INFO, "debug", False, "12:34:56.789012 [info ] [Thread-1 (]: 1 of 1 OK"),
        ({**INFO, "level": "debug"}, "info", False, None),
        ({**INFO, "level": "error"}, "error", False, "12:34:56  1 of 1 OK"),
        ({**INFO, "name": "PrintEvent", "msg": "a,b"}, "error", False, "a,b"),
        ({**INFO, "ts": "soon", "msg": "x"}, "info", False, "x"),
        ({"name": "Formatting", "level": "info", "msg": "", "ts": INFO["ts"]}, "info", False, "12:34:56  "),
        ({"msg": 3}, "info", False, None),
        ("odd", "info", False, None),
    ],
)
def test_a_readable_line_is_that_of_dbts_console(info: object, level: str, colors: bool, line: str | None) -> None:
    """dbt_common.events.logger._TextLogger."""
    assert readable({"info": info}, level=level, colors=colors) == line


@pytest.mark.parametrize("level", ["debug", "info", "warn", "error", "none"])
@pytest.mark.parametrize("stream", ["build-1.11", "build-fusion"])
def test_the_byte_filter_hides_nothing_that_is_shown(stream: str, level: str) -> None:
    console = Console(Output(level=level), print)
    for line in lines(stream):
        if readable(codec.loads(line), level=level) is not None:
            assert console.wants(line)


def test_the_byte_filter_spares_most_lines() -> None:
    console = Console(Output(), print)
    shown = sum(console.wants(line) for line in lines("build-1.11"))
    assert shown < len(lines("build-1.11")) / 4


def test_json_is_passed_on_as_it_is() -> None:
    shown: list[str] = []
    console = Console(Output(json=True), shown.append)
    for event, raw in zip(events("parse-error-1.11"), lines("parse-error-1.11"), strict=True):
        console.event(event, raw)
    assert [codec.loads(line)["info"]["level"] for line in shown].count("debug") == 0
    assert len(shown) >= 3


def test_a_closed_terminal_ends_the_forwarding_and_nothing_else() -> None:
    def broken(_line: str) -> None:
        raise BrokenPipeError("gone")

    console = Console(Output(), broken)
    console.text(b"a\n")
    console.text(b"b\n")
    assert console.problem == "dbt's output could not be shown any more: BrokenPipeError: gone"
