"""Ready producers for ``ExecutionConfig(producer=...)``. Each takes the arguments of the operator that it makes, and imports it only then.

Credentials of the ledger and the warehouse are the container's or the host's own: a service account, a role, secrets by reference.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.sdk import BaseOperator

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow.producers.command import WATCHER, Producer, ProducerCommand
from ledger_watcher_airflow.producers.quoting import KUBERNETES

_OURS = {
    "bash": ("bash_command",),
    "ssh": ("command",),
    "docker": ("command", "entrypoint"),
    "kubernetes": ("cmds", "arguments"),
}
_ECS_CHARACTERS = 8192
"""Of the overrides of one run, JSON formatting included (Amazon ECS API reference, TaskOverride)."""
_ECS_NODES = 4096


def bash_producer(*, watcher: Sequence[str] = WATCHER, **kwargs: Any) -> Producer:
    """A ``BashOperator``: dbt on the worker, in any environment.

    :param watcher: how to start ledger-watcher, such as ``["/opt/dbt-venv/bin/ledger-watcher"]``.
    :param kwargs: those of ``BashOperator``.
    """
    _check_ours(kwargs, "bash")

    def make(command: ProducerCommand) -> BaseOperator:
        operator = _operator("airflow.providers.standard.operators.bash", "BashOperator", "airflow")
        env = {**command.environment(), **(kwargs.get("env") or {})}
        own = {"append_env": True, "skip_on_exit_code": None, **kwargs, "env": env}
        return operator(**_args(command, own), bash_command=command.shell(watcher, with_env=False))

    return make


def ssh_producer(*, ssh_conn_id: str, watcher: Sequence[str] = WATCHER, **kwargs: Any) -> Producer:
    """An ``SSHOperator``: dbt on another host, whose login shell must be a POSIX one.

    A pseudo-terminal (``get_pty``) is asked for, since without it nothing reaches the remote dbt when the task is killed.

    :param watcher: how to start ledger-watcher on that host.
    :param kwargs: those of ``SSHOperator``.
    """
    _check_ours(kwargs, "ssh")

    def make(command: ProducerCommand) -> BaseOperator:
        operator = _operator("airflow.providers.ssh.operators.ssh", "SSHOperator", "ssh")
        own = {"get_pty": True, "cmd_timeout": None, **kwargs, "ssh_conn_id": ssh_conn_id}
        return operator(**_args(command, own), command=command.shell(watcher))

    return make


def docker_producer(*, image: str, watcher: Sequence[str] = WATCHER, **kwargs: Any) -> Producer:
    """A ``DockerOperator``. Secrets go into its ``private_environment``, which Airflow neither stores nor shows.

    :param watcher: how to start ledger-watcher in the image, whose entry point is not used.
    :param kwargs: those of ``DockerOperator``.
    """
    _check_ours(kwargs, "docker")
    program = _program(watcher)

    def make(command: ProducerCommand) -> BaseOperator:
        operator = _operator("airflow.providers.docker.operators.docker", "DockerOperator", "docker")
        own = {**kwargs, "environment": {**command.environment(), **(kwargs.get("environment") or {})}}
        argv = command.argv(watcher[1:])
        return operator(**_args(command, own), image=image, entrypoint=[program], command=argv)

    return make


def kubernetes_producer(*, image: str, watcher: Sequence[str] = WATCHER, **kwargs: Any) -> Producer:
    """A ``KubernetesPodOperator``. Secrets go in by ``secrets`` or ``env_from``, the rights to the bucket by ``service_account_name``.

    :param watcher: how to start ledger-watcher in the image, whose entry point is not used.
    :param kwargs: those of ``KubernetesPodOperator``. When its pod is deleted, dbt gets 60 s to cancel its queries unless
        ``termination_grace_period`` says otherwise.
    """
    _check_ours(kwargs, "kubernetes")
    program = _program(watcher)

    def make(command: ProducerCommand) -> BaseOperator:
        operator = _operator("airflow.providers.cncf.kubernetes.operators.pod", "KubernetesPodOperator", "kubernetes")
        variable = importlib.import_module("kubernetes.client").V1EnvVar
        theirs = kwargs.get("env_vars") or []
        given = [variable(name=name, value=value) for name, value in theirs.items()] if isinstance(theirs, Mapping) else list(theirs)
        ours = [variable(name=name, value=value) for name, value in command.environment(KUBERNETES).items()]
        own = {"termination_grace_period": 60, **kwargs, "env_vars": [*ours, *given]}
        argv = command.argv(watcher[1:], KUBERNETES)
        return operator(**_args(command, own), image=image, cmds=[KUBERNETES.text(program)], arguments=argv)

    return make


def ecs_producer(
    *, container_name: str, watcher: Sequence[str] = WATCHER, overrides: Mapping[str, Any] | None = None, **kwargs: Any
) -> Producer:
    """An ``EcsRunTaskOperator``. Secrets belong to the task definition.

    ECS takes overrides of up to 8,192 characters. Half of them are for a set of nodes (what is done after a clear, what a recovery builds),
    which is a few hundred; if the rest is longer than the other half, the task fails with a :class:`ConfigError` that says what takes the room.

    :param container_name: the container of the task definition that runs the command.
    :param watcher: how to start ledger-watcher, behind the image's entry point, which ECS cannot override; ``[]`` if that is it.
    :param overrides: more of them, such as ``{"cpu": "1024"}``.
    :param kwargs: those of ``EcsRunTaskOperator``.
    """
    more = _without(overrides, "containerOverrides")
    theirs: Callable[[Any], Any] | None = kwargs.get("pre_execute")

    def check(context: Any) -> None:  # noqa: ANN401 - Airflow's context
        _check_length(context["task"].overrides)
        if theirs is not None:
            theirs(context)

    def make(command: ProducerCommand) -> BaseOperator:
        command = command.limited(_ECS_NODES)
        operator = _operator("airflow.providers.amazon.aws.operators.ecs", "EcsRunTaskOperator", "ecs")
        container = {"name": container_name, "command": command.argv(watcher), "environment": _pairs(command)}
        return operator(**_args(command, {**kwargs, "pre_execute": check}), overrides={**more, "containerOverrides": [container]})

    return make


def cloud_run_producer(*, watcher: Sequence[str] = WATCHER, overrides: Mapping[str, Any] | None = None, **kwargs: Any) -> Producer:
    """A ``CloudRunExecuteJobOperator``. Secrets belong to the job.

    :param watcher: how to start ledger-watcher, behind the job's command, which an execution cannot override; ``[]`` if that is it.
    :param overrides: more of them, such as ``{"timeout": "3600s"}``.
    :param kwargs: those of ``CloudRunExecuteJobOperator``.
    """
    more = _without(overrides, "container_overrides")

    def make(command: ProducerCommand) -> BaseOperator:
        operator = _operator("airflow.providers.google.cloud.operators.cloud_run", "CloudRunExecuteJobOperator", "cloud-run")
        container = {"args": command.argv(watcher), "env": _pairs(command)}
        return operator(**_args(command, kwargs), overrides={**more, "container_overrides": [container]})

    return make


def _args(command: ProducerCommand, own: Mapping[str, Any]) -> dict[str, Any]:
    """What a factory was given beats what is for all tasks of the DAG; the id is not to be chosen."""
    return {**command.task_args, **own, "task_id": command.task_id}


def _pairs(command: ProducerCommand) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in command.environment().items()]


def _check_length(overrides: Mapping[str, Any]) -> None:
    """The room for nodes is kept free in every run, so that a command does not become too long by a clear or while the task is deferred."""
    (container,) = overrides["containerOverrides"]
    command = [word for word in container["command"] if not word.startswith(("--done=", "--only="))]
    length = len(json.dumps({**overrides, "containerOverrides": [{**container, "command": command}]}))
    room = _ECS_CHARACTERS - _ECS_NODES
    if length > room:
        longest = max((*command, *(pair["value"] for pair in container["environment"])), key=len)
        raise ConfigError(
            f"The overrides of the ECS task have {length} characters and may have {room}: ECS takes {_ECS_CHARACTERS}, and {_ECS_NODES} are kept "
            f"for the nodes of a clear or a recovery. The longest text begins with {longest[:40]!r} and has {len(longest)}: put long variables "
            "into the dbt project, a file of it, or the task definition."
        )


def _program(watcher: Sequence[str]) -> str:
    if not watcher:
        raise ConfigError("watcher=[] leaves no program to start; leave it out, or give the path of ledger-watcher in the image.")
    return watcher[0]


def _check_ours(kwargs: Mapping[str, Any], which: str) -> None:
    taken = sorted(set(_OURS[which]) & set(kwargs))
    if taken:
        raise ConfigError(f"{which}_producer({taken[0]}=...): that is the producer's command, which is made for each run; leave it out.")


def _without(overrides: Mapping[str, Any] | None, ours: str) -> dict[str, Any]:
    if ours in (overrides or {}):
        raise ConfigError(f"overrides[{ours!r}] is the producer's command, which is made for each run; leave it out.")
    return dict(overrides or {})


def _operator(module: str, name: str, extra: str) -> Callable[..., BaseOperator]:
    try:
        found: type[BaseOperator] = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ConfigError(
            f"{name} cannot be imported ({error}); install its provider where Airflow runs: pip install 'ledger-watcher[{extra}]'."
        ) from error
    return found
