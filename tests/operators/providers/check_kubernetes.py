"""The Kubernetes producer against an API server: dbt runs in a pod, which is a process here, and the ledger tells what it did.

Run by test_producer_factories.py with the Python of .venv-providers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException

from ledger_watcher.errors import Overtaken
from ledger_watcher.ledger import RunFollower, RunKey
from ledger_watcher.records import ONLY, EndedBy
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore
from ledger_watcher_airflow import DbtCall, DbtFlags, ProfileConfig, ProjectConfig, kubernetes_producer, producer_command
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.producers.command import make_producer
from tests.core.fakes import PATIENCE, FakeDbt, running
from tests.operators.commands import HOSTILE, rendered
from tests.operators.providers.kubelet import Cluster, cluster

A, B = "model.shop.a", "model.shop.b"
BUILD = f"""
for node in selected({[A, B]!r}):
    build(node, "error" if node == {B!r} and not os.path.exists("fixed") else "success")
sys.exit(0 if os.path.exists("fixed") else 1)
"""
WAITS = """
def interrupted(*_):
    sys.exit(1)
signal.signal(signal.SIGINT, interrupted)
text("it waits")
threading.Event().wait()
"""
TEXT = "".join(HOSTILE)


class Scene:
    """A producer in a cluster, a run, its ledger."""

    def __init__(self, kubernetes: Cluster, dbt: FakeDbt, ledger: Path, nodes: tuple[str, ...] = (A, B)) -> None:
        self.kubernetes = kubernetes
        self.again = lambda: Scene(kubernetes, dbt, ledger, nodes)  # in each process of Airflow the DAG file is parsed anew
        self.project = dbt.project
        self.ledger = ledger
        build = DbtCall(
            project=ProjectConfig(dbt.project, dbt_vars={"given": TEXT}, env_vars={"GIVEN": TEXT}),
            profile=ProfileConfig(profile_name="shop"),
            flags=DbtFlags(),
            excluded_types=(),
        )
        command = producer_command(build, LedgerRef(uri=str(ledger)), nodes, executable=str(dbt.path))
        watcher = [str(Path(sys.executable).with_name("ledger-watcher"))]
        producer = kubernetes_producer(image="registry.example/dbt:1", watcher=watcher, namespace="dbt", config_file=kubernetes.config())
        with DAG("shop", schedule=None) as self.dag:
            self.operator: Any = make_producer(producer, command)

    def context(self, task_id: str = "dbt_producer_watcher", tried: int = 1) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        ti = SimpleNamespace(
            dag_id="shop",
            task_id=task_id,
            run_id="one",
            map_index=-1,
            try_number=tried,
            start_date=now,
            xcom_push=lambda **_: None,
            get_task_states=lambda **_: {},
        )
        dag_run = SimpleNamespace(clear_number=0, conf={}, run_id="one", logical_date=None, start_date=now - timedelta(minutes=1))
        return {"ti": ti, "task_instance": ti, "dag_run": dag_run, "dag": self.dag, "run_id": "one", "params": {}}

    def prepared(self) -> Any:  # noqa: ANN401 - the operator
        return rendered(self.operator.prepare_for_execution(), self.context())

    def state(self) -> RunState:
        return RunFollower(LocalStore(str(self.ledger)), RunKey(dag_id="shop", run_id="one")).snapshot()


@pytest.fixture
def dbt(tmp_path: Path) -> FakeDbt:
    return FakeDbt.make(tmp_path)


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    with cluster(folder, {"FAKE_DBT": BUILD}) as found:
        yield found


@pytest.fixture
def scene(kubernetes: Cluster, dbt: FakeDbt, tmp_path: Path) -> Scene:
    return Scene(kubernetes, dbt, tmp_path / "ledger")


def test_a_pod_runs_dbt_and_its_failed_node_is_left_to_its_task(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    operator = scene.prepared()
    assert type(operator) is KubernetesPodOperator
    operator.execute(scene.context())
    state = scene.state()
    assert {name: node.status for name, node in state.nodes.items()} == {A: "success", B: "failed"}
    assert state.ended
    (pod,) = scene.kubernetes.created
    assert pod.process.returncode == 0
    (variables,) = [word for word in pod.process.args if word.startswith("--vars=")]
    assert json.loads(variables.removeprefix("--vars=")) == {"given": TEXT}
    assert scene.kubernetes.pods == {}
    assert "dbt ran to its end with 1 failed nodes" in capfd.readouterr().out


def test_a_pod_whose_failure_no_task_shows_fails_the_operator(kubernetes: Cluster, dbt: FakeDbt, tmp_path: Path) -> None:
    scene = Scene(kubernetes, dbt, tmp_path / "ledger", nodes=(A,))
    with pytest.raises(AirflowException, match="returned a failure"):
        scene.prepared().execute(scene.context())
    assert scene.kubernetes.created[0].process.returncode == 1


def test_a_node_is_recovered_in_a_pod_of_its_task(scene: Scene) -> None:
    """And who looked before that is told that he was overtaken."""
    scene.prepared().execute(scene.context())
    (scene.project / "fixed").touch()
    scene.again().operator.recover(scene.context("b_run", 2), only=frozenset({B}), after=1)
    state = scene.state()
    assert {name: (node.epoch, node.status) for name, node in state.nodes.items()} == {A: (1, "success"), B: (2, "success")}
    started = state.attempts[2].started
    assert started is not None
    assert (started.scope, started.task_id) == (ONLY, "b_run")
    assert scene.kubernetes.created[1].manifest["metadata"]["labels"]["task_id"] == "b_run"
    with pytest.raises(Overtaken):
        scene.again().operator.recover(scene.context("a_run", 2), only=frozenset({A}), after=1)
    assert [pod.process.returncode for pod in scene.kubernetes.created] == [0, 0, 3]


def test_a_killed_task_deletes_its_pod_and_the_ledger_gets_its_end(scene: Scene) -> None:
    scene.kubernetes.image_env["FAKE_DBT"] = WAITS
    operator = scene.prepared()
    errors: list[BaseException] = []

    def execute() -> None:
        try:
            operator.execute(scene.context())
        except BaseException as error:  # noqa: BLE001 - whatever it ends with
            errors.append(error)

    with running(execute):
        pod = scene.kubernetes.news.get(timeout=PATIENCE)
        assert any(b"it waits" in line for line in pod.lines(follow=True))
        operator.on_kill()
        pod.process.wait(PATIENCE)
    assert len(errors) == 1
    attempt = scene.state().attempts[1]
    assert attempt.finished is not None
    assert attempt.finished.ended_by is EndedBy.SIGNAL
