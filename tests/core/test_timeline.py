"""The data of a run's timeline, from its records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_watcher.ledger import Entry, RunKey
from ledger_watcher.records import EndedBy, NodeFinished, NodeProgress, Outcome, Record
from ledger_watcher.report import timeline
from ledger_watcher.report.bars import History
from ledger_watcher.report.critical import critical_path
from ledger_watcher.report.gantt import gantt_lines
from ledger_watcher.report.page import as_json, render
from ledger_watcher.report.source import Source
from ledger_watcher.report.timeline import timeline_data
from ledger_watcher.state import RunState
from tests.core.ledgers import at, began, dbt, ended, ends, log, plan, starts
from tests.core.streams import VERSIONS, graph, parse, parse_build

RUN = RunKey("shop", "run-1")
ONE, TWO = "Thread-1 (worker)", "Thread-2 (worker)"


def source(*attempts: Iterable[Record], parents: Mapping[str, Sequence[str]] | None = None, history: bool = True) -> Source:
    state, whole = RunState(), History()
    for epoch, records in enumerate(attempts, 1):
        entries = [Entry(epoch, epoch, record) for record in records]
        state.apply(entries)
        whole.apply(entries)
    return Source(run=RUN, state=state, history=whole if history else None, parents=parents)


def data(*attempts: Iterable[Record], parents: Mapping[str, Sequence[str]] | None = None, history: bool = True) -> dict[str, Any]:
    return timeline_data(source(*attempts, parents=parents, history=history), now=at(9000))


def nodes(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["name"]: node for node in found["nodes"]}


def node(name: str, start: float, end: float, thread: str = ONE, outcome: Outcome = Outcome.SUCCESS, **more: Any) -> list[Record]:
    fields = {"thread": thread, "started_at": at(start), "execution_time": end - start, **more}
    return [starts(name, start, thread=thread), ends(name, outcome, end, **fields)]


def names(found: dict[str, Any], places: Iterable[int]) -> list[str]:
    return [found["nodes"][place]["name"] for place in places]


def test_a_bar_has_its_times_and_the_lane_of_its_thread() -> None:
    found = data([began(), *node("a", 1, 3.5), *node("b", 1.5, 2, TWO), *node("c", 4, 5, "Thread-10 (worker)"), ended(6)])
    assert found["lanes"] == [ONE, TWO, "Thread-10 (worker)"], "in the order of their numbers"
    assert {name: one["bar"] for name, one in nodes(found).items()} == {"a": [1, 3.5, 0, 1], "b": [1.5, 2, 1, 1], "c": [4, 5, 2, 1]}
    assert (found["origin"], found["span"], found["live"]) == ("2026-07-31T10:00:00.000Z", 6, False)
    assert found["totals"] == {"seconds": 6, "nodes": 3, "done": 3, "node_seconds": 4, "rows": None}
    assert names(found, found["slowest"]) == ["a", "c", "b"]


def test_nodes_of_one_thread_that_overlap_get_lanes_of_their_own() -> None:
    """Fusion gives all its threads one name."""
    found = data([began(), *node("a", 1, 4, "tokio"), *node("b", 2, 5, "tokio"), *node("c", 4.5, 6, "tokio"), ended(7)])
    assert {name: one["bar"][2] for name, one in nodes(found).items()} == {"a": 0, "b": 1, "c": 0}
    assert found["lanes"] == ["tokio", "tokio"]


def test_nodes_without_a_thread_take_a_lane_with_room() -> None:
    found = data([began(), *node("a", 1, 4), *node("b", 2, 3, ""), *node("c", 5, 6, ""), ended(7)])
    assert {name: one["bar"][2] for name, one in nodes(found).items()} == {"a": 0, "b": 1, "c": 0}


def test_a_run_under_way() -> None:
    batches = [NodeProgress(ts=at(3 + n), unique_id="model.shop.b", index=n, total=12, status="success") for n in (1, 2)]
    found = data([began(), plan("a", "b", "c"), *node("a", 1, 2), starts("b", 2, thread=ONE), *batches])
    assert found["live"]
    assert found["span"] == 5, "up to the newest record: whether it still runs is not known"
    b, c = nodes(found)["b"], nodes(found)["c"]
    assert (b["state"], b["bar"], b["batches"], b["seconds"]) == ("running", [2, None, 0, 1], [2, 12], 3)
    assert (c["state"], "bar" in c, "attempt" in c) == ("waiting", False, False)


def test_attempts_with_retries_and_what_was_carried_over() -> None:
    carried = {"started_at": at(1), "execution_time": 2.0, "thread": ONE, "source": "carried_over"}
    first = [
        began(),
        *node("a", 1, 3),
        log("a", "built a"),
        *node("b", 3, 4, outcome=Outcome.FAILED, message="deadlock\nmore"),
        starts("c", 2, thread=TWO),
    ]
    second = [
        began(7200),
        ends("a", seconds=3, **carried),
        *node("b", 7201, 7203, "Thread-7 (worker)"),
        *node("c", 7203, 7204, "Thread-8 (worker)"),
        ended(7205),
    ]
    found = data([*first, ended(6, None, EndedBy.SIGNAL)], second)
    a, b, c = (nodes(found)[name] for name in "abc")
    assert (a["state"], a["attempt"], a["from"], a["bar"]) == ("success", 2, 1, [1, 3, 0, 1])
    assert a["log"] == ["built a"], "what the attempt that built it said"
    assert (b["bar"], b["earlier"]) == ([7201, 7203, 0, 2], [{"state": "failed", "bar": [3, 4, 0, 1], "message": "deadlock"}])
    assert c["earlier"] == [{"state": "unfinished", "bar": [2, 6, 1, 1], "message": ""}], "up to the end of its attempt"
    assert [(one["attempt"], one["state"], one["start"], one["end"]) for one in found["attempts"]] == [
        (1, "failed", 0, 6),
        (2, "success", 7200, 7205),
    ]
    assert found["folds"] == [[6, 7201]], "in which no node ran"
    assert found["lanes"] == [f"{ONE}, Thread-7 (worker)", f"{TWO}, Thread-8 (worker)"], "the first thread of each attempt shares a lane"
    assert found["totals"]["node_seconds"] == 2 + 1 + 4 + 2 + 1


def test_the_time_in_which_dbt_starts_is_folded_and_short_pauses_are_not() -> None:
    assert data([began(), *node("a", 20, 30), *node("b", 30.5, 35), ended(36)])["folds"] == [[0, 20]]
    assert data([began(), *node("a", 2, 30), *node("b", 32, 60), ended(90)])["folds"] == [[60, 90]]
    assert data([began(), starts("a", 2), log("a", "x")])["folds"] == [[0, 2]], "a node that runs is no pause"


def test_without_the_whole_chain_earlier_attempts_are_missing_and_carried_successes_are_not() -> None:
    carried = {"started_at": at(1), "execution_time": 2.0, "source": "carried_over"}
    found = data(
        [began(), *node("b", 3, 4, outcome=Outcome.FAILED), ended(6, 1)],
        [began(60), ends("a", seconds=3, **carried), *node("b", 61, 62), ended(63)],
        history=False,
    )
    assert nodes(found)["a"]["bar"] == [1, 3, 0, 1]
    assert "earlier" not in nodes(found)["b"]


def test_a_run_without_nodes_and_one_without_anything() -> None:
    found = data([began(), ended(2, 2, message="Parsing Error\n  in schema.yml")])
    assert (found["nodes"], found["lanes"], found["slowest"], found["critical"]) == ([], [], [], None)
    assert found["attempts"][0]["message"] == "Parsing Error\n  in schema.yml"
    empty = timeline_data(Source(run=RUN, state=RunState()), now=at(0))
    assert (empty["status"]["word"], empty["attempts"], empty["span"]) == ("unknown", [], 0)
    for one in (found, empty):
        assert "<noscript>" in render(one)


def test_what_was_skipped_or_never_run() -> None:
    skipped = ends("c", Outcome.SKIPPED, 4, skip_cause=("model.shop.b",), execution_time=0.0, finished_at=None, thread=ONE)
    found = data([began(), plan("a", "b", "c", "d"), *node("b", 1, 2, outcome=Outcome.FAILED), skipped, ended(5, 1)])
    c, d = nodes(found)["c"], nodes(found)["d"]
    assert (c["bar"], names(found, c["because"])) == ([4, 4, 0, 1], ["b"])
    assert (d["state"], "bar" in d) == ("not_run", False)
    assert found["counts"]["not_run"] == 2, "a too was planned"


PARENTS = {
    "model.shop.b": ["model.shop.a"],
    "model.shop.eph": ["model.shop.b"],
    "model.shop.c": ["model.shop.eph", "model.shop.x"],
    "test.shop.t": ["model.shop.a"],
    "test.shop.both": ["model.shop.a", "model.shop.c"],
    "unit_test.shop.u": ["model.shop.x"],
}


def path(**spans: tuple[float, float]) -> list[str]:
    kinds = {"t": "test", "both": "test", "u": "unit_test"}
    return [
        uid.rpartition(".")[2]
        for uid in critical_path({f"{kinds.get(name, 'model')}.shop.{name}": span for name, span in spans.items()}, PARENTS)
    ]


def test_the_critical_path_goes_back_from_the_last_to_what_each_waited_for() -> None:
    assert path(a=(0, 2), b=(2, 5), c=(6, 8), x=(0, 1)) == ["a", "b", "c"], "an ephemeral model is looked through"
    assert path(a=(0, 2), b=(2, 3), c=(6, 8), x=(0, 5)) == ["x", "c"]
    assert path(a=(0, 2), t=(2, 4), b=(4, 5), c=(6, 7)) == ["a", "t", "b", "c"], "b waited for the test of a"
    assert path(a=(0, 2), both=(2, 4), b=(4, 5)) == ["a", "b"], "and not for a test of what comes later too"
    assert path(u=(0, 1), x=(1, 3)) == ["u", "x"], "a unit test runs before its model"
    assert path(a=(0, 9), b=(2, 3)) == ["a"], "what had not ended was not waited for"
    assert path() == []


@given(st.lists(st.tuples(st.integers(1, 9), st.sets(st.integers(0, 11), max_size=3)), min_size=1, max_size=12))
def test_where_nothing_waits_for_a_thread_it_is_the_longest_way_through_the_graph(made: list[tuple[int, set[int]]]) -> None:
    """Each model takes so long, and begins when the last of those above it has ended: the longest way is found by itself, front to back."""
    parents = {f"model.shop.{at}": [f"model.shop.{above}" for above in sorted(known) if above < at] for at, (_, known) in enumerate(made)}
    spans: dict[str, tuple[float, float]] = {}
    for (uid, above), (seconds, _) in zip(parents.items(), made, strict=True):
        start = max((spans[one][1] for one in above), default=0.0)
        spans[uid] = (start, start + seconds)
    longest: dict[str, int] = {}
    for (uid, above), (seconds, _) in zip(parents.items(), made, strict=True):
        longest[uid] = seconds + max((longest[one] for one in above), default=0)
    found = critical_path(spans, parents)
    assert sum(spans[uid][1] - spans[uid][0] for uid in found) == max(longest.values())
    assert all(above in parents[uid] and spans[above][1] == spans[uid][0] for above, uid in pairwise(found))


def test_a_cycle_in_a_damaged_manifest_ends() -> None:
    assert critical_path({"model.a": (0, 0), "model.b": (0, 0)}, {"model.a": ["model.b"], "model.b": ["model.a"]}) == ["model.a", "model.b"]


def test_edges_and_critical_path_are_null_where_they_are_not_known() -> None:
    run = [began(), *node("a", 1, 3), *node("b", 4, 6), ended(7)]
    known, unknown = data(run, parents={"model.shop.b": ["model.shop.a", "source.shop.raw"]}), data(run)
    assert known["critical"] == {"nodes": [0, 1], "seconds": 4, "waited": 1}
    assert (known["nodes"][1]["up"], unknown["critical"], "up" in unknown["nodes"][1]) == ([0], None, False)


def test_two_runs_compared() -> None:
    old = source([began(), *node("a", 1, 2), *node("b", 2, 4), *node("gone", 4, 5), *node("c", 5, 6), ended(7)])
    new = source([began(), *node("a", 1, 4), *node("b", 4, 5), *node("c", 5, 6, outcome=Outcome.FAILED), *node("fresh", 6, 7), ended(9)])
    found = timeline_data(new, against=old, now=at(9))
    against = found["against"]
    assert {key: names(found, against[key]) for key in ("slower", "faster", "changed", "new")} == {
        "slower": ["a"],
        "faster": ["b"],
        "changed": ["c"],
        "new": ["fresh"],
    }
    assert (against["removed"], against["seconds"], against["node_seconds"]) == (["gone"], 7, 5)
    assert nodes(found)["a"]["before"] == {"state": "success", "seconds": 1, "rows": None}
    assert "before" not in nodes(found)["fresh"]


def test_what_failed_since_stands_before_what_came_right() -> None:
    old = source([began(), *node("a", 1, 2, outcome=Outcome.FAILED), *node("b", 2, 4), ended(5, 1)])
    new = source([began(), *node("a", 1, 4), *node("b", 4, 5, outcome=Outcome.FAILED), ended(9, 1)])
    found = timeline_data(new, against=old, now=at(9))
    assert names(found, found["against"]["changed"]) == ["b", "a"]


def test_versions_of_a_model_are_told_apart() -> None:
    """dbt gives both the same name."""
    versions = [replace(ends(f"orders.v{number}", seconds=number), name="orders") for number in (1, 2)]
    assert [one["name"] for one in data([began(), *versions, ended(3)])["nodes"]] == ["orders.v1", "orders.v2"]


def test_texts_are_kept_within_the_budget_those_of_failed_nodes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "TEXT_BUDGET", 3000)
    found = data(
        [
            began(),
            *node("a", 1, 2, message="a" * 2000),
            log("a", "la"),
            *node("b", 2, 3, outcome=Outcome.FAILED, message="b" * 2000),
            log("b", "lb"),
            ended(4, 1),
        ]
    )
    a, b = nodes(found)["a"], nodes(found)["b"]
    assert (len(a["message"]), a.get("log"), a["cut"]) == (120, None, True)
    assert (len(b["message"]), b["log"], "cut" in b) == (2000, ["lb"], False)


def test_three_thousand_nodes_fit_into_three_megabytes() -> None:
    """However much they say: 20 lines of log each, and a hundred long messages full of what has to be escaped."""
    records: list[Record] = [began(), dbt()]
    parents: dict[str, list[str]] = {}
    for number in range(3000):
        name = f"int_customer_orders_joined_with_refunds_{number}"
        outcome, message = (Outcome.FAILED, "<&>" * 2700) if number % 30 == 0 else (Outcome.SUCCESS, "SUCCESS 1")
        facts = {"relation": f'"warehouse"."marts"."{name}"', "query_id": "01b" * 12, "rows_affected": number, "materialized": "table"}
        records += node(name, number, number + 1, outcome=outcome, message=message, **facts)
        records.append(
            log(
                name, *(f"10:00:00  {number} of 3000 OK created sql table model marts.{name} ..... [SUCCESS 1 in 1.00s]" for _ in range(20))
            )
        )
        parents[f"model.shop.{name}"] = list(parents)[-3:]
    assert 2_000_000 < len(render(data([*records, ended(3002)], parents=parents)).encode()) < 3_000_000


@pytest.mark.parametrize("stream", [*VERSIONS, "fusion"])
def test_recorded_runs_of_every_dbt(stream: str) -> None:
    """Every node that was built has a bar within the run, and no two bars lie on each other."""
    parsed = parse_build(stream) if stream in VERSIONS else parse("build-fusion")
    first = min(record.ts for record in parsed.records)
    found = timeline_data(source([began(base=first - timedelta(seconds=1)), *parsed.records], parents=graph(stream)))
    built = {record.unique_id for record in parsed.records if isinstance(record, NodeFinished) and record.outcome is not Outcome.SKIPPED}
    assert built <= {one["id"] for one in found["nodes"] if "bar" in one}
    lanes: dict[int, list[tuple[float, float]]] = {}
    for one in found["nodes"]:
        if "bar" in one and one["bar"][1] > one["bar"][0]:
            lanes.setdefault(one["bar"][2], []).append((one["bar"][0], one["bar"][1]))
    for spans in lanes.values():
        ordered = sorted(spans)
        assert all(later[0] >= earlier[1] - 0.002 for earlier, later in pairwise(ordered))
    assert len(lanes) >= 2
    assert found["critical"]["nodes"], "the path of a run that built something"
    assert json.loads(as_json(found)) == json.loads(json.dumps(found))


def test_every_key_of_the_data_is_documented() -> None:
    carried = {
        "started_at": at(1),
        "source": "carried_over",
        "skip_cause": ("model.shop.b",),
        "rows_affected": 1,
        "failures": 0,
        "query_id": "q",
    }
    batch = NodeProgress(ts=at(3), unique_id="model.shop.b", index=1, total=2, status="success")
    first = [
        began(),
        dbt(),
        *node("a", 1, 3, relation="r", materialized="m", message="m" * 300),
        log("a", "l", dropped=1),
        *node("b", 3, 4),
        ended(6),
    ]
    run = source(first, [began(60), ends("a", **carried), *node("b", 61, 62), batch, ended(63)], parents={"model.shop.b": ["model.shop.a"]})
    found = timeline_data(run, against=run)
    documented = set(re.findall(r'``(\w+)``|"(\w+)"', timeline.__doc__ or ""))
    words = {word for pair in documented for word in pair if word}
    keys = set(found) | {
        key for part in (*found["nodes"], *found["attempts"], found["against"], found["totals"], found["critical"]) for key in part
    }
    assert keys - words == set()


def test_the_chart_for_a_terminal() -> None:
    state = source(
        [began(), *node("a", 0, 5), *node("b", 5, 10, outcome=Outcome.FAILED), *node("c", 0, 2, TWO), *node("d", 2, 4, TWO), ended(11, 1)]
    ).state
    assert gantt_lines(state, width=10) == [
        "timeline: 10.0 s from the first node on, a column is 1.00 s (x failed)",
        "  1 =====xxxxx",
        "  2 ==--",
    ]
    assert gantt_lines(state, width=10, blocks=True)[2] == "  2 ██▓▓"
    assert gantt_lines(source([began(), *node("a", 0, 5), ended(6)]).state) == [], "one node is no chart"
    assert gantt_lines(RunState()) == []


def test_the_chart_of_the_newest_attempt_with_what_still_runs() -> None:
    state = source(
        [began(), *node("z", 0, 5), ended(6)],
        [began(60), *node("a", 60, 62), starts("b", 62, thread=ONE), log("b", "x"), *node("c", 60, 70, TWO)],
    ).state
    assert gantt_lines(state, width=10) == [
        "timeline of attempt 2: 10.0 s from the first node on, a column is 1.00 s (> still running)",
        "  1 ==>>>>>>>>",
        "  2 ==========",
    ]
