"""``ledger-watcher run``: its options against a fake dbt."""

from __future__ import annotations

import base64
import importlib
import os
import re
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from ledger_watcher.cli import main
from ledger_watcher.ledger import ChainReader, RunKey, list_runs
from ledger_watcher.packing import pack, unpack
from ledger_watcher.records import AttemptStarted, NodeStarted
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore
from ledger_watcher.verdict import rendered_hash
from tests.core.fakes import PATIENCE, FakeDbt

run_module = importlib.import_module("ledger_watcher.cli.run")  # the name is that of the command in its package


def packed(text: str) -> str:
    return base64.urlsafe_b64encode(zlib.compress(text.encode())).decode()


@pytest.fixture
def dbt(tmp_path: Path) -> FakeDbt:
    return FakeDbt.make(tmp_path)


def invoke(dbt: FakeDbt, *args: str, code: str = "", env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["run", *args], env={"FAKE_DBT": code, **(env or {})})


def run_here(dbt: FakeDbt, tmp_path: Path, *args: str, code: str = "", env: dict[str, str] | None = None) -> Result:
    options = ("--ledger", str(tmp_path / "ledger"), "--project-dir", str(dbt.project))
    return invoke(dbt, *options, *args, "--", str(dbt.path), "build", code=code, env=env)


def the_run(tmp_path: Path) -> tuple[RunKey, AttemptStarted]:
    store = LocalStore(str(tmp_path / "ledger"))
    (key,) = list_runs(store)
    first = ChainReader(store, key).read()[0].record
    assert isinstance(first, AttemptStarted)
    return key, first


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_is_dbts_and_both_ends_of_the_ledger_are_said(dbt: FakeDbt, tmp_path: Path, code: int) -> None:
    result = run_here(dbt, tmp_path, code=f"sys.exit({code})")
    assert result.exit_code == code
    start, end = result.stderr.splitlines()
    key, _ = the_run(tmp_path)
    assert start == f"Ledger of {key}: file://{tmp_path}/ledger/{key.prefix}"
    assert re.fullmatch(rf"Ledger ended with [0-9a-f]{{64}} \(dbt: exit code {code}, exit\)\.", end)
    assert result.stdout == "00:00:00  MainReportVersion\n"


def test_a_killed_dbt(dbt: FakeDbt, tmp_path: Path) -> None:
    assert run_here(dbt, tmp_path, code="os.kill(os.getpid(), 9)").exit_code == 137


def test_defaults(dbt: FakeDbt, tmp_path: Path) -> None:
    assert run_here(dbt, tmp_path).exit_code == 0
    key, started = the_run(tmp_path)
    assert (key.dag_id, key.group, key.map_index, key.deployment) == ("shop", "", -1, "default")
    assert re.fullmatch(r"cli__\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", key.run_id)
    assert (started.try_number, started.clear_number) == (None, None)


def test_options(dbt: FakeDbt, tmp_path: Path) -> None:
    key_options = ("--dag-id", "d", "--run-id", "r", "--group", "g.h", "--map-index", "3", "--deployment", "e")
    options = (*key_options, "--try-number", "2", "--clear-number", "1")
    assert run_here(dbt, tmp_path, *options, "--producer-started-at", "2026-01-01T00:00:00+01:00").exit_code == 0
    key, started = the_run(tmp_path)
    assert key == RunKey(dag_id="d", run_id="r", group="g.h", map_index=3, deployment="e")
    assert (started.try_number, started.clear_number) == (2, 1)
    assert started.producer_started_at.isoformat() == "2025-12-31T23:00:00+00:00"


def test_options_from_the_environment(dbt: FakeDbt, tmp_path: Path) -> None:
    """What a container is given."""
    values = {"LEDGER": str(tmp_path / "ledger"), "DAG_ID": "d", "RUN_ID": "r", "GROUP": "g", "MAP_INDEX": "0", "DEPLOYMENT": "e"}
    env = {f"LEDGER_WATCHER_{name}": value for name, value in {**values, "PROJECT_DIR": str(dbt.project), "TRY_NUMBER": "1"}.items()}
    assert invoke(dbt, str(dbt.path), "build", env=env).exit_code == 0
    key, started = the_run(tmp_path)
    assert key == RunKey(dag_id="d", run_id="r", group="g", map_index=0, deployment="e")
    assert started.try_number == 1


