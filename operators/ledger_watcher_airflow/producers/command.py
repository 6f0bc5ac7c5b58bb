"""The producer as a command: what makes any operator that can run one into the producer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from airflow.sdk import BaseOperator

from ledger_watcher.errors import ConfigError
from ledger_watcher.verdict import rendered_hash, sources_of
from ledger_watcher_airflow.flags import DbtCall
from ledger_watcher_airflow.late import refuse_late
from ledger_watcher_airflow.ledger import PRODUCER_TASK_ID, LedgerRef
from ledger_watcher_airflow.producer import PRODUCER_PRIORITY
from ledger_watcher_airflow.producers.attempt import ATTRIBUTE, CommandAttempt, CommandRecovery
from ledger_watcher_airflow.producers.quoting import ARGV, SHELL, Expression, Quoting, Word, json_of, rendered, template

WATCHER = ("ledger-watcher",)
"""What is on PATH where this package is installed."""

_CONTEXT = {
    "--dag-id": "ti.dag_id",
    "--run-id": "ti.run_id",
    "--map-index": "-1 if ti.map_index is none else ti.map_index",
    "--try-number": "ti.try_number",
    "--clear-number": "dag_run.clear_number",
    "--since": "dag_run.start_date.isoformat() if dag_run.start_date else ''",
}
"""What only the running task knows, as Jinja expressions."""

_ATTEMPT = {
    "--producer-started-at": "started_at(ti)",
    "--done": "done(ti, task, {limit})",
    "--only": "packed_only({limit})",
    "--after": "after",
    "--task-id": "task_id",
}
"""What only the attempt knows, that of the producer or a recovery through its operator: attributes of a CommandAttempt."""

_LIMIT = 100_000
"""Characters of a packed set of nodes: for Linux, one argument may have 131,072 bytes, and a shell's whole command is one."""

