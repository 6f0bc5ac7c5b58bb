"""The operators of the table: their names, what they put on dbt's command line, what they refuse, how they end. dbt is a fake one."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from airflow.serialization.serialized_objects import DagSerialization

import ledger_watcher_airflow
from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import ExecutionMode, ProfileConfig, ProjectConfig, local
from ledger_watcher_airflow.commands import COMMANDS, LIMITED
from ledger_watcher_airflow.local.classes import OPERATORS
from scripts.local_stub import STUB, stub
from tests.core.fakes import PATIENCE, FakeDbt, running
from tests.operators.commands import context

PROFILE = ProfileConfig(profile_name="shop")
VALUES: dict[str, Any] = {
    "full_refresh": True,
    "threads": 3,
    "select": ["a"],
    "exclude": ["a"],
    "selector": "a",
    "indirect_selection": "cautious",
}
WORDS = {
    "full_refresh": ["--full-refresh"],
    "threads": ["--threads", "3"],
    "select": ["--select", "a"],
    "exclude": ["--exclude", "a"],
    "selector": ["--selector", "a"],
    "indirect_selection": ["--indirect-selection", "cautious"],
}
OWN: dict[str, dict[str, Any]] = {
    "RunOperation": {"macro_name": "grant", "args": {"to": "{{ run_id }}"}},
}
VENV = {"py_requirements": ["dbt-duckdb"]}
UPLOADS = {"DbtDocsS3Operator": "bucket_name", "DbtDocsGCSOperator": "bucket_name", "DbtDocsAzureStorageOperator": "container_name"}


def make(name: str, **more: Any) -> Any:  # noqa: ANN401
    stem = name.removeprefix("Dbt").removesuffix("Operator").removesuffix("Local").removesuffix("Virtualenv")
    virtualenv = VENV if name.endswith("VirtualenvOperator") else {}
    given = {"task_id": "it", "profile_config": PROFILE, "project_dir": "/opt/dbt/shop", **virtualenv, **OWN.get(stem, {}), **more}
    return OPERATORS[name](**given)


# The table -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["Local", "Virtualenv"])
@pytest.mark.parametrize("stem", COMMANDS)
def test_the_command_line_of_each_command_in_each_mode(stem: str, mode: str) -> None:
    name, command = f"Dbt{stem}{mode}Operator", COMMANDS[stem]
    plain = make(name)
    assert plain.mode is ExecutionMode[mode.upper()]
    words = list(plain.call.argv("dbt"))
    macro = ["grant"] if stem == "RunOperation" else []
    args = ["--args", '{"to":"{{ run_id }}"}'] if macro else []
    assert words == ["dbt", *command.words, *macro, "--project-dir", "/opt/dbt/shop", "--profile", "shop", *args]
    for flag, value in VALUES.items():
        if flag in command.takes:
            assert list(make(name, **{flag: value}).call.argv("dbt")) == [*words, *WORDS[flag]]
        else:
            with pytest.raises(ConfigError, match=f"`{command}` has no such option"):
                make(name, **{flag: value})


def test_the_table_is_what_dbt_has() -> None:
    """Each option that the table gives to a command is one of dbt's, and each that it does not is none."""
    from dbt.cli.main import cli

    for command in COMMANDS.values():
        found: Any = cli
        for word in command.words:
            found = found.commands[word]
        options = {option for parameter in found.params for option in parameter.opts}
        has = {flag for flag in LIMITED if WORDS[flag][0] in options}
        everywhere = {"indirect_selection"}  # a global flag in dbt's eyes, of no use without nodes
        assert has - everywhere == set(command.takes) - everywhere, command
        assert {"--fail-fast", "--warn-error", "--quiet", "--vars", "--profile", "--target"} <= options


