"""What Airflow's own UI shows of ledgers, in a real browser; and who gets to see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from ledger_watcher.ledger import LedgerWriter, RunKey
from ledger_watcher.records import AttemptFinished, AttemptStarted, NodeFinished, NodeStarted, Outcome, Record
from ledger_watcher.storage import LocalStore
from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack
from tests.browser.browser import Browser
from tests.browser.test_hostile import MADE, Canary, attempt
from tests.core.hostile import CANARY, PAYLOADS
from tests.core.ledgers import at, began, ended, segment, truncate
from tests.e2e.gate import PASSWORD, Gate

HERE = "ledger-watcher"
BROKEN = {"dag_id": "broken", "run_id": "ui"}
PAGES = ("run", "run/data", "task", "task/data", "ledgers", "ledgers/data")
NAMED = ("model.broken.good", "model.broken.bad", "model.broken.tested")


@pytest.fixture(scope="module")
def gate(airflow: AirflowStack, home: Path) -> Iterator[Gate]:
    airflow.wait_for_dag("broken", 60)
    airflow.wait_for_dag("shown", 60)
    with Gate(airflow, home / "gate") as found:
        yield found


@pytest.fixture(scope="module")
def browser(gate: Gate) -> Iterator[Browser]:
    """Ann's, who has logged in by Airflow's own form."""
    found = Browser()
    try:
        found.open(f"{gate.url}/")
        assert until(lambda: found.run("return document.querySelector('input[name=username]') !== null"), 60)
        for name, text in (("username", "ann"), ("password", PASSWORD)):
            found.click(f"input[name={name}]")
            found.press(text)
        found.click("button[type=submit]")
        assert until(lambda: found.run("return document.querySelector('nav, [data-testid=nav-sidebar]') !== null"), 60), found.run(
            "return document.body.innerText"
        )
        yield found
    finally:
        found.quit()


def enter(browser: Browser, url: str) -> None:
    """Open a page of Airflow, and go into the frame that shows ours."""
    browser.open(url)
    assert until(lambda: browser.run("return document.querySelector('iframe[title^=dbt]') !== null"), 60), browser.run(
        "return document.body.innerText"
    )
    browser.driver.switch_to.frame(browser.run("return document.querySelector('iframe[title^=dbt]')"))


def shows(browser: Browser, script: str, timeout: float = 60) -> Any:  # noqa: ANN401 - what the script returns
    """What a script returns in the frame, once that is something."""
    found: list[Any] = []

    def said() -> bool:
        found[:] = [browser.run(f"return document.getElementById('ledger-ui') && (() => {{ {script} }})()")]
        return bool(found[0])

    assert until(said, timeout), browser.run("return document.body.innerText")
    return found[0]


def text(browser: Browser, *words: str) -> str:
    """The page's text, once these words are in it."""
    wanted = " && ".join(f"said.includes({word!r})" for word in words)
    return str(shows(browser, f"const said = document.body.innerText; return {wanted} && said"))


# Who sees what -------------------------------------------------------------------------------------------------------


