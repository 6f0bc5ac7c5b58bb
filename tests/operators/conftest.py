"""An Airflow home of its own, before anything imports Airflow; and a project to draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger_watcher.project.cache import CACHE_ENV
from tests.airflow_home import own_airflow_home
from tests.projects import node, write_project

if TYPE_CHECKING:
    from ledger_watcher_airflow import DbtDag

own_airflow_home()

LEDGER = "s3://company-data-platform/ledgers/prod"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees another's projects, none sees the user's configuration of a ledger."""
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    monkeypatch.delenv("AIRFLOW__LEDGER_WATCHER__URI", raising=False)
    monkeypatch.delenv("AIRFLOW__LEDGER_WATCHER__DEPLOYMENT", raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A seed, a tested model, one above it, an ephemeral one, a snapshot, a test of two models, a unit test."""
    return write_project(
        tmp_path / "shop",
        node("seed.shop.raw"),
        node("model.shop.orders", "seed.shop.raw"),
        node("model.shop.eph", "model.shop.orders", materialized="ephemeral"),
        node("model.shop.sales", "model.shop.eph"),
        node("snapshot.shop.history", "model.shop.orders"),
        node("test.shop.unique_orders.aaaaaaaaaa", "model.shop.orders"),
        node("test.shop.not_null_orders.bbbbbbbbbb", "model.shop.orders"),
        node("test.shop.add_up", "model.shop.orders", "model.shop.sales"),
        node("unit_test.shop.sales.rounds", "model.shop.sales"),
    )


@pytest.fixture
def configs(project: Path) -> dict[str, Any]:
    """The three configurations that every DAG needs."""
    from ledger_watcher_airflow import ExecutionConfig, ProfileConfig, ProjectConfig

    return {
        "project_config": ProjectConfig(dbt_project_path=project),
        "profile_config": ProfileConfig(profile_name="shop"),
        "execution_config": ExecutionConfig(ledger_uri=LEDGER),
    }


@pytest.fixture
def make_dag(configs: dict[str, Any]) -> Callable[..., DbtDag]:
    """A DbtDag of the project, with whatever a test changes."""
    from ledger_watcher_airflow import DbtDag

    def make(**more: Any) -> DbtDag:
        return DbtDag(more.pop("dag_id", "shop"), **{**configs, **more})

    return make