def test_dbts_own_options_are_dbts(dbt: FakeDbt, tmp_path: Path) -> None:
    """With or without the two dashes."""
    code = "text(' '.join(sys.argv[1:]))"
    options = ("--ledger", str(tmp_path / "ledger"), "--project-dir", str(dbt.project))
    for dashes in ((), ("--",)):
        result = invoke(dbt, *options, *dashes, str(dbt.path), "build", "--select", "a", "--", "--help", code=code)
        assert result.stdout.splitlines()[-1] == "--log-format json --log-level debug build --select a -- --help"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--ledger", "s4://bucket", "--", "{dbt}", "build"), "unknown scheme 's4'"),
        (("--ledger", "s3://key:secret@bucket", "--", "{dbt}", "build"), "holds credentials"),
        (("--ledger", "{tmp}/l", "--storage-option", "x", "--", "{dbt}", "build"), "A storage option is KEY=VALUE"),
        (("--ledger", "{tmp}/l", "--", "no-such-dbt", "build"), "'no-such-dbt' was not found; install dbt"),
        (("--ledger", "{tmp}/l", "--", "{dbt}", "biuld"), "'biuld' is not a dbt command"),
        (("--ledger", "{tmp}/l"), "There is no command to run"),
        (("--ledger", "{tmp}/l", "--resume", "--", "{dbt}", "build"), "--resume needs --run-id"),
        (("--ledger", "{tmp}/l", "--resume", "--run-id", "r", "--", "{dbt}", "build"), "There is nothing to resume"),
        (("--ledger", "{tmp}/l", "--plan", "{tmp}/none", "--", "{dbt}", "build"), "could not be read"),
        (("--ledger", "{tmp}/dbt", "--", "{dbt}", "build"), "lies below a file"),
        (("--ledger", "{tmp}/l", "--project-dir", "{tmp}", "--", "{dbt}", "build"), "There is no dbt_project.yml in "),
    ],
)
def test_errors_are_one_line_and_exit_code_3(dbt: FakeDbt, tmp_path: Path, args: tuple[str, ...], says: str) -> None:
    filled = [arg.format(dbt=dbt.path, tmp=tmp_path) for arg in args]
    project = () if "--project-dir" in filled else ("--project-dir", str(dbt.project))
    result = invoke(dbt, *project, *filled, code="open('started', 'w')")
    assert result.exit_code == 3
    *_, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert says in last
    assert "secret" not in result.stderr
    assert not (dbt.project / "started").exists()


@pytest.mark.parametrize(
    "args",
    [(), ("--ledger", "x", "--map-index", "one"), ("--ledger", "x", "--producer-started-at", "now"), ("--ledger", "x", "--since", "1")],
)
def test_usage_errors_are_clicks(dbt: FakeDbt, args: tuple[str, ...]) -> None:
    assert invoke(dbt, *args, "--", "dbt", "build").exit_code == 2


def test_a_second_run_of_the_same_id_goes_on(dbt: FakeDbt, tmp_path: Path) -> None:
    plan = tmp_path / "plan"
    plan.write_text('["model.shop.a", "model.shop.b"]')
    code = "for node in selected(['model.shop.a', 'model.shop.b']): build(node, os.environ['STATUS'] if node[-1] == 'b' else 'success')"
    options = ("--run-id", "r", "--plan", str(plan))
    run_here(dbt, tmp_path, *options, code=code, env={"STATUS": "error"})
    second = run_here(dbt, tmp_path, *options, "--resume", code=code, env={"STATUS": "success"})
    note = "1 nodes are done and taken over from the attempts before, 1 are left to build."
    assert note in second.stderr.splitlines()
    third = run_here(dbt, tmp_path, *options, code=code)
    assert third.exit_code == 0
    assert third.stdout == ""
    assert "Nothing is left to build, so dbt was not started: all nodes of the run are done." in third.stderr.splitlines()
    fourth = run_here(dbt, tmp_path, *options, "--fresh", code=code, env={"STATUS": "success"})
    assert note not in fourth.stderr
    records = [entry.record for entry in ChainReader(LocalStore(str(tmp_path / "ledger")), RunKey("shop", "r")).read()]
    started = [record.unique_id for record in records if isinstance(record, NodeStarted)]
    assert started == [f"model.shop.{name}" for name in "abbab"]


