"""Whether every error has a task: the judgement, and ``ledger-watcher run --rendered`` and ``--deps`` with a fake dbt."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ledger_watcher.capture.argv import DbtCommand
from ledger_watcher.cli import main
from ledger_watcher.deps import deps_command
from ledger_watcher.ledger import Entry
from ledger_watcher.records import AttemptStarted, HookFinished, NodeFinished, Outcome, Record, utcnow
from ledger_watcher.state import RunState
from ledger_watcher.verdict import errors_of, recorded_nodes, rendered_hash
from tests.core.fakes import FakeDbt

A, B = "model.shop.a", "test.shop.b"
RESULT = """
def result(unique_id, status, **more):
    say("NodeFinished", "debug", unique_id=unique_id, node_status=status, resource_type=unique_id.partition(".")[0], **more,
        data={"run_result": {"status": status, "message": "as the test says", "execution_time": 0.1, "num_failures": 0}})
"""


def finished(unique_id: str, outcome: Outcome, materialized: str = "table") -> NodeFinished:
    return NodeFinished(ts=utcnow(), unique_id=unique_id, outcome=outcome, status=outcome.value, materialized=materialized)


def state(*attempts: list[Record]) -> RunState:
    folded = RunState()
    for epoch, records in enumerate(attempts, 1):
        started = AttemptStarted(ts=utcnow(), attempt=epoch, command=("dbt",), invocation="i", producer_started_at=utcnow())
        folded.apply(Entry(0, epoch, record) for record in (started, *records))
    return folded


def test_the_errors_are_those_of_the_newest_attempt_by_who_shows_them() -> None:
    hook = HookFinished(ts=utcnow(), unique_id="operation.shop.end-0", outcome=Outcome.FAILED, status="error", message="no table")
    found = errors_of(
        state([finished("model.shop.old", Outcome.FAILED)], [finished(A, Outcome.FAILED), finished(B, Outcome.CANCELLED), hook]), {A}
    )
    assert [record.unique_id for record in found.shown] == [A]
    assert [record.unique_id for record in found.hidden] == [B, "operation.shop.end-0"]
    assert found.named == f"{B}: cancelled; operation.shop.end-0: no table"


def test_what_has_a_task_is_recorded_in_the_newest_attempt() -> None:
    records: list[Record] = [
        finished(A, Outcome.SUCCESS),
        finished("model.shop.eph", Outcome.SUCCESS, "ephemeral"),
        finished("function.shop.f", Outcome.SUCCESS),
        finished("unit_test.shop.a.x", Outcome.SKIPPED),
    ]
    assert recorded_nodes(state([finished("model.shop.old", Outcome.SUCCESS)], records)) == {A, "unit_test.shop.a.x"}
    assert recorded_nodes(RunState()) == frozenset()


def test_the_hash_knows_no_order_but_every_name() -> None:
    assert rendered_hash([A, B]) == rendered_hash((B, A, A))
    assert len({rendered_hash(names) for names in ([A, B], [A], [], [A + "\n" + B + "x"], [A + B])}) == 5


def invoke(dbt: FakeDbt, folder: Path, code: str, *options: str) -> Result:
    args = ["run", "--ledger", str(folder / "ledger"), "--project-dir", str(dbt.project), *options, "--", str(dbt.path), "build"]
    return CliRunner().invoke(main, args, env={"FAKE_DBT": RESULT + code})


@pytest.mark.parametrize(
    ("tasks", "code", "exit_code", "says"),
    [
        ([A, B], f'result("{A}", "error"); result("{B}", "skipped"); sys.exit(1)', 0, "1 failed nodes; their own tasks show them"),
        ([A, B], f'result("{A}", "success"); result("{B}", "pass"); sys.exit(0)', 0, "dbt: exit code 0"),
        ([A, B], f'result("{A}", "error"); sys.exit(1)', 1, "The 1 nodes that dbt worked on are not those"),
        ([A], f'result("{A}", "error"); result("{B}", "fail"); sys.exit(1)', 1, "The 2 nodes that dbt worked on are not those"),
        ([A], f'result("{A}", "error"); result("function.shop.f", "error"); sys.exit(1)', 1, "function.shop.f: as the test says"),
        ([A], f'result("{A}", "success"); sys.exit(1)', 1, "dbt named no node"),
        ([A], f'result("{A}", "error"); sys.exit(2)', 2, "dbt: exit code 2"),
        ([A], f'result("{A}", "error"); os.kill(os.getpid(), 9)', 137, "dbt: exit code 137"),
    ],
)
def test_the_exit_code_for_whoever_has_a_task_per_node(tmp_path: Path, tasks: list[str], code: str, exit_code: int, says: str) -> None:
    done = invoke(FakeDbt.make(tmp_path), tmp_path, code, "--rendered", rendered_hash(tasks))
    assert (done.exit_code, says in done.stderr) == (exit_code, True), done.output


def test_without_the_option_the_exit_code_is_dbts(tmp_path: Path) -> None:
    assert invoke(FakeDbt.make(tmp_path), tmp_path, f'result("{A}", "error"); sys.exit(1)').exit_code == 1


def test_a_hash_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    assert invoke(FakeDbt.make(tmp_path), tmp_path, "", "--rendered", "all").exit_code == 2


@pytest.mark.parametrize(("code", "built"), [(0, True), (2, False)])
def test_deps_come_first_and_end_the_command_if_they_fail(tmp_path: Path, code: int, built: bool) -> None:
    dbt = FakeDbt.make(tmp_path)
    script = f"open('called', 'a').write(' '.join(sys.argv[1:]) + chr(10)); sys.exit({code} if 'deps' in sys.argv else 0)"
    done = invoke(dbt, tmp_path, script, "--deps")
    calls = (dbt.project / "called").read_text().splitlines()
    assert done.exit_code == code
    assert calls[0] == "deps"
    assert [call.rpartition(" ")[2] for call in calls[1:]] == ["build"] * built
    assert (tmp_path / "ledger").exists() is built


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("dbt", "build"), "dbt deps"),
        (("uv", "run", "dbt", "--no-version-check", "build", "--select", "a"), "uv run dbt --no-version-check deps"),
        (
            ("dbt", "build", "--project-dir", "p", "--vars={a: 1}", "--threads", "8", "--target", "t"),
            "dbt deps --project-dir=p --target=t --vars={a: 1}",
        ),
        (("dbt", "--target", "t", "build", "--profile", "q"), "dbt --target t deps --profile=q"),
    ],
)
def test_deps_get_what_they_share_with_the_command(argv: tuple[str, ...], expected: str) -> None:
    assert " ".join(deps_command(DbtCommand.parse(argv), argv[0], in_process=False)) == expected
