"""Each ready producer as the real operator of its provider: what it would send, its templates rendered.

Run by test_producer_factories.py with the Python of .venv-providers, where the providers are.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.amazon.aws.operators.ecs import EcsRunTaskOperator
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.secret import Secret
from airflow.providers.docker.operators.docker import DockerOperator
from airflow.providers.google.cloud.operators.cloud_run import CloudRunExecuteJobOperator
from airflow.providers.ssh.operators.ssh import SSHOperator
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from google.cloud.run_v2 import RunJobRequest
from kubernetes import client

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import (
    Producer,
    ProducerCommand,
    cloud_run_producer,
    docker_producer,
    ecs_producer,
    kubernetes_producer,
    ssh_producer,
)
from ledger_watcher_airflow.producers.command import make_producer
from tests.operators.commands import HOSTILE, command, context, dbt_words, options, rendered
from tests.operators.providers.kubelet import expanded

FLAGS = {"vars": {"conf": "{{ dag_run.conf['word'] }}"}, "env": {"CONF": "{{ dag_run.conf['word'] }}"}}


def made(producer: Producer, text: str = "x", **more: Any) -> Any:  # noqa: ANN401 - any operator
    """The operator as it is executed, in a DAG whose templates become Python objects."""
    asked: ProducerCommand = command(env_vars={"GIVEN": text}, dbt_vars={"given": text}, flags=FLAGS, **more)
    with DAG("shop", schedule=None, render_template_as_native_obj=True):
        operator = make_producer(producer, asked)
    return rendered(operator, context(text, conf={"word": text}))


def check(argv: list[str], env: dict[str, str], text: str) -> None:
    """The command and environment are those of this run, to the letter."""
    assert all(isinstance(word, str) for word in argv)
    assert options(argv)["--run-id"] == text
    (variables,) = [word for word in dbt_words(argv) if word.startswith("--vars=")]
    assert json.loads(variables.removeprefix("--vars=")) == {"given": text, "conf": text}
    assert env == {"GIVEN": text, "CONF": text}


# Kubernetes ----------------------------------------------------------------------------------------------------------

CLUSTER = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "here",
    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    "clusters": [{"name": "here", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "me", "user": {}}],
}


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    """The configuration of a cluster; building a pod asks for one, and sends nothing."""
    file = tmp_path / "config"
    file.write_text(json.dumps(CLUSTER))
    return str(file)


def pod_of(operator: KubernetesPodOperator) -> client.V1Pod:
    """The pod that would be created, after its way through JSON and the client's own models."""
    pod = operator.build_pod_request_obj()
    api = client.ApiClient()
    text = json.dumps(api.sanitize_for_serialization(pod))
    again = api.deserialize(SimpleNamespace(data=text), "V1Pod")
    assert isinstance(again, client.V1Pod)
    assert json.dumps(api.sanitize_for_serialization(again)) == text
    return again


@pytest.mark.parametrize("text", HOSTILE)
def test_kubernetes(text: str, config_file: str) -> None:
    operator = made(kubernetes_producer(image="registry.example/dbt:1", config_file=config_file), text)
    assert type(operator) is KubernetesPodOperator
    (container,) = pod_of(operator).spec.containers
    env = {"HOME": "/home/of/the/image"}
    for one in container.env:
        env[one.name] = expanded(one.value or "", env)
    argv = [expanded(word, env) for word in [*container.command, *container.args]]
    assert argv[:2] == ["ledger-watcher", "run"]
    check(argv, {name: env[name] for name in ("GIVEN", "CONF")}, text)


def test_kubernetes_takes_what_its_operator_takes_and_secrets_by_reference(config_file: str) -> None:
    password = client.V1EnvVar(
        name="DB_PASSWORD", value_from=client.V1EnvVarSource(secret_key_ref=client.V1SecretKeySelector(name="warehouse", key="password"))
    )
    producer = kubernetes_producer(
        image="registry.example/dbt:1",
        watcher=["/venv/bin/python", "-m", "ledger_watcher"],
        namespace="dbt",
        service_account_name="ledger-writer",
        env_vars=[password],
        secrets=[Secret("env", "TOKEN", "warehouse", "token")],
        config_file=config_file,
    )
    operator = made(producer, task_args={"retries": 4, "namespace": "other"})
    pod = pod_of(operator)
    (container,) = pod.spec.containers
    assert [*container.command, *container.args][:4] == ["/venv/bin/python", "-m", "ledger_watcher", "run"]
    assert (pod.metadata.namespace, pod.spec.service_account_name) == ("dbt", "ledger-writer")
    by_name = {one.name: one for one in container.env}
    assert by_name["DB_PASSWORD"].value_from.secret_key_ref.to_dict() == {"key": "password", "name": "warehouse", "optional": None}
    assert by_name["TOKEN"].value_from.secret_key_ref.name == "warehouse"
    assert (operator.retries, operator.do_xcom_push, operator.priority_weight) == (4, False, 10_000)
    assert operator.termination_grace_period == 60


def test_kubernetes_variables_may_be_a_dict(config_file: str) -> None:
    operator = made(kubernetes_producer(image="i", config_file=config_file, env_vars={"MORE": "{{ ti.try_number }}"}))
    assert {one.name: one.value for one in pod_of(operator).spec.containers[0].env} == {"GIVEN": "x", "CONF": "x", "MORE": "2"}


