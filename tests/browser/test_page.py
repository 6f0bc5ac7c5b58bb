"""The page of a run, used as people use it: with a mouse, a keyboard, a screen reader, in the dark, on paper."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.ledger import Entry, RunKey
from ledger_watcher.records import EndedBy, Outcome, Record
from ledger_watcher.report.bars import History
from ledger_watcher.report.page import as_json, render
from ledger_watcher.report.source import Source
from ledger_watcher.report.timeline import timeline_data
from ledger_watcher.state import RunState
from tests.browser.browser import Browser
from tests.core.ledgers import at, began, dbt, ended, ends, log, plan, starts
from tests.core.streams import graph, parse_build

ONE, TWO = "Thread-1 (worker)", "Thread-2 (worker)"
PARENTS = {"model.shop.b": ["model.shop.a"], "model.shop.c": ["model.shop.b"], "model.shop.d": ["model.shop.a"]}
SELECTED = "return document.querySelector('.details:not([hidden]) h2')?.textContent ?? null"
NAMES = "return [...document.querySelectorAll('tbody th')].map((cell) => cell.textContent)"
FOCUSED = "return document.activeElement.getAttribute('aria-label')"


def source(*attempts: Iterable[Record], parents: dict[str, list[str]] | None = None) -> Source:
    state, history = RunState(), History()
    for epoch, records in enumerate(attempts, 1):
        entries = [Entry(epoch, epoch, record) for record in records]
        state.apply(entries)
        history.apply(entries)
    return Source(run=RunKey("shop", "run-1"), state=state, history=history, parents=parents)


def node(name: str, start: float, end: float, thread: str = ONE, outcome: Outcome = Outcome.SUCCESS, **more: Any) -> list[Record]:
    fields = {"thread": thread, "started_at": at(start), "execution_time": end - start, **more}
    return [starts(name, start, thread=thread), ends(name, outcome, end, **fields)]


def two_attempts(newer: Iterable[Record] = ()) -> Source:
    """a is carried over, b failed at first, c runs or ran, d was skipped."""
    carried = {
        "started_at": at(1),
        "execution_time": 2.0,
        "thread": ONE,
        "source": "carried_over",
        "rows_affected": 12345,
        "query_id": "q-7",
    }
    skipped = ends("d", Outcome.SKIPPED, 5, skip_cause=("model.shop.b",), execution_time=0.0, finished_at=None, thread=TWO)
    failed = node("b", 3, 5, outcome=Outcome.FAILED, message="Database Error\n  deadlock detected")
    first = [began(), dbt(), plan(*"abcde"), *node("a", 1, 3), log("a", "10:00:01 START a", "10:00:03 OK a"), *failed, skipped]
    second = [began(7200), dbt(), plan(*"bcde"), ends("a", seconds=3, **carried), *node("b", 7201, 7204), starts("c", 7204, thread=TWO)]
    return source([*first, ended(6, 1, EndedBy.SIGNAL)], [*second, log("c", "running"), *newer], parents=PARENTS)


def three_thousand() -> Source:
    records: list[Record] = [began(), dbt()]
    for number in range(3000):
        thread, start = number % 16, number // 16 * 2 + number % 7 / 10
        outcome = Outcome.FAILED if number % 400 == 399 else Outcome.WARN if number % 90 == 0 else Outcome.SUCCESS
        message = f"SUCCESS {number}" if outcome is Outcome.SUCCESS else "Got 3 results"
        records += node(
            f"stg_orders_{number}", start, start + 1.3, f"Thread-{thread + 1} (worker)", outcome, message=message, rows_affected=number
        )
    parents = {f"model.shop.stg_orders_{number}": [f"model.shop.stg_orders_{max(0, number - 40)}"] for number in range(40, 3000)}
    return source([*records, ended(400, 1)], parents=parents)


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Opens the page of a run; returns its data."""

    def opened(run: Source, *, against: Source | None = None, **how: Any) -> dict[str, Any]:
        data = timeline_data(run, against=against, now=at(7300))
        (tmp_path / "report.html").write_bytes(render(data).encode())
        browser.open(tmp_path / "report.html", **how)
        assert browser.complaints() == []
        return data

    return opened


