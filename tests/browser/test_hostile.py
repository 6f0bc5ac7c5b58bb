"""Names, messages, SQL and logs of somebody else's stay text in the page of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pytest

from ledger_watcher.ledger import Entry, RunKey
from ledger_watcher.records import Artifact, HookFinished, Log, NodeFinished, NodeStarted, Outcome, Record
from ledger_watcher.report.bars import History
from ledger_watcher.report.page import render
from ledger_watcher.report.source import Source
from ledger_watcher.report.text import inert, inert_lines
from ledger_watcher.report.timeline import timeline_data
from ledger_watcher.state import RunState
from tests.browser.browser import Browser
from tests.core.hostile import CANARY, MARKUP, PAYLOADS
from tests.core.ledgers import at, began, dbt, ended

MADE = "script,noscript,img,iframe,object,embed,link,base,form,meta,a,video,audio,source,template,foreignObject,image,use,animate,math,[style*=url]"
"""What a payload could make. The page itself has five meta elements, two scripts, and a noscript."""


class Canary:
    """A server that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        canary = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                canary.asked.append(self.path)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    found = Canary()
    yield found
    found.server.shutdown()
    found.server.server_close()


def attempt(payloads: list[str], epoch: int, outcome: Outcome) -> list[Record]:
    """An attempt in which every text that can be somebody else's is one of the payloads, or all of them; its first record and its last."""
    every = "".join(payloads)
    records: list[Record] = [began(epoch * 100, command=("dbt", *payloads)), dbt(every)]
    for place, text in enumerate(payloads):
        uid, start = f"model.{text}.{text}", epoch * 100 + place
        facts = {"unique_id": uid, "name": text, "resource_type": text, "materialized": text, "relation": text, "thread": text}
        records += [
            NodeStarted(ts=at(start), started_at=at(start), **facts),
            Log(ts=at(start), unique_id=uid, lines=(text, every)),
            NodeFinished(
                ts=at(start + 1),
                outcome=outcome,
                status=text,
                message=f"{text}\n{every}"[:8000],
                query_id=text,
                skip_cause=(uid,),
                finished_at=at(start + 1),
                **facts,
            ),
        ]
        records.append(HookFinished(ts=at(start), unique_id=text, outcome=Outcome.FAILED, status=text, message=text))
    records.append(Artifact(ts=at(start), name=every, sha256="", size=0, path=every))
    return [*records, ended(epoch * 100 + 90, 1, message=every, incomplete=every)]


def source(payloads: list[str]) -> Source:
    """A run in which each node failed in one attempt and warned in the next."""
    every = "".join(payloads)
    history, state = History(), RunState()
    for epoch, outcome in ((1, Outcome.FAILED), (2, Outcome.WARN)):
        entries = [Entry(1, epoch, record) for record in attempt(payloads, epoch, outcome)]
        state.apply(entries)
        history.apply(entries)
    parents = {f"model.{text}.{text}": [f"model.{other}.{other}"] for text, other in pairwise(payloads)}
    return Source(run=RunKey(every, every, group=every), state=state, history=history, parents=parents, notes=payloads)


@pytest.fixture(scope="module")
def payloads(canary: Canary) -> list[str]:
    return [text.replace(CANARY, canary.url) for text in PAYLOADS]