def test_nobody_sees_more_than_airflow_shows_them(gate: Gate) -> None:
    """Anonymous: 401. Without access to the DAG: 403. All answers forbid inline scripts, and guessing of types."""

    def status(user: str | None, path: str, **parameters: str) -> int:
        answer = sessions[user].get(f"{gate.url}/{HERE}/{path}", params=parameters, timeout=30)
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        return answer.status_code

    sessions = {name: gate.user(name) for name in ("ann", "bob", None)}
    of_shown = {"dag_id": "shown", "run_id": "none", "task_id": "none"}
    for path in (*PAGES, "static/ui.js"):
        assert status(None, path, **of_shown) == 401, path
    for path in PAGES:
        assert status("bob", path, **of_shown) == 403, path
        assert status("ann", path, **of_shown) == (404 if path == "run/data" else 200), path
        assert status("bob", path, dag_id="broken", run_id="none", task_id="none") == (404 if path == "run/data" else 200), path
    for path in ("openapi.json", "docs", "redoc"):
        assert status(None, path) == 404
    sessions["bad"] = gate.user(None)
    sessions["bad"].cookies.set("_token", "eyJhbGciOiJub25lIn0.e30.", path="/")
    assert status("bad", "run", **of_shown) in (401, 403)
    for several in ("dag_id=broken&dag_id=shown", "dag_id=shown&dag_id=broken"):
        answer = sessions["bob"].get(f"{gate.url}/{HERE}/ledgers/data?{several}", timeout=30)
        dags = {run["dag_id"] for run in answer.json().get("runs", ())}
        assert answer.status_code == 403 or dags <= {"broken"}
    for dag_id in ("", "~", "*", "no_such"):
        assert status("bob", "run/data", dag_id=dag_id, run_id="ui") in (403, 422), dag_id


# A run that goes on --------------------------------------------------------------------------------------------------


def test_the_timeline_of_a_running_dag_grows_and_shows_its_error(airflow: AirflowStack, gate: Gate, browser: Browser) -> None:
    """Airflow's page of the run has the tab; the timeline fills while dbt works, without a reload; a failed node says why."""
    airflow.trigger(**BROKEN)
    browser.open(f"{gate.url}/dags/broken/runs/ui", width=1600, height=1000)
    tab = "a[href$='/dags/broken/runs/ui/plugin/dbt-run']"
    assert until(lambda: browser.run(f'return document.querySelector("{tab}") !== null'), 60)
    browser.click(tab)
    assert until(lambda: browser.run("return document.querySelector('iframe[title=dbt]') !== null"), 60)
    browser.driver.switch_to.frame(browser.run("return document.querySelector('iframe[title=dbt]')"))
    seen: list[tuple[str, int]] = []

    def ended_() -> bool:
        found = browser.run(
            "const root = document.getElementById('ledger-ui'); if (!root?.dataset.state) return null; window.kept ??= 0; window.kept += 1; "
            "return [root.dataset.state, document.querySelectorAll('.bar').length]"
        )
        if found and (not seen or seen[-1] != tuple(found)):
            seen.append(tuple(found))
            browser.keep(f"ui-run-{len(seen)}")
        return bool(seen) and seen[-1][0] in ("success", "failed")

    assert until(ended_, 200), seen
    bars = [number for _, number in seen]
    assert bars == sorted(bars)
    assert (bars[0], bars[-1] > 5, len(seen) > 1) == (0, True, True), seen
    assert browser.run("return window.kept") > len(seen), "it is the same document all the time"
    assert airflow.wait_for_run(**BROKEN) == "failed"
    browser.run("[...document.querySelectorAll('tbody th button')].find((one) => one.textContent === 'bad').click()")
    said = shows(browser, "return document.querySelector('.details pre.message')?.textContent")
    assert "no_such_column" in said
    browser.keep("ui-run")
    assert [one for one in browser.complaints() if "can escape its sandboxing" not in one] == [], "but of the frame, which is Airflow's"


def test_what_a_page_asks_for_and_when_it_stops(gate: Gate, browser: Browser) -> None:
    """Of a run that has ended, once; nothing of another host."""
    enter(browser, f"{gate.url}/dags/broken/runs/ui/plugin/dbt-run")
    text(browser, "Slowest ten")
    assert browser.run("return [again, timer]") == [None, None], "it does not mean to ask again"
    asked = browser.requests()
    assert [url.partition("?")[0].rpartition(f"/{HERE}/")[2] for url in asked].count("run/data") == 1
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {gate.url.split("/")[2]}