def test_two_producers_of_one_run(dbt: FakeDbt, tmp_path: Path) -> None:
    """The second takes the run over; the first interrupts its dbt, says who did it, and is not taken for a success."""
    command = [sys.executable, "-c", "from ledger_watcher.cli import main; main()", "run", "--ledger", str(tmp_path / "ledger")]
    command += ["--project-dir", str(dbt.project), "--run-id", "r", "--", str(dbt.path), "build"]
    code = """
build("model.shop.a")
if not os.path.exists("second"):
    def interrupted(*_):
        open("interrupted", "w").close()
        sys.exit(2)
    signal.signal(signal.SIGINT, interrupted)
    text("ready")
    threading.Event().wait()
"""
    env = {**os.environ, **dbt.env(code)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert any("ready" in line for line in first.stdout)
        (dbt.project / "second").touch()
        second = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
        _, stderr = first.communicate(timeout=PATIENCE)
    assert second.returncode == 0, second.stderr
    assert first.returncode == 3
    *_, last = stderr.splitlines()
    assert re.match(r"Error: This writer was fenced: .* was written by attempt 2 \(host .*, pid \d+, started ", last), stderr
    assert (dbt.project / "interrupted").exists()
    state = RunState()
    state.apply(ChainReader(LocalStore(str(tmp_path / "ledger")), RunKey("shop", "r")).read())
    assert state.ended
    assert [attempt.finished is not None for attempt in state.attempts.values()] == [False, True]


def test_problems_are_said(dbt: FakeDbt, tmp_path: Path) -> None:
    result = run_here(dbt, tmp_path, code='say("NodeFinished", "debug", node_name="a", data={"run_result": {}})')
    assert result.exit_code == 0
    assert "Note: an event NodeFinished could not be read: ValueError: it has no status\n" in result.stderr


def records_of(tmp_path: Path, run_id: str = "r") -> RunState:
    state = RunState()
    state.apply(ChainReader(LocalStore(str(tmp_path / "ledger")), RunKey("shop", run_id)).read())
    return state


TWO = """
for node in selected(["model.shop.a", "model.shop.b"]):
    build(node, "error")
sys.exit(1)
"""
HASH = rendered_hash(["model.shop.a", "model.shop.b"])


def test_some_nodes_only_behind_a_certain_attempt(dbt: FakeDbt, tmp_path: Path) -> None:
    """The exit code is dbt's, with --rendered too. Where another attempt began meanwhile, dbt is not started."""
    options = ("--run-id", "r", "--rendered", HASH)
    assert run_here(dbt, tmp_path, *options, code=TWO).exit_code == 0
    only = (*options, "--only", pack(["model.shop.b"]), "--after", "1", "--task-id", "b_run")
    assert run_here(dbt, tmp_path, *only, code=TWO).exit_code == 1
    state = records_of(tmp_path)
    assert {name: node.epoch for name, node in state.nodes.items()} == {"model.shop.a": 1, "model.shop.b": 2}
    started = state.attempts[2].started
    assert started is not None
    assert (started.scope, started.task_id) == ("only", "b_run")
    late = run_here(dbt, tmp_path, *only, code="open('started', 'w')")
    assert late.exit_code == 3
    assert late.stderr.splitlines()[-1].startswith("Error: The newest attempt in ")
    assert not (dbt.project / "started").exists()
    assert sorted(records_of(tmp_path).attempts) == [1, 2]


def test_what_is_done_is_not_built_and_counts_as_shown(dbt: FakeDbt, tmp_path: Path) -> None:
    """Airflow shows a as success (a person marked it); b fails, and its task shows that: so 0."""
    options = ("--run-id", "r", "--rendered", HASH)
    run_here(dbt, tmp_path, *options, code=TWO)
    second = run_here(dbt, tmp_path, *options, "--done", pack(["model.shop.a"]), code=TWO)
    assert second.exit_code == 0, second.stderr
    assert {name: node.epoch for name, node in records_of(tmp_path).nodes.items()} == {"model.shop.a": 1, "model.shop.b": 2}


def test_attempts_of_a_deleted_run_do_not_count(dbt: FakeDbt, tmp_path: Path) -> None:
    code = "[build(node) for node in selected(['model.shop.a', 'model.shop.b'])]"
    times = ("2026-01-01T10:00:00Z", "2026-01-01T12:00:00Z")
    for started in times:
        run_here(dbt, tmp_path, "--run-id", "r", "--producer-started-at", started, "--since", "2026-01-01T12:00:00+00:00", code=code)
    assert {node.epoch for node in records_of(tmp_path).nodes.values()} == {2}
    assert all(node.finished is not None and node.finished.source == "event" for node in records_of(tmp_path).nodes.values())


@pytest.mark.parametrize(("built", "exit_code"), [("success", 0), ("error", 1)])
def test_a_project_of_another_version_than_the_dag_is_named(dbt: FakeDbt, tmp_path: Path, built: str, exit_code: int) -> None:
    code = f"build('model.shop.a', {built!r}); sys.exit({exit_code})"
    result = run_here(dbt, tmp_path, "--rendered", HASH, code=code)
    assert result.exit_code == exit_code
    assert "The 1 nodes that dbt worked on are not those that have a task in Airflow" in result.stderr
    assert "Deploy the same version to both" in result.stderr


def test_empty_values_are_no_values(dbt: FakeDbt, tmp_path: Path) -> None:
    """Templates always write the option."""
    empty = [f"{name}=" for name in ("--producer-started-at", "--since", "--done", "--only", "--after", "--task-id")]
    assert run_here(dbt, tmp_path, *empty).exit_code == 0
    _, started = the_run(tmp_path)
    assert (started.scope, started.task_id) == (None, None)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("model.shop.a", "could not be read"),
        (base64.urlsafe_b64encode(b"[]").decode(), "could not be read"),
        (pack(["model.shop.a"])[:-8], "could not be read"),
        (packed("nonsense"), "could not be read"),
        (packed('{"model.shop.a": 1}'), "is a JSON list, not dict"),
        (packed("[]"), "holds no nodes"),
        (packed('["orders"]'), "'orders', which is no unique_id"),
        (packed("[1]"), "1, which is no unique_id"),
    ],
)
def test_a_set_of_nodes_that_is_none_is_refused(dbt: FakeDbt, tmp_path: Path, word: str, says: str) -> None:
    for option in ("--done", "--only"):
        result = run_here(dbt, tmp_path, option, word, code="open('started', 'w')")
        assert result.exit_code == 3
        assert says in result.stderr
        assert "ledger_watcher.packing.pack" in result.stderr
    assert not (dbt.project / "started").exists()