# The others ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_docker(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the Docker API is asked for, entry point included."""
    operator = made(docker_producer(image="dbt:1", docker_conn_id="hub", private_environment={"PASSWORD": "by hand"}), text)
    assert type(operator) is DockerOperator
    asked: dict[str, Any] = {}

    class Asked(Exception):
        pass

    def create_container(**arguments: Any) -> None:
        asked.update(arguments)
        raise Asked

    fake = SimpleNamespace(create_container=create_container, create_host_config=lambda **_: None)
    monkeypatch.setattr(DockerOperator, "cli", fake)
    with pytest.raises(Asked):
        operator._run_image_with_mounts([], add_tmp_variable=False)
    assert asked["image"] == "dbt:1"
    assert asked["environment"].pop("PASSWORD") == "by hand"
    check([*asked["entrypoint"], *asked["command"]], asked["environment"], text)
    assert "PASSWORD" not in operator.environment
    assert operator.docker_conn_id == "hub"


@pytest.mark.parametrize("text", HOSTILE)
def test_ecs(text: str) -> None:
    producer = ecs_producer(
        container_name="dbt",
        task_definition="dbt:7",
        cluster="data",
        overrides={"cpu": "1024"},
        aws_conn_id="aws_dbt",
        launch_type="FARGATE",
    )
    operator = made(producer, text)
    assert type(operator) is EcsRunTaskOperator
    assert (operator.overrides["cpu"], operator.aws_conn_id, operator.launch_type) == ("1024", "aws_dbt", "FARGATE")
    (container,) = operator.overrides["containerOverrides"]
    assert container["name"] == "dbt"
    assert container["command"][:2] == ["ledger-watcher", "run"]
    check(container["command"], {one["name"]: one["value"] for one in container["environment"]}, text)


def test_ecs_names_what_is_too_long_for_it() -> None:
    """When the task runs, since only then all of it is known; the user's own hook runs after."""
    seen: list[object] = []
    producer = ecs_producer(container_name="dbt", task_definition="dbt:7", cluster="data", pre_execute=seen.append)
    short, long = made(producer, "x" * 10), made(producer, "x" * 2000)
    short._pre_execute_hook({"task": short})
    assert seen == [{"task": short}]
    with pytest.raises(ConfigError, match=r"may have 4096: ECS takes 8192.* The longest text .* has 40\d\d"):
        long._pre_execute_hook({"task": long})
    assert len(seen) == 1


def test_ecs_a_set_of_nodes_takes_half_of_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def overrides(count: int) -> dict[str, str]:
        names = frozenset(f"model.shop.{random.getrandbits(64):x}" for _ in range(count))
        monkeypatch.setattr("ledger_watcher_airflow.producers.attempt.done_nodes", lambda *_: names)
        operator = made(ecs_producer(container_name="dbt", task_definition="dbt:7", cluster="data"))
        operator._pre_execute_hook({"task": operator})
        return options(operator.overrides["containerOverrides"][0]["command"])

    assert len(overrides(100)["--done"]) > 1000
    assert overrides(1000)["--done"] == ""


@pytest.mark.parametrize("text", HOSTILE)
def test_cloud_run(text: str) -> None:
    """As a request of the API's own types."""
    producer = cloud_run_producer(
        project_id="p", region="europe-west1", job_name="dbt", watcher=[], overrides={"task_count": 1}, gcp_conn_id="gcp_dbt"
    )
    operator = made(producer, text)
    assert type(operator) is CloudRunExecuteJobOperator
    assert (operator.job_name, operator.gcp_conn_id) == ("dbt", "gcp_dbt")
    overrides = RunJobRequest(name="projects/p/locations/l/jobs/dbt", overrides=operator.overrides).overrides
    assert overrides.task_count == 1
    (container,) = overrides.container_overrides
    assert container.args[0] == "run"
    check(list(container.args), {one.name: one.value for one in container.env}, text)


def test_ssh_asks_for_a_terminal_and_sets_no_time_limit() -> None:
    """What its command does on a host: tests/e2e/test_producers.py."""
    operator = made(ssh_producer(ssh_conn_id="far", watcher=["/venv/bin/ledger-watcher"]))
    assert type(operator) is SSHOperator
    assert (operator.ssh_conn_id, operator.get_pty, operator.cmd_timeout, operator.do_xcom_push) == ("far", True, None, False)
    assert operator.command.startswith("exec env 'GIVEN=x' 'CONF=x' '/venv/bin/ledger-watcher' 'run' ")


# What is refused, and what is stored ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: kubernetes_producer(image="i", arguments=["x"]),
        lambda: docker_producer(image="i", entrypoint=["x"]),
        lambda: ssh_producer(ssh_conn_id="far", command="x"),
        lambda: ecs_producer(container_name="c", overrides={"containerOverrides": []}),
        lambda: cloud_run_producer(overrides={"container_overrides": []}),
        lambda: kubernetes_producer(image="i", watcher=[]),
        lambda: docker_producer(image="i", watcher=[]),
    ],
)
def test_the_command_is_not_the_users_to_give(wrong: Callable[[], Producer]) -> None:
    with pytest.raises(ConfigError, match="leave it out"):
        wrong()


def test_a_stored_dag_holds_references_and_is_the_same_every_time() -> None:
    def stored() -> str:
        producer = kubernetes_producer(
            image="i", secrets=[Secret("env", "TOKEN", "warehouse", "token")], env_from=[], kubernetes_conn_id="cluster"
        )
        docker = docker_producer(image="i", private_environment={"PASSWORD": "hunter2"})
        with DAG("shop", schedule=None) as first:
            make_producer(producer, command(dbt_vars={"given": "it's"}))
        with DAG("shop2", schedule=None) as second:
            make_producer(docker, command())
        return json.dumps([DagSerialization.to_dict(first), DagSerialization.to_dict(second)])

    text = stored()
    assert text == stored()
    assert "ledger-watcher" in text
    assert "hunter2" not in text