def test_the_story_of_a_task(gate: Gate, browser: Browser) -> None:
    """On the page of the task and on that of its instance in a run: how long it took, its message."""
    enter(browser, f"{gate.url}/dags/broken/tasks/bad_run/plugin/dbt-task")
    text(browser, "model.broken.bad", "failed in", "Runtime Error in model bad", "ui")
    assert "no_such_column" in browser.run("return document.querySelector('tbody details pre').textContent")
    assert browser.run("return document.querySelectorAll('.column').length") >= 1
    enter(browser, f"{gate.url}/dags/broken/runs/ui/tasks/good.run/plugin/dbt-task-instance")
    text(browser, "model.broken.good", "usually")
    enter(browser, f"{gate.url}/dags/broken/tasks/dbt_producer_watcher/plugin/dbt-task")
    text(browser, "mirrors no node of dbt")


# Ledgers that are written here ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ledgers(airflow: AirflowStack, gate: Gate, home: Path) -> Callable[..., RunKey]:
    """Creates a run of the DAG that is never run, and its ledgers: all but that of the bucket which is not there."""
    root = home / "ledger"

    def make(run_id: str, **attempts: list[list[Record]]) -> RunKey:
        airflow.trigger("shown", run_id)
        for group, several in attempts.items():
            for first, *records, last in several:
                assert isinstance(first, AttemptStarted)
                assert isinstance(last, AttemptFinished)
                writer = LedgerWriter(LocalStore(str(root)), RunKey(dag_id="shown", run_id=run_id, group=group))
                writer.open(first)
                for record in records:
                    writer.append(record)
                writer.close(last)
        return RunKey(dag_id="shown", run_id=run_id, group="dbt")

    return make


def built(name: str, outcome: Outcome = Outcome.SUCCESS, start: float = 1.0, **more: Any) -> list[Record]:
    """A node that took a second."""
    facts = {"unique_id": name, "name": name.split(".")[2], "resource_type": "model"}
    end = {"status": outcome.value, "execution_time": 1.0, "finished_at": at(start + 1), **more}
    return [NodeStarted(ts=at(start), started_at=at(start), **facts), NodeFinished(ts=at(start + 1), outcome=outcome, **end, **facts)]


def page(gate: Gate, view: str, **parameters: str) -> str:
    return f"{gate.url}/{HERE}/{view}?{urlencode(parameters)}"


def test_which_of_several_ledgers_and_what_is_wrong_with_one(
    gate: Gate, browser: Browser, ledgers: Callable[..., RunKey], home: Path
) -> None:
    """One of two attempts, one that is damaged, one in a bucket that does not exist; chosen by a button, and kept in the address."""
    first = [began(), *built(NAMED[0]), *built(NAMED[1], Outcome.FAILED, message="Binder Error"), ended(4, 1)]
    second = [began(20), *built(NAMED[1], start=21), ended(24)]
    run = ledgers("several", dbt=[first, second], other=[first])
    truncate(segment(home / "ledger", RunKey("shown", "several", group="other"), 2))
    enter(browser, f"{gate.url}/dags/shown/runs/several/plugin/dbt-run")
    said = text(browser, "2: success", "1: failed")
    assert [one in said for one in ("dbt", "far", "other")] == [True] * 3
    assert browser.run("return document.querySelectorAll('.bar').length") == 3, "good, bad, and bad again"
    browser.run("[...document.querySelectorAll('.choice button')].find((one) => one.textContent.includes('far')).click()")
    text(browser, "no-such-bucket")
    browser.run("[...document.querySelectorAll('.choice button')].find((one) => one.textContent.includes('other')).click()")
    text(browser, "is corrupt", "This is only what stands before an error")
    assert browser.run("return new URLSearchParams(location.search).get('group')") == "other"
    ledgers("nothing")
    browser.open(page(gate, "run", dag_id="shown", run_id="nothing", group=run.group))
    text(browser, "The ledger of this run is not there yet. The task dbt.dbt_producer_watcher")
    for parameters in ({"group": "no"}, {"group": "dbt", "map_index": "7"}):
        browser.open(page(gate, "run", dag_id="shown", run_id="several", **parameters))
        text(browser, "This DAG run has no such ledger")
    browser.open(page(gate, "run", dag_id="no_such_dag", run_id="x"))
    text(browser, "There is no such DAG run")