def test_they_are_classes_like_any_other() -> None:
    names = {f"Dbt{stem}{mode}Operator" for stem in COMMANDS for mode in ("Local", "Virtualenv")} | set(UPLOADS)
    assert set(OPERATORS) == names == set(local.__all__)
    for name, made in OPERATORS.items():
        assert getattr(ledger_watcher_airflow, name) is getattr(local, name) is made
        assert (made.__module__, made.__qualname__) == ("ledger_watcher_airflow.local", name)
        assert made.__doc__
        operator = make(name, **{UPLOADS[name]: "b"} if name in UPLOADS else {})
        assert type(pickle.loads(pickle.dumps(operator))) is made  # noqa: S301 - our own

    class Mine(local.DbtRunLocalOperator):
        """A user's own."""

    assert Mine(task_id="it", profile_config=PROFILE, project_dir="/opt/dbt/shop", threads=2).call.flags.threads == 2


def test_the_stub_is_that_of_the_table() -> None:
    assert STUB.read_text() == stub(), "python -m scripts.local_stub"


@pytest.mark.parametrize(
    ("name", "has", "has_not"),
    [
        ("DbtRunLocalOperator", {"select", "vars", "callback", "project_dir"}, {"macro_name", "py_requirements"}),
        ("DbtRunOperationVirtualenvOperator", {"macro_name", "args", "py_requirements", "virtualenv_dir"}, {"select"}),
        ("DbtDepsLocalOperator", {"env"}, {"select", "threads"}),
        ("DbtDocsAzureStorageOperator", {"container_name", "connection_id", "folder_dir"}, {"bucket_name"}),
    ],
)
def test_a_signature_has_what_the_command_takes(name: str, has: set[str], has_not: set[str]) -> None:
    found = set(inspect.signature(OPERATORS[name].__init__).parameters)
    assert has <= found
    assert not has_not & found


def test_default_args_of_a_dag_are_taken() -> None:
    """Airflow takes those that stand in a signature."""
    defaults = {"project_dir": "/opt/dbt/shop", "profile_config": PROFILE, "threads": 5, "retries": 3}
    with DAG("it", schedule=None, default_args=defaults):
        operator = local.DbtRunLocalOperator(task_id="it")
    assert (operator.call.flags.threads, operator.retries) == (5, 3)


# What is stored ------------------------------------------------------------------------------------------------------


