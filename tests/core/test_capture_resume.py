"""What a second attempt builds: the decision from the ledger, against a dbt that builds what it is told and says what it did."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.capture import Capture, CaptureRequest, CaptureResult
from ledger_watcher.capture.plan import read_plan
from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger import ChainReader, RunKey, WriterOptions
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.records import AttemptStarted, EndedBy, NodeFinished, NodeStarted, Outcome, utcnow
from ledger_watcher.state import RunState
from tests.core.fakes import FakeDbt, Screen, json_of, running
from tests.core.stores import MemoryStore

RUN = RunKey("shop", "run-1")
FAST = WriterOptions(
    commit_interval=0.01, heartbeat=0.05, drain_timeout=5, retry_first=0.01, retry_longest=0.02, open_timeout=0.1, takeover_grace=0
)
NODES = ("model.shop.a", "model.shop.b", "test.shop.t", "unit_test.shop.c.u", "model.shop.c")
A, B, T, U, C = NODES
ALL = frozenset(NODES)
CODE = """
with open("said", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
for node in selected({nodes}):
    if node == {dies_at!r}:
        os.kill(os.getpid(), 9)
    build(node, {statuses}.get(node, "success"))
{end}
"""


@dataclass
class Shop:
    """One run's attempts, one after another; ``said`` are the command lines that dbt was started with."""

    dbt: FakeDbt
    store: MemoryStore = field(default_factory=MemoryStore)

    def attempt(
        self,
        *args: str,
        nodes: tuple[str, ...] = NODES,
        dies_at: str | None = None,
        statuses: dict[str, str] | None = None,
        end: str = "",
        env: dict[str, str] | None = None,
        **request: Any,
    ) -> CaptureResult:
        code = CODE.format(nodes=nodes, dies_at=dies_at, statuses=statuses or {}, end=end or f"sys.exit({1 if statuses else 0})")
        return Capture(
            self.store,
            RUN,
            CaptureRequest(
                command=(str(self.dbt.path), *(args or ("build",))),
                project_dir=self.dbt.project,
                env={"FAKE_DBT": code, **(env or {})},
                forward=Screen(),
                **request,
            ),
            options=FAST,
        ).run()

    @property
    def said(self) -> list[list[str]]:
        file = self.dbt.project / "said"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def state(self) -> RunState:
        """What a reader sees."""
        state = RunState()
        state.apply(ChainReader(self.store, RUN).read())
        return state

    def started(self, epoch: int) -> list[str]:
        """The nodes that dbt began in this attempt."""
        entries = ChainReader(self.store, RUN).read()
        return [entry.record.unique_id for entry in entries if entry.epoch == epoch and isinstance(entry.record, NodeStarted)]

    def carried(self, epoch: int) -> list[str]:
        entries = [entry for entry in ChainReader(self.store, RUN).read() if entry.epoch == epoch]
        found = [entry.record for entry in entries if isinstance(entry.record, NodeFinished)]
        return [record.unique_id for record in found if record.source == "carried_over"]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(FakeDbt.make(tmp_path))


# What is left ---------------------------------------------------------------------------------------------------------


def test_a_killed_attempt_is_gone_on_from(shop: Shop) -> None:
    """Nobody knew the plan, and dbt never reached two nodes: `dbt ls` tells of them."""
    assert shop.attempt("build", "--threads", "4", dies_at=U).exit_code == 137
    before = shop.state.nodes[A].finished
    assert shop.attempt("build", "--threads", "4").exit_code == 0
    assert shop.started(2) == [U, C]
    assert shop.carried(2) == [A, B, T]
    state = shop.state
    assert {name: (node.epoch, node.status) for name, node in state.nodes.items()} == dict.fromkeys(NODES, (2, "success"))
    after = state.nodes[A].finished
    assert before is not None
    assert after is not None
    assert (after.message, after.status, after.execution_time, after.started_at) == ("said success", "success", 1.5, before.started_at)
    plan = state.attempts[2].plan
    assert plan == ALL
    assert state.attempts[1].plan is None
    assert ["ls" in said for said in shop.said] == [False, True, False]


def test_a_plan_that_is_known_needs_no_listing(shop: Shop) -> None:
    shop.attempt(dies_at=U, plan=NODES)
    shop.attempt(plan=NODES)
    assert shop.started(2) == [U, C]
    assert len(shop.said) == 2


def test_the_plan_of_an_earlier_attempt_of_the_same_command_serves(shop: Shop) -> None:
    shop.attempt(dies_at=B)
    shop.attempt(dies_at=T)
    shop.attempt()
    assert shop.started(3) == [T, U, C]
    assert ["ls" in said for said in shop.said] == [False, True, False, False]
    shop.attempt("build", "--select", "+c", nodes=(A, C, "model.shop.d"))  # another command of the same run asks for itself
    assert shop.started(4) == ["model.shop.d"]


def test_what_failed_or_was_skipped_runs_again(shop: Shop) -> None:
    statuses = {B: "error", T: "fail", U: "warn", C: "skipped"}
    assert shop.attempt(statuses=statuses, plan=NODES).exit_code == 1
    shop.attempt(plan=NODES)
    assert shop.started(2) == [B, T, C]
    assert shop.state.nodes[U].status == "warn"


def test_nothing_done_is_a_plain_run(shop: Shop) -> None:
    """As the user wrote it, and without asking for a list."""
    shop.attempt("build", "--select", "x", dies_at=A)
    shop.attempt("build", "--select", "x")
    assert shop.said[0] == shop.said[1]
    assert shop.carried(2) == []


def test_nothing_left_does_not_start_dbt(shop: Shop) -> None:
    shop.attempt(plan=NODES)
    result = shop.attempt(plan=NODES)
    assert (result.exit_code, result.ended_by) == (0, EndedBy.EXIT)
    assert result.message == "Nothing is left to build, so dbt was not started: all nodes of the run are done."
    assert len(shop.said) == 1
    assert shop.carried(2) == sorted(NODES)
    assert shop.state.ended


def test_nothing_left_but_a_hook_that_failed_is_no_success(shop: Shop) -> None:
    """dbt runs hooks only with a node, so that they cannot be repeated alone; and the run must not turn green without them."""
    hook = 'say("LogHookEndLine", unique_id="operation.shop.end", node_status="error", data={"status": "error"}); sys.exit(1)'
    shop.attempt(plan=NODES, end=hook)
    result = shop.attempt(plan=NODES)
    assert result.exit_code == 1
    assert result.message is not None
    assert "operation.shop.end" in result.message
    assert shop.attempt(plan=NODES).exit_code == 1
    assert shop.attempt(plan=NODES, fresh=True).exit_code == 0


def test_a_success_in_airflow_counts_though_the_ledger_has_none(shop: Shop) -> None:
    """Somebody marked it: there is nothing to take over, and nothing to run."""
    shop.attempt(dies_at=B, plan=NODES)
    shop.attempt(plan=NODES, done=frozenset({T}))
    assert shop.started(2) == [B, U, C]
    assert shop.carried(2) == [A]


# Clears ---------------------------------------------------------------------------------------------------------------


def test_the_same_clear_number_is_a_retry(shop: Shop) -> None:
    shop.attempt(plan=NODES, dies_at=U, clear_number=3)
    shop.attempt(plan=NODES, clear_number=3)
    assert shop.started(2) == [U, C]


def test_cleared_as_a_whole_all_is_built(shop: Shop) -> None:
    shop.attempt(plan=NODES, clear_number=0)
    shop.attempt(plan=NODES, clear_number=1)
    assert shop.started(2) == list(NODES)
    assert shop.said[0] == shop.said[1]


def test_cleared_in_part_the_tasks_say_what_is_done(shop: Shop) -> None:
    """b failed, and a was cleared with it although it is a success in the ledger."""
    shop.attempt(plan=NODES, clear_number=0, statuses={B: "error"})
    shop.attempt(plan=NODES, clear_number=1, done=frozenset({T, U, C}))
    assert shop.started(2) == [A, B]
    assert shop.carried(2) == sorted([T, U, C])


def test_successes_from_before_a_clear_never_count_again(shop: Shop) -> None:
    """Cleared, killed early, tried again: what the clear threw away stays thrown away."""
    shop.attempt(plan=NODES, clear_number=0)
    shop.attempt(plan=NODES, clear_number=1, dies_at=B)
    shop.attempt(plan=NODES, clear_number=1)
    assert shop.started(3) == [B, T, U, C]


def test_resume_goes_on_across_clears(shop: Shop) -> None:
    shop.attempt(plan=NODES, clear_number=0, dies_at=U)
    shop.attempt(plan=NODES, clear_number=1, resume=True)
    assert shop.started(2) == [U, C]


def test_fresh_ignores_the_past_and_so_do_the_attempts_after_it(shop: Shop) -> None:
    shop.attempt(plan=NODES)
    shop.attempt(plan=NODES, fresh=True, dies_at=B)
    assert shop.started(2) == [A]
    shop.attempt(plan=NODES)
    assert shop.started(3) == [B, T, U, C]
    assert [attempt.started.scope for attempt in shop.state.attempts.values() if attempt.started] == [None, "fresh", None]


# Only some nodes ------------------------------------------------------------------------------------------------------


def test_only_these_nodes(shop: Shop) -> None:
    """A recovery: exactly what is asked for, done or not, and nothing is taken over."""
    shop.attempt(plan=NODES, statuses={B: "error"})
    shop.attempt(only=frozenset({A, B}))
    assert shop.started(2) == [A, B]
    assert shop.carried(2) == []
    assert shop.state.attempts[2].plan == {A, B}
    shop.attempt(plan=NODES)
    assert len(shop.said) == 2  # all is done


def test_the_plan_of_a_recovery_is_not_that_of_the_run(shop: Shop) -> None:
    shop.attempt(dies_at=T)
    shop.attempt(only=frozenset({A}))
    shop.attempt()
    assert shop.started(3) == [T, U, C]


def test_only_nothing(shop: Shop) -> None:
    assert shop.attempt(only=frozenset()).exit_code == 0
    assert shop.said == []


# The command ----------------------------------------------------------------------------------------------------------


def test_all_flags_stay_and_the_selection_goes(shop: Shop) -> None:
    args = ("build", "--full-refresh", "--select", "x", "y", "--threads", "8", "--exclude=z", "--selector", "nightly", "--vars", "{a: 1}")
    shop.attempt(*args, "--state", "prod", "--defer", plan=NODES, selected=True, dies_at=U)
    shop.attempt(*args, "--state", "prod", "--defer", plan=NODES, selected=True)
    said = shop.said[1]
    at = said.index("--state")
    state = said.pop(at + 1)
    assert state != "prod"
    assert said == [
        *("--log-format", "json", "--log-level", "debug", "build", "--select", "result:error", "--indirect-selection", "empty", "--state"),
        *("--defer-state", "prod", "--full-refresh", "--threads", "8", "--vars", "{a: 1}", "--defer"),
    ]
    assert not Path(state).exists()


def test_the_list_is_asked_for_with_the_users_selection(shop: Shop) -> None:
    args = ("build", "--full-refresh", "--select", "x", "y", "-t", "prod", "--threads", "8", "--vars={a: 1}")
    shop.attempt(*args, dies_at=U)
    shop.attempt(*args)
    listing = ("--quiet", "--log-format", "text", "ls", "--output", "json", "--output-keys", "unique_id")
    assert shop.said[1] == [*listing, "--select", "x", "y", "-t", "prod", "--vars={a: 1}"]


def test_of_a_plan_that_may_hold_more_than_is_selected_dbt_says_what_is(shop: Shop) -> None:
    """A DAG shows all nodes, and its producer was told to build some: a retry builds none of the others."""
    for dies_at in (B, None):
        shop.attempt("build", "--select", "x", plan=(*NODES, "model.shop.other"), dies_at=dies_at)
    assert "ls" in shop.said[1]
    assert shop.started(2) == [B, T, U, C]


def test_exactly_the_plan_is_built_whatever_the_command_selects(shop: Shop) -> None:
    assert shop.attempt("build", "--select", "x", plan=(A, T), exactly=True, dies_at=T).exit_code == 137
    assert shop.started(1) == [A]
    assert shop.attempt("build", "--select", "x", plan=(A, T), exactly=True).exit_code == 0
    assert (shop.started(2), shop.carried(2)) == ([T], [A])
    with pytest.raises(ConfigError, match="exactly those of the plan"):
        shop.attempt("build", exactly=True)


@pytest.mark.parametrize(
    ("subcommand", "left"),
    [("run", [C]), ("test", [T, U]), ("build", [T, U, C]), ("seed", ["seed.shop.s"]), ("snapshot", ["snapshot.shop.s"])],
)
def test_each_command_has_its_own_types(shop: Shop, subcommand: str, left: list[str]) -> None:
    """`dbt ls` lists every type; sources and exposures are nothing to build."""
    more = ("seed.shop.done", "snapshot.shop.done", "seed.shop.s", "snapshot.shop.s", "source.shop.s", "exposure.shop.e")
    shop.attempt(nodes=(A, B, *more[:2], "test.shop.done"))
    nodes = (*NODES, *more, "test.shop.done") if subcommand != "build" else NODES
    shop.attempt(subcommand, nodes=nodes)
    assert shop.started(2) == left


def test_other_commands_are_never_narrowed(shop: Shop) -> None:
    shop.attempt()
    shop.attempt("compile")
    assert "--state" not in shop.said[1]
    assert len(shop.said) == 2


def test_a_list_that_cannot_be_had_ends_the_attempt(shop: Shop) -> None:
    """It would take a guess to go on."""
    shop.attempt(dies_at=U)
    broken = 'text("Parsing Error"); sys.exit(2)'
    code = f"if 'ls' in sys.argv:\n    {broken}\nopen('built', 'w')"
    result = shop.attempt(env={"FAKE_DBT": code})
    assert (result.exit_code, result.ended_by) == (2, EndedBy.EXIT)
    assert result.message == "dbt ls did not say what is left to build: Parsing Error"
    assert not (shop.dbt.project / "built").exists()
    assert shop.state.ended


def test_an_interrupt_while_the_list_is_asked_for(shop: Shop) -> None:
    shop.attempt(dies_at=U)
    asked = shop.dbt.project / "asked"
    code = f"""
if "ls" in sys.argv:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(2))
    open({str(asked)!r}, "w").close()
    threading.Event().wait()
open("built", "w")
"""
    os.mkfifo(asked)
    capture = Capture(
        shop.store,
        RUN,
        CaptureRequest(
            command=(str(shop.dbt.path), "build"), project_dir=shop.dbt.project, env=shop.dbt.env(code), forward=Screen(), grace=30
        ),
        options=FAST,
    )
    with running(capture.run):
        asked.open().close()
        capture.interrupt()
    assert capture.result is not None
    assert (capture.result.exit_code, capture.result.ended_by) == (2, EndedBy.SIGNAL)
    assert not (shop.dbt.project / "built").exists()


def test_run_results_do_not_undo_what_was_taken_over(shop: Shop) -> None:
    """Core's --fail-fast lists nodes as skipped that are done."""
    shop.attempt(plan=NODES, dies_at=U)
    results = [{"unique_id": A, "status": "skipped"}, {"unique_id": B, "status": "success", "message": "another"}]
    shop.attempt(plan=NODES, end=f'write("run_results.json", results={results!r}); sys.exit(1)')
    finished = shop.state.nodes[A].finished
    assert finished is not None
    assert (finished.outcome, finished.source) == (Outcome.SUCCESS, "carried_over")
    second = shop.state.nodes[B].finished
    assert second is not None
    assert (second.message, second.source) == ("said success", "carried_over")


def test_a_dbt_that_builds_nothing_of_what_was_left_is_no_success(shop: Shop) -> None:
    """A run_results.json that Fusion does not like, say: it selects nothing and is content."""
    shop.attempt(plan=NODES, dies_at=U)
    result = shop.attempt(nodes=(A, B, T), plan=NODES)
    assert result.exit_code == 1
    assert result.message is not None
    assert f"without a word about 2 of the 2 nodes that were left to build ({C}, {U}, ...)" in result.message


def test_a_node_that_the_project_has_lost_is_told(shop: Shop) -> None:
    shop.attempt(plan=NODES, dies_at=U)
    result = shop.attempt(nodes=(A, B, T, U), plan=NODES)
    assert (result.exit_code, result.message) == (0, None)
    assert len(result.problems) == 1
    assert f"1 of the 2 nodes that were left to build ({C}, ...)" in result.problems[0]


# What cannot be -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "request_", "says"),
    [
        (("build",), {"resume": True}, "There is nothing to resume: .* has no attempt of shop / run-1"),
        (("build",), {"resume": True, "fresh": True}, "both fresh .* and a resume"),
        (("build",), {"only": ALL, "fresh": True}, "neither fresh nor a resume"),
        (("compile",), {"only": ALL}, "`dbt compile` cannot be told which nodes to build; the commands that can are build, run"),
    ],
)
def test_what_is_contradictory_is_refused_before_anything_is_written(
    shop: Shop, args: tuple[str, ...], request_: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        shop.attempt(*args, **request_)
    assert shop.said == []
    assert shop.store.objects == {}


def test_a_writer_that_died_at_once_leaves_nothing_to_go_on_from(shop: Shop) -> None:
    """A fence and nothing else: the attempts before it still count."""
    shop.attempt(plan=NODES, dies_at=U)
    now = utcnow()
    ChainWriter(shop.store, RUN).claim(AttemptStarted(ts=now, attempt=0, command=(), invocation="x", producer_started_at=now))
    shop.attempt(plan=NODES)
    assert shop.started(3) == [U, C]


# Plans in files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '["model.shop.a", "test.shop.t"]',
        "model.shop.a\n\ntest.shop.t\nmodel.shop.a\n",
        '{"unique_id": "model.shop.a"}\n{"unique_id": "test.shop.t"}\n',
    ],
)
def test_plan_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan").write_text(text)
    assert read_plan(tmp_path / "plan") == ("model.shop.a", "test.shop.t")


@pytest.mark.parametrize("text", ["", "[]", "[1]", "{", "01:02:03  Running with dbt=1.11.0", '{"name": "a"}', '{"nodes": []}', None])
def test_what_is_no_plan(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "plan").write_text(text)
    with pytest.raises(ConfigError, match=r"The plan .* (could not be read|holds).*Make it with `dbt ls"):
        read_plan(tmp_path / "plan")


def test_the_state_that_dbt_selects_from(shop: Shop) -> None:
    """Kept here as a copy that the fake dbt makes: the file itself is gone with the attempt."""
    shop.attempt(plan=NODES, dies_at=U)
    copy = shop.dbt.project / "copy.json"
    end = f'import shutil; shutil.copyfile(os.path.join(option("--state"), "run_results.json"), {str(copy)!r})'
    shop.attempt(plan=NODES, end=end)
    assert {result["unique_id"]: result["status"] for result in json_of(copy)["results"]} == {U: "error", C: "error"}
    assert {"dbt_schema_version", "dbt_version", "generated_at", "invocation_id"} <= set(json_of(copy)["metadata"])  # Fusion wants all