def test_the_list_of_ledgers(gate: Gate, browser: Browser, ledgers: Callable[..., RunKey]) -> None:
    """All that a user may read, or those of a DAG; a run is opened from there."""
    enter(browser, f"{gate.url}/plugin/dbt-ledgers")
    said = text(browser, "several", "no-such-bucket", "2 success", "file:")
    assert "broken" in said
    browser.run("[...document.querySelectorAll('tbody th a')].find((one) => one.textContent === 'several').click()")
    text(browser, "Slowest ten")
    enter(browser, f"{gate.url}/dags/broken/plugin/dbt-dag")
    assert "several" not in text(browser, "ui", "failed")
    seen = gate.user("bob").get(page(gate, "ledgers/data"), timeout=30).json()
    assert {run["dag_id"] for run in seen["runs"]} == {"broken"}


def test_hostile_content_does_nothing(gate: Gate, browser: Browser, ledgers: Callable[..., RunKey]) -> None:
    """Each text of somebody else's is a payload; every bar is hovered and opened, every filter typed: no script, no dialog, no request."""
    from selenium.common.exceptions import NoAlertPresentException

    canary = Canary()
    payloads = [one.replace(CANARY, canary.url).encode("utf-8", "replace").decode() for one in PAYLOADS]
    every = "".join(payloads)
    first = attempt(payloads, 1, Outcome.FAILED)
    named = [one for name in NAMED for one in built(name, Outcome.FAILED, message=f"{every}\n{every}"[:8000], query_id=every)]
    ledgers("hostile", dbt=[[first[0], *named, *first[1:]], attempt(payloads, 2, Outcome.WARN)])
    pages = {
        "run": page(gate, "run", dag_id="shown", run_id="hostile"),
        "task": page(gate, "task", dag_id="shown", task_id="dbt.bad_run"),
        "ledgers": page(gate, "ledgers", dag_id="shown"),
    }
    for view, url in pages.items():
        browser.open(url)
        text(browser, "Attempts" if view == "run" else "hostile")
        if view == "run":
            names = browser.run(
                """
                const names = [...document.querySelectorAll("tbody th bdi")].map((one) => one.textContent);
                const input = document.querySelector("input");
                for (const button of document.querySelectorAll("thead button")) button.click();
                for (const bar of document.querySelectorAll(".bar")) {
                  bar.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 9, clientY: 9 }));
                  bar.dispatchEvent(new MouseEvent("click", { bubbles: true }));
                }
                for (const name of names) { input.value = name; input.dispatchEvent(new Event("input")); }
                return names;
                """
            )
            assert len(names) == len(payloads) + len(NAMED)
        browser.keep(f"ui-hostile-{view}")
        with pytest.raises(NoAlertPresentException):
            _ = browser.driver.switch_to.alert
        assert browser.run("return window.pwned") is None
        assert browser.complaints() == []
        assert {url.split("?")[0].rpartition("/")[0] for url in browser.requests()} <= {
            f"{gate.url}/{HERE}{part}" for part in ("", "/static", f"/{view}")
        }
        assert browser.driver.current_url == url
        assert browser.run(f"return document.body.querySelectorAll('{MADE}').length") == 3 + browser.run(
            "return document.querySelectorAll('a').length"
        ), "its own scripts, and links to runs"
        assert browser.run("return [...document.querySelectorAll('a')].every((one) => /^run\\?/.test(one.getAttribute('href')))")
        handlers = browser.run(
            "return [...document.querySelectorAll('*')].flatMap((one) => one.getAttributeNames()).filter((name) => name.startsWith('on'))"
        )
        assert handlers == []
    assert canary.asked == []
    canary.server.shutdown()
    canary.server.server_close()