_INSTEAD = (
    "a producer that is a command is made of templates; write one, such as \"{{ ['north', 'south'][ti.map_index] }}\" or "
    "\"{{ ti.xcom_pull(task_ids='regions')[ti.map_index] }}\""
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"DBT_ENV_SECRET|passw|secret|token|credential|api_?key|private_?key|access_?key", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerCommand:
    """``ledger-watcher run ... -- dbt build ...`` for one task, in the forms that operators take.

    All of it are Jinja templates, to be put into fields that the operator renders; they become what is meant, to the letter, whatever
    characters are in a run id, a variable or a path.

    :param task_id: id that the operator must have: the tasks of the nodes look for it.
    :param task_args: Airflow's arguments for the operator (queue, retries, priority, ...).
    """

    task_id: str
    task_args: Mapping[str, Any]
    ledger: LedgerRef
    ledger_group: str
    options: tuple[Word, ...]
    dbt: tuple[Word, ...]
    limit: int = _LIMIT
    env: Mapping[str, str] = field(default_factory=dict)
    env_templates: frozenset[str] = frozenset()

    def limited(self, characters: int) -> ProducerCommand:
        """The same for an operator whose command has to be short: a set of nodes takes no more characters than that.

        A longer set of nodes that are done is left out, with a warning, and everything is built again; a recovery of more nodes is refused.
        """
        return replace(self, limit=characters)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words behind the program."""
        attempt = ((f"{name}=", Expression(f"task.{ATTRIBUTE}.{source.format(limit=self.limit)}")) for name, source in _ATTEMPT.items())
        return (("run",), *self.options, *attempt, ("--",), *self.dbt)

    def argv(self, watcher: Sequence[str] = WATCHER, quoting: Quoting = ARGV) -> list[str]:
        """The command as a list, for operators that take one.

        :param watcher: how to start ledger-watcher where the command runs; empty if the image's entry point does.
        """
        return [template(word, quoting) for word in (*((part,) for part in watcher), *self.words)]

    def shell(self, watcher: Sequence[str] = WATCHER, *, with_env: bool = True) -> str:
        """The command for a POSIX shell, every word quoted, in place of that shell (so that it gets the signals)."""
        names = [template((f"{name}=", *self._value(name)), SHELL) for name in self.env] if with_env else []
        return " ".join(["exec", *(["env", *names] if names else []), *self.argv(watcher, SHELL)])

    def environment(self, quoting: Quoting = ARGV) -> dict[str, str]:
        """The environment variables for dbt."""
        return {name: template(self._value(name), quoting) for name in self.env}

    def _value(self, name: str) -> Word:
        text = self.env[name]
        return (rendered(text),) if name in self.env_templates else (text,)


Producer: TypeAlias = Callable[[ProducerCommand], BaseOperator]
"""Makes the operator that runs the command, with its ``task_id`` and ``task_args``."""


def producer_command(
    build: DbtCall,
    ledger: LedgerRef,
    nodes: Sequence[str],
    *,
    executable: str = "dbt",
    ledger_group: str = "",
    task_args: Mapping[str, Any] | None = None,
) -> ProducerCommand:
    """The command of the producer of a DAG or task group.

    :param nodes: unique_ids that have a task: an error of any of them is shown by that task, and does not fail the producer too. If sources are
        among them, their freshness is checked before the build.
    :param executable: the dbt to run, as it is called where the command runs.
    :raises ConfigError: a variable that looks like a secret, which would stand in Airflow's database and in its UI; a value that is no template;
        a profile of an Airflow connection, which is not where the command runs.
    """
    refuse_late("operator_args['{}']", build.templates, _INSTEAD)
    _check_no_mapping(build)
    _check_no_secret(build)
    fixed = {"--ledger": ledger.uri, "--deployment": ledger.deployment, "--group": ledger_group}
    variables = json_of(build.project.dbt_vars, build.flags.vars)
    has_variables = build.project.dbt_vars or build.flags.vars
    dbt = build.around(executable, [("--vars=", variables)] if has_variables else [])
    options: list[Word] = [
        *((f"{name}={value}",) for name, value in fixed.items()),
        *((f"{name}=", Expression(source)) for name, source in _CONTEXT.items()),
        (f"--project-dir={build.project.project_dir}",),
        (f"--rendered={rendered_hash(nodes)}",),
        *([("--deps",)] if build.flags.install_deps else []),
        *([("--tests-last",)] if build.tests_last else []),
        *_sources(nodes),
        *_exactly(build.exactly),
    ]
    return ProducerCommand(
        task_id=PRODUCER_TASK_ID,
        task_args={
            "priority_weight": PRODUCER_PRIORITY,
            "weight_rule": "absolute",
            "do_xcom_push": False,
            **(task_args or {}),
        },
        ledger=ledger,
        ledger_group=ledger_group,
        options=tuple(options),
        dbt=tuple((word,) if isinstance(word, str) else word for word in dbt),
        env=build.env,
        env_templates=frozenset(build.flags.env),
    )


def make_producer(producer: Producer, command: ProducerCommand) -> BaseOperator:
    """The operator that ``producer`` makes of ``command``, checked, and able to :class:`recover <CommandRecovery>`.

    :raises ConfigError: it is none, or not one that the tasks of the nodes would find.
    """
    operator = producer(command)
    if not isinstance(operator, BaseOperator):
        raise ConfigError(f"ExecutionConfig(producer=...) returned {operator!r}; return an operator.")
    if operator.label != command.task_id:
        raise ConfigError(
            f"ExecutionConfig(producer=...) returned the task {operator.task_id!r}; create the operator with task_id=command.task_id "
            f"({command.task_id!r}): the tasks of the nodes look for it."
        )
    operator.render_template_as_native_obj = False  # a run id of digits would become a number
    recovery = CommandRecovery(operator, command.ledger, command.ledger_group)
    vars(operator).update({ATTRIBUTE: CommandAttempt(), "recover": recovery.recover})
    return operator


def _sources(nodes: Sequence[str]) -> list[Word]:
    sources = sources_of(nodes)
    if not sources:
        return []
    from ledger_watcher.packing import pack  # noqa: PLC0415 - few DAG files need it

    return [("--freshness",), (f"--sources={pack(sources)}",)]


def _exactly(nodes: Sequence[str]) -> list[Word]:
    if not nodes:
        return []
    from ledger_watcher.packing import pack  # noqa: PLC0415 - few DAG files need it

    packed = pack(nodes)
    if len(packed) > _LIMIT:
        raise ConfigError(
            f"The names of the {len(nodes)} nodes of RenderConfig(dbt_ls_path=...) take {len(packed)} characters, more than the {_LIMIT} that fit into the "
            "command of the producer: select them with RenderConfig(select=...), or with a plan (`ledger-watcher plan`)."
        )
    return [(f"--exactly={packed}",)]


def _check_no_mapping(build: DbtCall) -> None:
    mapping = build.profile.profile_mapping
    if mapping is not None:
        raise ConfigError(
            f"ProfileConfig(profile_mapping={type(mapping).__name__}(...)) reads an Airflow connection on the worker, but ExecutionConfig(producer=...) "
            "runs dbt elsewhere, and a password on its way there would stand in Airflow's database. Put a profiles.yml where dbt runs, with "
            "{{ env_var('DBT_ENV_SECRET_PASSWORD') }} for each secret; say ProfileConfig(profiles_yml_filepath=...) with its path there; and give the "
            "variable by the operator's own means: secrets= or env_from= of a Kubernetes pod, the secrets of the task definition or job, "
            "private_environment= of a Docker container, the environment of the host."
        )


def _check_no_secret(build: DbtCall) -> None:
    odd = next((name for name in build.env if not _NAME.fullmatch(name)), None)
    if odd is not None:
        raise ConfigError(f"{odd!r} is no name of an environment variable; correct ProjectConfig(env_vars=...) or operator_args['env'].")
    named = {"env": build.env, "vars": {**build.project.dbt_vars, **build.flags.vars}}
    for where, values in named.items():
        for name in values:
            if _SECRET.search(str(name)):
                raise ConfigError(
                    f"{name!r} in {where} looks like a secret: in a producer that is a command it would stand in the DAG, in Airflow's "
                    "database and in its UI. Give it by reference where dbt runs: secrets= or env_from= of a Kubernetes pod, the secrets of "
                    "the task definition or job, private_environment= of a Docker container, the environment of the host."
                )