def test_nothing_of_a_call_is_stored_by_airflow() -> None:
    secrets = {"vars": {"token": "s3cret-one"}, "env": {"PASSWORD": "s3cret-two"}, "dbt_cmd_flags": ["s3cret-three"]}
    with DAG("it", schedule=None) as dag:
        run = make("DbtRunLocalOperator", **secrets)
        operation = make("DbtRunOperationLocalOperator", task_id="op", args={"password": "s3cret-four"})
    stored = DagSerialization.to_dict(dag)
    assert "s3cret" not in json.dumps(stored)
    assert (run.template_fields, operation.template_fields) == ((), ())
    (task,) = [one["__var"] for one in stored["dag"]["tasks"] if one["__var"]["task_id"] == "it"]
    assert (task["_task_module"], task["task_type"]) == ("ledger_watcher_airflow.local", "DbtRunLocalOperator")
    assert len(json.dumps(task)) < 250


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("DbtRunLocalOperator", {"project_dir": None}, "Give project_dir="),
        ("DbtRunLocalOperator", {"project_config": ProjectConfig("/opt")}, "Give project_dir="),
        ("DbtRunLocalOperator", {"virtualenv_dir": "/opt"}, "virtualenv_dir"),
        ("DbtRunLocalOperator", {"nodes": ["model.shop.a"], "select": "b"}, "exactly its nodes"),
        ("DbtLSLocalOperator", {"nodes": ["model.shop.a"]}, "write select"),
        ("DbtRunLocalOperator", {"macro_name": "grant"}, "macro_name"),
        ("DbtRunOperationLocalOperator", {"macro_name": None}, "macro_name"),
        ("DbtCompileLocalOperator", {"on_warning_callback": print}, "nothing warns in `dbt compile`"),
        ("DbtRunLocalOperator", {"callback": ["upload"]}, "callback holds 'upload'"),
        ("DbtRunLocalOperator", {"models": "a"}, "select"),
        ("DbtRunLocalOperator", {"append_env": False}, "append_env"),
        ("DbtRunLocalOperator", {"invocation_mode": "pod"}, "invocation_mode"),
        ("DbtRunVirtualenvOperator", {"py_requirements": []}, "py_requirements is empty"),
        ("DbtRunVirtualenvOperator", {"dbt_executable_path": "dbt"}, "leave dbt_executable_path"),
        ("DbtDocsS3Operator", {"bucket_name": ""}, "name of the bucket"),
    ],
)
def test_a_mistake_is_known_at_parse(name: str, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make(name, **arguments)


def test_a_profile_that_is_not_there_is_known_at_parse(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: shop\n")
    profile = ProfileConfig(profile_name="shop", profiles_yml_filepath=tmp_path / "profiles.yml")
    with pytest.raises(ConfigError, match="cannot be read"):
        make("DbtRunLocalOperator", project_dir=tmp_path, profile_config=profile)
    (tmp_path / "dbt_project.yml").unlink()
    with pytest.raises(ConfigError, match="not a dbt project"):
        make("DbtRunLocalOperator", project_dir=tmp_path)


# How they end --------------------------------------------------------------------------------------------------------


@pytest.fixture
def dbt(tmp_path: Path) -> FakeDbt:
    return FakeDbt.make(tmp_path)


def fake(dbt: FakeDbt, code: str, name: str = "DbtRunLocalOperator", **more: Any) -> Any:  # noqa: ANN401
    env = {"FAKE_DBT": textwrap.dedent(code), **more.pop("env", {})}
    return make(name, project_dir=dbt.project, dbt_executable_path=dbt.path, env=env, **more)


def test_templates_are_rendered_when_the_task_runs(dbt: FakeDbt, capfd: pytest.CaptureFixture[str]) -> None:
    code = "print(sys.argv[1:], os.environ['WORD'])"
    args = {"vars": {"run": "{{ run_id }}"}, "env": {"WORD": "{{ dag_run.conf['word'] }}"}, "select": ["{{ params.what }}"]}
    operator = fake(dbt, code, **args)
    operator.execute({**context("manual__1", conf={"word": "{{ hello }}"}), "params": {"what": "tag:daily"}})
    out = capfd.readouterr().out
    assert "{{ hello }}" in out
    assert '\'{"run":"manual__1"}\'' in out
    assert "'--select', 'tag:daily'" in out
    assert operator.call.flags.select == ["{{ params.what }}"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("build('model.shop.a', 'error'); sys.exit(1)", ["exit code 1", "model.shop.a: said error"]),
        ("text('Usage: dbt run'); text('No such option: --foo', sys.stderr); sys.exit(2)", ["exit code 2", "No such option: --foo"]),
        ("say('MainEncounteredError', 'error', data={'exc': 'Parsing Error in a.sql'}); sys.exit(2)", ["Parsing Error in a.sql"]),
        ("os.kill(os.getpid(), 9)", ["exit code 137", "SIGKILL"]),
        ("sys.exit(1)", ["exit code 1", "output is above"]),
    ],
)
def test_a_failure_is_in_the_message(dbt: FakeDbt, code: str, words: list[str]) -> None:
    with pytest.raises(AirflowException) as caught:
        fake(dbt, code).execute(context())
    assert not isinstance(caught.value, AirflowFailException), "another try may help"
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


def test_secrets_are_in_no_message_and_no_log(dbt: FakeDbt, capfd: pytest.CaptureFixture[str]) -> None:
    code = "text('it said ' + os.environ['DBT_ENV_SECRET_WORD']); sys.exit(2)"
    with pytest.raises(AirflowException, match=r"it said \*\*\*\*\*"):
        fake(dbt, code, env={"DBT_ENV_SECRET_WORD": "hunter2-and-more"}).execute(context())
    assert "hunter2" not in capfd.readouterr().out


def test_what_would_end_the_same_way_is_not_retried(dbt: FakeDbt) -> None:
    operator = make("DbtRunLocalOperator", project_dir=dbt.project, dbt_executable_path=dbt.project / "none")
    with pytest.raises(AirflowFailException, match="was not found"):
        operator.execute(context())


def test_an_error_in_a_callback_fails_the_task(dbt: FakeDbt) -> None:
    """If dbt failed, too, that is what the task says."""

    def breaks(_project_dir: str) -> None:
        raise LookupError("no such bucket")

    with pytest.raises(LookupError, match="no such bucket"):
        fake(dbt, "write('run_results.json')", callback=breaks).execute(context())
    with pytest.raises(AirflowException, match="exit code 2") as caught:
        fake(dbt, "sys.exit(2)", callback=breaks).execute(context())
    assert isinstance(caught.value.__context__, LookupError)
    assert (dbt.project / "target" / "run_results.json").is_file(), "it is put back all the same"


# Kills ---------------------------------------------------------------------------------------------------------------

PATIENT = """
done = []
signal.signal(signal.SIGINT, lambda *_: done.append(1))
text('ready')
open(os.environ['READY'], 'w').close()
while not done: time.sleep(0.01)
say('NodeFinished', 'debug', unique_id='model.shop.a', data={'run_result': {'status': 'error', 'message': 'cancelled'}})
sys.exit(2)
"""


def ready(tmp_path: Path) -> Path:
    """A named pipe: reading it waits until dbt runs."""
    pipe = tmp_path / "ready"
    os.mkfifo(pipe)
    return pipe


def test_on_kill_interrupts_dbt(dbt: FakeDbt, tmp_path: Path) -> None:
    pipe = ready(tmp_path)
    operator = fake(dbt, PATIENT, env={"READY": str(pipe)})
    errors: list[BaseException] = []

    def run() -> None:
        try:
            operator.execute(context())
        except AirflowException as error:
            errors.append(error)

    with running(run):
        pipe.read_bytes()
        operator.on_kill()
    assert "cancelled" in str(errors[0])


def test_a_kill_before_dbt_starts_keeps_it_from_starting(dbt: FakeDbt, tmp_path: Path) -> None:
    operator = fake(dbt, f"open({str(tmp_path / 'started')!r}, 'w')")
    operator.on_kill()
    with pytest.raises(AirflowException, match="exit code 130"):
        operator.execute(context())
    assert not (tmp_path / "started").exists()


def test_a_timeout_interrupts_dbt_first(dbt: FakeDbt, tmp_path: Path) -> None:
    """Airflow's execution_timeout raises in the main thread, from a signal handler."""

    def strike(*_: object) -> None:
        raise AirflowTaskTimeout

    operator = fake(dbt, f"signal.signal(signal.SIGINT, lambda *_: os._exit(2)); os.kill({os.getpid()}, signal.SIGUSR1); time.sleep(60)")
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        with pytest.raises(AirflowTaskTimeout):
            operator.execute(context())
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_no_dbt_outlives_its_task(dbt: FakeDbt) -> None:
    """The process of the task is killed with SIGKILL: dbt gets SIGINT, and ends."""
    code = f"""
        from pathlib import Path
        from tests.core.fakes import FakeDbt
        from tests.operators.commands import context
        from tests.operators.test_local_operators import fake
        dbt = FakeDbt(Path({str(dbt.path)!r}), Path({str(dbt.project)!r}))
        fake(dbt, "text(f'pid {{os.getpid()}}'); threading.Event().wait()").execute(context())
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as ours:
        assert ours.stdout is not None
        pid = next(int(line.split()[1]) for line in ours.stdout if line.startswith("pid "))
        watch = os.pidfd_open(pid)
        ours.kill()
    try:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        assert poll.poll(PATIENCE * 1000), "dbt is still there"
    finally:
        os.close(watch)


def test_importing_them_imports_nothing_that_only_a_run_needs() -> None:
    """A DAG file does that at each parse."""
    code = "import sys, ledger_watcher_airflow.local; print('\\n'.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ledger_watcher_airflow.local.operator" in found
    assert not [name for name in found if name.partition(".")[0] in ("dbt", "s3fs", "gcsfs", "adlfs") or "watcher.capture" in name]