def test_attempts_are_bands_and_a_node_shows_what_is_known_of_it(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    show(two_attempts())
    assert browser.run("return [...document.querySelectorAll('.band text')].map((e) => e.textContent)") == [
        "attempt 1 · failed",
        "attempt 2 · silent",
    ]
    assert browser.run("return document.querySelectorAll('.fold').length") == 1
    bars = browser.run("return [...document.querySelectorAll('.bar')].map((e) => e.getAttribute('aria-label'))")
    assert bars == [
        "a, model, success, 2.00 s, thread 1, attempt 1",
        "b, model, failed, 2.00 s, thread 1, attempt 1",
        "d, model, skipped, 0.00 s, thread 2, attempt 1",
        "b, model, success, 3.00 s, thread 1, attempt 2, on the critical path",
        "c, model, running, not finished, thread 2, attempt 2, on the critical path",
    ]
    browser.hover(".bar.s-failed")
    assert "deadlock" not in browser.run("return document.querySelector('.tip').textContent"), "the first line of the message"
    assert "Database Error" in browser.run("return document.querySelector('.tip:not([hidden])').textContent")
    browser.keep("attempts-hover")
    browser.click(".bar.s-success")
    panel = browser.run("return document.querySelector('.details').innerText")
    for part in ("2.00 s", "12,345", "q-7", "built by attempt 1, not run again", "Thread-1 (worker)", "10:00:03 OK a", "Downstream (2)"):
        assert part in panel
    browser.click(".details ul.links li:first-child button")
    assert browser.run(SELECTED) == "b"
    assert "attempt 1: failed 2.00 s" in browser.run("return document.querySelector('.details').innerText")
    browser.keep("attempts-details")


def test_what_failed_and_why_is_seen_first(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    """Above the chart, with what went wrong instead of dbt's heading; what runs is below it."""
    said = "Runtime Error in model m0 (models/m0.sql)\n  Binder Error: \x1b[31mno such column\x1b[0m\n  compiled code at target/m0.sql"
    failed = [record for at_ in range(7) for record in node(f"m{at_}", at_, at_ + 1, outcome=Outcome.FAILED, message=said)]
    show(source([began(), dbt(), *node("a", 0, 2, TWO), *failed, starts("late", 7290, thread=TWO)]))
    card = "[...document.querySelectorAll('section.card')].find((one) => one.querySelector('h2').textContent.startsWith(arguments[0]))"
    texts = f"return [{card}.querySelector('h2'), ...{card}.querySelectorAll('li:first-child div > *')].map((one) => one.textContent)"
    assert browser.run(texts, "What failed") == ["What failed (7)", "m0", "model", "Binder Error: no such column"]
    assert browser.run(
        f"return {card}.getBoundingClientRect().bottom < document.querySelector('.chart').getBoundingClientRect().top", "What failed"
    )
    assert browser.run(f"return [...{card}.querySelectorAll('li')].map((one) => one.textContent.includes('late'))", "Running now") == [True]
    browser.keep("what-failed")
    browser.run("document.querySelector('.why + .link').click()")
    assert browser.run(NAMES) == [f"m{at_}" for at_ in range(7)]
    show(source([began(), *node("a", 0, 2), ended(3)]))
    assert "What failed" not in browser.run("return document.body.innerText")


def test_filters(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    data = show(two_attempts(), dark=True)
    assert browser.run(NAMES) == ["a", "b", "d", "c", "e"] == [one["name"] for one in data["nodes"]]
    browser.click(".chip[data-value=success]")
    assert browser.run(NAMES) == ["a", "b"]
    assert browser.run("return document.querySelectorAll('.bar:not(.dim)').length") == 3, "both attempts of b"
    assert browser.run("return document.querySelector('.toolbar output').textContent") == "2 of 5 nodes"
    browser.click("input[type=search]")
    browser.press("b")
    assert browser.run(NAMES) == ["b"]
    browser.keep("filtered-dark")
    browser.run("[...document.querySelectorAll('.toolbar .link')].at(-1).click()")
    assert len(browser.run(NAMES)) == 5
    browser.run("document.querySelectorAll('thead button')[1].click(); document.querySelectorAll('thead button')[1].click()")
    assert browser.run(NAMES) == ["e", "d", "c", "b", "a"]
    assert browser.run("return document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"


def test_the_keyboard_alone(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    from selenium.webdriver.common.keys import Keys

    show(two_attempts())
    browser.run("document.querySelector('.zoom button:last-child').focus()")
    browser.press(Keys.TAB)
    assert browser.run(FOCUSED).startswith("a, model")
    browser.press(Keys.ARROW_RIGHT)
    assert browser.run(FOCUSED).startswith("b, model, failed")
    browser.press(Keys.ARROW_DOWN)
    assert browser.run(FOCUSED).startswith("d, model, skipped")
    browser.press(Keys.END)
    assert browser.run(FOCUSED).startswith("c, model, running")
    browser.press(Keys.ENTER)
    assert (browser.run(SELECTED), browser.run("return document.activeElement.tagName")) == ("c", "H2"), "the panel has the focus"
    browser.press(Keys.ESCAPE)
    assert browser.run(SELECTED) is None
    assert browser.run(FOCUSED).startswith("c, model, running"), "back where it came from"
    browser.press("+")
    assert browser.run("return document.querySelector('.level').textContent") == "1.6\u00d7"
    assert browser.run(FOCUSED).startswith("c, model, running"), "drawn anew, and still there"
    browser.press("0")
    assert browser.run("return document.querySelector('.level').textContent") == "1\u00d7"


def test_a_screen_reader_finds_names_for_everything(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    show(two_attempts(), against=two_attempts())
    browser.click(".bar")
    tree = browser.cdp("Accessibility.getFullAXTree")["nodes"]
    found = [(one["role"]["value"], one.get("name", {}).get("value", "")) for one in tree if not one["ignored"]]
    assert [role for role, name in found if role in ("button", "searchbox", "complementary", "region", "columnheader") and not name] == []
    assert {"main", "search", "complementary", "table", "columnheader", "rowheader", "searchbox", "heading"} <= {role for role, _ in found}
    assert ("rowheader", "b") in found
    assert ("button", "b, model, failed, 2.00 s, thread 1, attempt 1") in found


def test_newer_data_is_drawn_with_selection_filter_and_zoom_as_they_were(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    """What a page that stays open does, such as one in Airflow."""
    show(two_attempts())
    browser.run(
        """
        window.timeline = LedgerTimeline.mount(document.getElementById("ledger-timeline"));
        timeline.update(JSON.parse(document.getElementById("ledger-timeline-data").textContent));
        """
    )
    browser.click(".zoom button[aria-label^='Zoom in']")
    browser.run("document.querySelectorAll('.bar')[4].dispatchEvent(new MouseEvent('click', { bubbles: true }))")
    browser.click(".chip[data-value=running]")
    assert (browser.run(SELECTED), browser.run(NAMES)) == ("c", ["c"])
    browser.run(
        "window.read = document.querySelector('.details pre.log'); const body = document.querySelector('.details .body'); "
        "body.style.maxHeight = '90px'; body.scrollTop = 40"
    )
    browser.run("document.querySelector('.chip[data-value=running]').focus()")
    scrolled = browser.run("return document.querySelector('.details .body').scrollTop")
    browser.run("timeline.update(JSON.parse(document.getElementById('ledger-timeline-data').textContent))")
    assert browser.run("return read.isConnected"), "what somebody may be marking stays"
    assert browser.run("return document.querySelector('.details .body').scrollTop") == scrolled > 0
    assert browser.run("return document.activeElement.dataset.value") == "running", "the keyboard too stays where it was"
    newer = timeline_data(two_attempts([*node("c", 7204, 7209, TWO, rows_affected=77), *node("e", 7209, 7210), ended(7211)]), now=at(7300))
    browser.run("timeline.update(JSON.parse(arguments[0]))", as_json(newer))
    assert browser.run(SELECTED) == "c"
    assert "77" in browser.run("return document.querySelector('.details dl').textContent")
    assert browser.run(NAMES) == [], "c runs no more, and the filter stays"
    assert browser.run("return document.querySelector('.level').textContent") == "1.6\u00d7"


@pytest.mark.parametrize("dark", [False, True])
def test_texts_can_be_read_in_light_and_in_the_dark(browser: Browser, show: Callable[..., dict[str, Any]], dark: bool) -> None:
    """WCAG AA: contrast of 4.5 for text, 3 for what only marks."""
    show(two_attempts(), dark=dark)
    colours = browser.run(
        """
        const probe = document.body.appendChild(document.createElement("i"));
        const colour = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color.match(/[0-9.]+/g).map(Number); };
        return Object.fromEntries(arguments[0].map((name) => [name, colour(name)]));
        """,
        [*TEXTS, *GROUNDS, *STATES],
    )
    for text in TEXTS:
        for ground in GROUNDS:
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for state in STATES:
        assert contrast(colours[state], colours["card"]) >= 3, state


TEXTS = ("text", "muted", "accent")
GROUNDS = ("page", "card", "faint")
STATES = ("success", "warn", "failed", "running", "cancelled", "unfinished", "reused")


CVD = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB."""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("kind", CVD)
def test_the_colours_that_matter_differ_for_the_colour_blind(
    browser: Browser, show: Callable[..., dict[str, Any]], dark: bool, kind: str
) -> None:
    """As far as the light and the tone go; stripes and symbols tell them apart too."""
    show(source([began(), ended(1)]), dark=dark)
    style = (
        "const style = getComputedStyle(document.documentElement); return arguments[0].map((name) => style.getPropertyValue(`--${name}`))"
    )
    seen = [lab(linear(colour), CVD[kind]) for colour in browser.run(style, ["success", "failed", "running", "skipped"])]
    for at_one, one in enumerate(seen):
        for other in seen[:at_one]:
            assert math.dist(one, other) > 12, (at_one, kind)


def linear(colour: str) -> list[float]:
    return [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(colour.strip()[at : at + 2], 16) / 255 for at in (1, 3, 5))
    ]


def lab(colour: list[float], matrix: tuple[tuple[float, ...], ...]) -> list[float]:
    """CIELAB (D65) of what somebody with that deficiency sees."""
    red, green, blue = (max(0.0, sum(factor * part for factor, part in zip(row, colour, strict=True))) for row in matrix)
    x, y, z = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
    )
    fx, fy, fz = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return [116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)]


def contrast(one: list[float], other: list[float]) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio."""
    light, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dim + 0.05)


def luminance(colour: list[float]) -> float:
    parts = [value / 255 for value in colour[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_on_paper_nothing_is_left_that_needs_a_pointer(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    show(two_attempts(), media="print", dark=True)
    visible = browser.run(
        "return ['.toolbar', '.zoom', 'svg', 'table'].map((one) => getComputedStyle(document.querySelector(one)).display)"
    )
    assert visible[:2] == ["none", "none"]
    assert "none" not in visible[2:]
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", "whatever the screen's scheme is"
    assert browser.run("const svg = document.querySelector('svg'); return svg.getBoundingClientRect().right <= innerWidth")
    browser.keep("print")


def test_without_a_script_it_is_a_table(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    show(two_attempts(), scripts=False)
    rows = browser.run(
        "return [...document.querySelectorAll('noscript table')].at(-1).innerText.split('\\n').map((row) => row.split('\\t'))"
    )
    assert rows[-5][:5] == ["a", "success", "model", "1.0", "2.0"]
    assert [row[0] for row in rows[-5:]] == ["a", "b", "d", "c", "e"]
    browser.keep("no-script")


def test_nothing_at_all(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    show(source([began(), ended(2, 2, message="Parsing Error\n  in schema.yml")]), width=390)
    text = browser.run("return document.body.innerText")
    for part in ("No node was begun.", "No nodes.", "Parsing Error", "exit 2"):
        assert part in text
    browser.keep("empty-narrow")


@pytest.mark.parametrize("dark", [False, True])
def test_a_real_run_of_dbt(browser: Browser, show: Callable[..., dict[str, Any]], dark: bool) -> None:
    records = parse_build("1.11").records
    base = min(record.ts for record in records) - timedelta(seconds=1)
    data = show(source([began(base=base), *records], parents={uid: list(above) for uid, above in graph("1.11").items()}), dark=dark)
    bars = sum("bar" in one for one in data["nodes"])
    assert browser.run("return document.querySelectorAll('.bar').length") == bars >= 26
    assert browser.run("return document.querySelectorAll('.bar.critical').length") == len(data["critical"]["nodes"]) > 1
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    browser.keep(f"dbt-{'dark' if dark else 'light'}")


def test_three_thousand_nodes(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    run = three_thousand()
    data = show(run, against=run, dark=True)
    assert browser.run("return document.querySelectorAll('.bar').length") == 3000
    assert len(browser.run(NAMES)) == 100
    browser.click(".more")
    assert len(browser.run(NAMES)) == 600
    browser.click(".chip[data-value=failed]")
    assert len(browser.run(NAMES)) == data["counts"]["failed"] == 7
    browser.keep("3000-dark")


def test_the_data_in_the_page_is_that_of_the_function(browser: Browser, show: Callable[..., dict[str, Any]]) -> None:
    data = show(two_attempts())
    text = browser.run("return document.getElementById('ledger-timeline-data').textContent")
    assert json.loads(text) == json.loads(json.dumps(data))