def test_a_packed_set_is_one_word_and_the_same_every_time() -> None:
    names = {f"model.shop.{name}" for name in ("a", "b", "é ☃".replace(" ", "_"))}
    assert unpack(pack(names)) == names
    assert pack(names) == pack(sorted(names, reverse=True))
    assert re.fullmatch(r"[\w=-]+", pack(names), re.ASCII)
    assert pack([]) == ""


def test_help_names_every_variable() -> None:
    text = CliRunner().invoke(main, ["run", "--help"]).output
    for name in ("LEDGER", "DAG_ID", "RUN_ID", "GROUP", "MAP_INDEX", "DEPLOYMENT", "PROJECT_DIR", "IN_PROCESS", "STORAGE_OPTION"):
        assert f"LEDGER_WATCHER_{name}" in text


@pytest.mark.parametrize(("before", "interrupted"), [(signal.SIG_DFL, 1), (signal.SIG_IGN, 0)])
def test_a_closed_terminal_interrupts_dbt_but_not_under_nohup(before: signal.Handlers, interrupted: int) -> None:
    calls: list[None] = []
    capture = SimpleNamespace(interrupt=lambda: calls.append(None))
    found = signal.signal(signal.SIGHUP, before)
    try:
        with run_module._signals(capture):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is before
    finally:
        signal.signal(signal.SIGHUP, found)
    assert len(calls) == interrupted
