"""Sources before the build, tests after it: one attempt of several commands, against a dbt that does what it is told and says what it did."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.capture import Capture, CaptureRequest, CaptureResult
from ledger_watcher.capture.freshness import SourceFreshness
from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger import ChainReader
from ledger_watcher.records import CALLER, STALE, EndedBy, NodeFinished, Outcome
from ledger_watcher.state import RunState
from tests.core.fakes import FakeDbt, Screen
from tests.core.stores import MemoryStore
from tests.core.test_capture_resume import FAST, RUN

OLD, NEW, GONE = "source.shop.raw.old", "source.shop.raw.new", "source.shop.raw.gone"
PARENTS = {
    "model.shop.a": [OLD],
    "model.shop.b": ["model.shop.a"],
    "model.shop.both": ["model.shop.a", NEW],
    "model.shop.c": [NEW],
    "model.shop.free": [],
    "test.shop.ta": ["model.shop.a"],
    "test.shop.tc": ["model.shop.c"],
    "test.shop.tf": ["model.shop.free"],
}
A, B, BOTH, C, FREE, TA, TC, TF = PARENTS
CODE = """
with open("said", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
parents, statuses, sources = {parents}, {statuses}, {sources}
write("manifest.json", nodes={{name: {{"name": name[-1], "depends_on": {{"nodes": some}}}} for name, some in parents.items()}})
if "source" in sys.argv:
    found = selected(sources)
    for name in found:
        build(name, sources[name])
    limits = {{"warn_after": {{"count": 1, "period": "hour"}}, "error_after": {{"count": 2, "period": "day"}}}}
    age = {{"max_loaded_at": "2026-01-01T00:00:00Z", "max_loaded_at_time_ago_in_s": 259200.0, "criteria": limits}}
    write("sources.json", results=[dict(unique_id=name, status=sources[name], **age) for name in found if name in {ages}])
    sys.exit({freshness_exit} if {freshness_exit} is not None else int(any("error" in sources[name] for name in found)))
nodes = selected([name for name in parents if name not in {unselected}])
if "build" not in sys.argv and "test" in sys.argv:
    nodes = [name for name in nodes if name.startswith("test.")]
elif "--exclude-resource-type" in sys.argv:
    nodes = [name for name in nodes if not name.startswith("test.")]
{end}
for name in nodes:
    build(name, statuses.get(name, "success"))
write("run_results.json", elapsed_time=1.0, results=[{{"unique_id": name, "status": statuses.get(name, "success")}} for name in nodes])
sys.exit(int(any(statuses.get(name) for name in nodes)))
"""


@dataclass
class Shop:
    """A run's attempts; ``said`` are the commands that dbt was started with, without what is said to capture them."""

    dbt: FakeDbt
    store: MemoryStore = field(default_factory=MemoryStore)

    def attempt(
        self,
        *args: str,
        found: dict[str, str] | None = None,
        statuses: dict[str, str] | None = None,
        unselected: tuple[str, ...] = (),
        freshness_exit: int | None = None,
        ages: tuple[str, ...] = (OLD, NEW),
        end: str = "",
        **request: Any,
    ) -> CaptureResult:
        code = CODE.format(
            parents=PARENTS,
            statuses=statuses or {},
            sources=found or {},
            unselected=unselected,
            freshness_exit=freshness_exit,
            ages=tuple(name for name in ages if (found or {}).get(name) != "runtime error"),
            end=end,
        )
        command = (str(self.dbt.path), *(args or ("build",)))
        asked = CaptureRequest(command=command, project_dir=self.dbt.project, env={"FAKE_DBT": code}, forward=Screen(), **request)
        return Capture(self.store, RUN, asked, options=FAST).run()

    @property
    def said(self) -> list[str]:
        lines = [json.loads(line) for line in (self.dbt.project / "said").read_text().splitlines()]
        return ["ls" if "ls" in words else " ".join(words[4:]).split(" --select result:error")[0] for words in lines]

    @property
    def state(self) -> RunState:
        state = RunState()
        state.apply(ChainReader(self.store, RUN).read())
        return state

    def built(self, epoch: int) -> set[str]:
        """What dbt itself worked on in this attempt."""
        own = [node.finished for node in self.state.nodes.values() if node.epoch == epoch and node.finished is not None]
        return {record.unique_id for record in own if record.source not in {"watcher", "carried_over"}}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(FakeDbt.make(tmp_path))


def ends(result: CaptureResult) -> dict[str, NodeFinished]:
    return {name: node.finished for name, node in result.state.nodes.items() if node.finished is not None}


def skips(result: CaptureResult) -> dict[str, tuple[str | None, tuple[str, ...]]]:
    return {name: (end.by_choice, end.skip_cause) for name, end in ends(result).items() if end.outcome is Outcome.SKIPPED}


PLAN = (*PARENTS, OLD, NEW)
CHECK: dict[str, Any] = {"freshness": True, "plan": PLAN, "sources": frozenset({OLD, NEW})}


def test_what_has_only_stale_sources_is_skipped_by_choice_and_that_is_no_failure(shop: Shop) -> None:
    result = shop.attempt(found={OLD: "error", NEW: "warn"}, **CHECK)
    assert (result.exit_code, result.ended_by, result.message, result.problems) == (0, EndedBy.EXIT, None, ())
    below = (STALE, (OLD,))
    assert skips(result) == {OLD: (STALE, ()), A: below, B: below, TA: below}
    assert shop.built(1) == {OLD, NEW, BOTH, C, FREE, TC, TF}
    old, new = ends(result)[OLD], ends(result)[NEW]
    assert (old.status, new.outcome) == ("error", Outcome.WARN)
    assert old.message == "the newest data is of 2026-01-01T00:00:00Z, 3.0 days before the check, warn_after 1 hour, error_after 2 days"
    assert shop.said == ["source freshness", "build"]
    assert set(result.state.attempts[1].artifacts) == {"sources.json", "run_results.json", "manifest.json"}
    assert {entry.epoch for entry in ChainReader(shop.store, RUN).read()} == {1}


def test_fresh_sources_change_nothing_of_the_command(shop: Shop) -> None:
    result = shop.attempt("build", "--selector", "daily", "--threads", "3", found={OLD: "pass", NEW: "warn"}, freshness=True)
    assert (result.exit_code, skips(result)) == (0, {})
    assert shop.said == ["source freshness --threads 3", "build --selector daily --threads 3"]


def test_without_freshness_no_source_is_checked(shop: Shop) -> None:
    result = shop.attempt(found={OLD: "error"}, plan=tuple(PARENTS))
    assert (shop.said, set(ends(result))) == (["build"], set(PARENTS))


def test_below_a_source_that_could_not_be_checked_nodes_are_skipped_as_below_a_failed_one(shop: Shop) -> None:
    result = shop.attempt(found={OLD: "error", NEW: "runtime error"}, **CHECK)
    assert (result.exit_code, ends(result)[NEW].outcome) == (1, Outcome.FAILED)
    assert skips(result) == {
        OLD: (STALE, ()),
        **dict.fromkeys((A, B, TA), (STALE, (OLD,))),
        **dict.fromkeys((BOTH, C, TC), (None, (NEW,))),
    }
    assert shop.built(1) == {OLD, NEW, FREE, TF}


def test_a_source_whose_age_is_not_known_is_not_stale(shop: Shop) -> None:
    """Fusion has one word for both."""
    result = shop.attempt(found={OLD: "error", NEW: "pass"}, ages=(NEW,), **CHECK)
    assert (result.exit_code, ends(result)[OLD].outcome) == (1, Outcome.FAILED)
    assert skips(result) == dict.fromkeys((A, B, BOTH, TA), (None, (OLD,)))


def test_of_a_selection_dbt_says_what_is_in_it(shop: Shop) -> None:
    """A plan says what is drawn; the build is narrowed from what the command selects, by a YAML selector too."""
    result = shop.attempt("build", "--selector", "daily", found={OLD: "error", NEW: "pass"}, unselected=(B, C), **CHECK)
    assert shop.said == ["source freshness", "ls", "build"]
    assert set(skips(result)) == {OLD, A, TA}
    assert shop.built(1) == {OLD, NEW, BOTH, FREE, TC, TF}


def test_only_the_named_sources_are_checked(shop: Shop) -> None:
    result = shop.attempt(found={OLD: "error", NEW: "pass", GONE: "runtime error"}, **CHECK)
    assert (result.exit_code, GONE in ends(result)) == (0, False)


def test_a_function_decides_otherwise(shop: Shop) -> None:
    seen: list[Any] = []

    def only_c(sources: list[SourceFreshness], skip: frozenset[str]) -> set[str]:
        seen.extend([{source.unique_id: (source.stale, source.age) for source in sources}, skip])
        return {C, A}

    result = shop.attempt(found={OLD: "error", NEW: "pass"}, freshness_skip=only_c, **CHECK)
    assert seen == [{OLD: (True, 259200.0), NEW: (False, 259200.0)}, {A, B, TA}]
    assert skips(result) == {OLD: (STALE, ()), A: (STALE, (OLD,)), C: (CALLER, ())}
    assert {B, TA} < shop.built(1)


@pytest.mark.parametrize("answer", [{"model.shop.nobody"}, "model.shop.a", None])
def test_a_function_that_does_not_decide_ends_the_attempt(shop: Shop, answer: object) -> None:
    with pytest.raises(ConfigError, match="return a set of unique_ids"):
        shop.attempt(found={OLD: "error"}, freshness_skip=lambda *_: answer, **CHECK)
    finished = shop.state.attempts[1].finished
    assert finished is not None
    assert "return a set of unique_ids" in (finished.message or "")
    assert shop.said == ["source freshness"]


@pytest.mark.parametrize("code", [1, 2])
def test_a_check_that_fails_for_another_reason_ends_the_attempt(shop: Shop, code: int) -> None:
    result = shop.attempt(found={NEW: "pass"}, freshness_exit=code, **CHECK)
    assert (result.exit_code, shop.said) == (code, ["source freshness"])
    assert ends(result)[NEW].outcome is Outcome.SUCCESS


def test_nothing_to_build_is_a_good_end(shop: Shop) -> None:
    result = shop.attempt(found={OLD: "error", NEW: "error"}, unselected=(FREE, TF), **{**CHECK, "plan": (A, C, OLD, NEW)})
    assert (result.exit_code, shop.said) == (0, ["source freshness"])
    assert set(skips(result)) == {OLD, NEW, A, C}


def test_the_next_attempt_asks_again_and_builds_what_was_skipped(shop: Shop) -> None:
    shop.attempt(found={OLD: "error", NEW: "pass"}, statuses={FREE: "error"}, **CHECK)
    result = shop.attempt(found={OLD: "pass", NEW: "pass"}, **CHECK)
    assert result.exit_code == 0
    assert shop.built(2) == {OLD, NEW, A, B, TA, FREE}
    assert all(end.outcome is Outcome.SUCCESS for end in ends(result).values())


def test_the_next_attempt_does_not_ask_if_nothing_is_left(shop: Shop) -> None:
    shop.attempt(found={OLD: "pass", NEW: "pass"}, **CHECK)
    result = shop.attempt(found={OLD: "error"}, **CHECK)
    assert (shop.said, result.exit_code) == (["source freshness", "build"], 0)
    assert {end.source for end in ends(result).values()} == {"carried_over"}


def test_the_recovery_of_a_source_checks_that_one(shop: Shop) -> None:
    """What else is known of sources is taken from the attempts before."""
    shop.attempt(found={OLD: "pass", NEW: "runtime error"}, **CHECK)
    result = shop.attempt(found={OLD: "error", NEW: "error"}, only=frozenset({NEW, BOTH, C, TC}), freshness=True)
    assert result.exit_code == 0
    assert {name: skip for name, skip in skips(result).items() if result.state.nodes[name].epoch == 2} == {
        NEW: (STALE, ()),
        **dict.fromkeys((C, TC), (STALE, (NEW,))),
    }
    assert shop.built(2) == {NEW, BOTH}


def test_the_recovery_of_a_node_checks_no_source(shop: Shop) -> None:
    shop.attempt(found={OLD: "pass", NEW: "pass"}, statuses={C: "error"}, **CHECK)
    shop.attempt(found={NEW: "error"}, only=frozenset({C}), freshness=True)
    assert shop.said == ["source freshness", "build", "build"]
    assert shop.built(2) == {C}


# Tests last -------------------------------------------------------------------------------------------------------------


WITHOUT_TESTS = "build --exclude-resource-type test --exclude-resource-type unit_test"


def test_tests_run_when_all_is_built_and_keep_nothing_from_being_built(shop: Shop) -> None:
    result = shop.attempt("build", "--full-refresh", "--exclude", "x", tests_last=True, statuses={TC: "fail"})
    assert result.exit_code == 1
    assert shop.said == [f"{WITHOUT_TESTS} --full-refresh --exclude x", "test --exclude x"]
    finished = [entry.record.unique_id for entry in ChainReader(shop.store, RUN).read() if isinstance(entry.record, NodeFinished)]
    assert finished == [A, B, BOTH, C, FREE, TA, TC, TF]
    assert ends(result)[TC].outcome is Outcome.FAILED
    stored = json.loads((shop.dbt.project / "target" / "run_results.json").read_text())
    assert [one["unique_id"] for one in stored["results"]] == finished
    assert stored["elapsed_time"] == 2.0


def test_a_test_of_a_failed_node_is_skipped_as_dbt_would(shop: Shop) -> None:
    result = shop.attempt(tests_last=True, statuses={C: "error"}, plan=tuple(PARENTS))
    assert (result.exit_code, skips(result)) == (1, {TC: (None, (C,))})
    assert {TA, TF} < shop.built(1)


def test_no_test_runs_after_a_build_that_did_not_come_to_its_end(shop: Shop) -> None:
    result = shop.attempt(tests_last=True, end="os.kill(os.getpid(), 9)")
    assert (result.exit_code, result.ended_by, shop.said) == (137, EndedBy.SIGNAL, [WITHOUT_TESTS])


def test_the_next_attempt_runs_the_tests_that_are_left_after_the_nodes_that_are(shop: Shop) -> None:
    shop.attempt(tests_last=True, statuses={FREE: "error"}, plan=tuple(PARENTS))
    result = shop.attempt(tests_last=True, plan=tuple(PARENTS))
    assert (result.exit_code, shop.built(2)) == (0, {FREE, TF})
    shop.attempt(tests_last=True, only=frozenset({TA}))
    assert shop.built(3) == {TA}
    assert [words.split()[0] for words in shop.said] == ["build", "test", "build", "test", "test"]


def test_sources_and_tests_last(shop: Shop) -> None:
    result = shop.attempt(found={OLD: "error", NEW: "pass"}, tests_last=True, **CHECK)
    assert (result.exit_code, set(skips(result))) == (0, {OLD, A, B, TA})
    assert [words.split()[0] for words in shop.said] == ["source", "build", "test"]
    assert shop.built(1) == {OLD, NEW, BOTH, C, FREE, TC, TF}


@pytest.mark.parametrize(
    ("command", "request_", "message"),
    [
        (("run",), {"tests_last": True}, "that is for `dbt build`"),
        (("compile",), {"freshness": True}, "cannot be told which nodes"),
        (("build",), {"sources": frozenset({OLD})}, "ask for freshness too"),
        (("build",), {"freshness_skip": lambda *_: set()}, "ask for freshness too"),
    ],
)
def test_what_does_not_go_together(shop: Shop, command: tuple[str, ...], request_: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shop.attempt(*command, **request_)