@pytest.fixture(scope="module")
def page(payloads: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    found = source(payloads)
    path.write_bytes(render(timeline_data(found, against=found)).encode())
    return path


def counted(browser: Browser, script: str = f"return document.querySelectorAll('{MADE}').length") -> int:
    return int(browser.run(script))


def test_these_payloads_do_act_where_they_are_markup(browser: Browser, canary: Canary, payloads: list[str], tmp_path: Path) -> None:
    """So that what is shown below can fail. Those with a dialog, and those that leave the page, are left out."""
    asked = len(canary.asked)
    for at_once in (payloads[:1], [text for text in payloads[1 : len(MARKUP)] if not any(word in text for word in ("alert(", "refresh"))]):
        (tmp_path / "control.html").write_text("<!doctype html><body>" + "\n".join(at_once), "utf-8", "replace")
        browser.open(tmp_path / "control.html")
        assert browser.run("return window.pwned") == 1
    assert len(canary.asked) > asked
    assert len(browser.requests()) > 1


def test_there_are_many_of_them(payloads: list[str]) -> None:
    assert len(set(payloads)) >= 60


@pytest.mark.parametrize("scripts", [True, False])
def test_nothing_in_the_page_acts(browser: Browser, canary: Canary, page: Path, scripts: bool) -> None:
    from selenium.common.exceptions import NoAlertPresentException

    asked = len(canary.asked)
    browser.open(page, scripts=scripts)
    if scripts:  # every bar under the pointer, every node opened, every filter typed: all that writes text
        browser.run(
            """
            const input = document.querySelector("input");
            const names = JSON.parse(document.getElementById("ledger-timeline-data").textContent).nodes.map((node) => node.name);
            for (const button of document.querySelectorAll("thead button")) button.click();
            for (const bar of document.querySelectorAll(".bar")) {
              bar.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 9, clientY: 9 }));
              bar.dispatchEvent(new MouseEvent("click", { bubbles: true }));
            }
            for (const name of names) { input.value = name; input.dispatchEvent(new Event("input")); }
            """
        )
    browser.keep(f"hostile-{'script' if scripts else 'no-script'}")
    with pytest.raises(NoAlertPresentException):
        _ = browser.driver.switch_to.alert
    assert browser.run("return window.pwned") is None
    assert browser.run("return document.title").startswith("failed: ")
    assert browser.complaints() == [], "neither an error nor a violation of its policy"
    assert browser.requests() == [page.as_uri()]
    assert canary.asked[asked:] == []
    expected = {"META": 5, "SCRIPT": 2, "NOSCRIPT": 1}
    found = browser.run(
        f"const n = {{}}; for (const e of document.querySelectorAll('{MADE}')) n[e.tagName] = (n[e.tagName] ?? 0) + 1; return n"
    )
    assert found == expected
    attributes = browser.run("return [...new Set([...document.querySelectorAll('body *')].flatMap((e) => e.getAttributeNames()))]")
    assert [name for name in attributes if name.startswith("on") or name in ("href", "src", "srcdoc", "action", "xlink:href")] == []


def test_every_name_and_message_can_be_read_as_it_was_written(browser: Browser, page: Path, payloads: list[str]) -> None:
    """What is not printable is written as an escape, and nothing else is changed."""
    browser.open(page)
    browser.run("document.querySelector('.more')?.click()")
    names = browser.run("return [...document.querySelectorAll('tbody th bdi')].map((e) => e.textContent)")
    assert names == [inert(text) for text in payloads]
    opened = browser.run(
        """
        return [...document.querySelectorAll("tbody th button")].map((button) => {
          button.click();
          const panel = document.querySelector(".details");
          return [panel.querySelector("h2").textContent, panel.querySelector("pre.log").textContent.split("\\n")[0]];
        });
        """
    )
    assert opened == [[inert(text), inert_lines(text)[0]] for text in payloads]
    browser.keep("hostile-details")
    browser.open(page, scripts=False)
    rows = browser.run("return [...document.querySelectorAll('noscript table:last-of-type tbody th')].map((e) => e.textContent)")
    assert rows == names


def test_the_data_cannot_leave_its_element(payloads: list[str]) -> None:
    found = source(payloads)
    html = render(timeline_data(found))
    data = html.split('id="ledger-timeline-data">', 1)[1].split("</script>", 1)[0]
    assert not set("<>&\u2028\u2029") & set(data)
    assert json.loads(data)["nodes"][0]["name"] == inert(payloads[0])
    assert all(char.isprintable() or char == "\n" for char in html), "also in an editor, and in a terminal that shows the file"
