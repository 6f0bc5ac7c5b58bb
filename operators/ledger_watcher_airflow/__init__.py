"""Run dbt once, anywhere; show every node as an Airflow task through a ledger on shared storage.

Names are imported when they are first used: Airflow loads this package in processes that draw no dbt project.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ledger_watcher import __version__

if TYPE_CHECKING:
    from ledger_watcher.project import TestBehavior
    from ledger_watcher_airflow.assets import DbtAssetsOperator, dbt_asset
    from ledger_watcher_airflow.config import (
        AssetMode,
        ExecutionConfig,
        ExecutionMode,
        InvocationMode,
        LoadMode,
        ProducerRetryOn,
        ProfileConfig,
        ProjectConfig,
        RenderConfig,
    )
    from ledger_watcher_airflow.consumer import (
        DbtConsumerWatcherSensor,
        DbtRunWatcherOperator,
        DbtSeedWatcherOperator,
        DbtSnapshotWatcherOperator,
        DbtTestWatcherOperator,
    )
    from ledger_watcher_airflow.dag import DbtDag, DbtTaskGroup
    from ledger_watcher_airflow.flags import DbtBuild, DbtFlags
    from ledger_watcher_airflow.producer import DbtProducerWatcherOperator
    from ledger_watcher_airflow.producers import (
        DbtProducerWatcherVirtualenvOperator,
        Producer,
        ProducerCommand,
        bash_producer,
        cloud_run_producer,
        docker_producer,
        ecs_producer,
        kubernetes_producer,
        producer_command,
        ssh_producer,
    )

_HOMES = {
    "assets": ("DbtAssetsOperator", "dbt_asset"),
    "config": (
        "AssetMode",
        "ExecutionConfig",
        "ExecutionMode",
        "InvocationMode",
        "LoadMode",
        "ProducerRetryOn",
        "ProfileConfig",
        "ProjectConfig",
        "RenderConfig",
    ),
    "consumer": (
        "DbtConsumerWatcherSensor",
        "DbtRunWatcherOperator",
        "DbtSeedWatcherOperator",
        "DbtSnapshotWatcherOperator",
        "DbtTestWatcherOperator",
    ),
    "dag": ("DbtDag", "DbtTaskGroup"),
    "flags": ("DbtBuild", "DbtFlags"),
    "producer": ("DbtProducerWatcherOperator",),
    "producers": (
        "DbtProducerWatcherVirtualenvOperator",
        "Producer",
        "ProducerCommand",
        "bash_producer",
        "cloud_run_producer",
        "docker_producer",
        "ecs_producer",
        "kubernetes_producer",
        "producer_command",
        "ssh_producer",
    ),
}
_WHERE = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names} | {"TestBehavior": "ledger_watcher.project"}

__all__ = [
    "AssetMode",
    "DbtAssetsOperator",
    "DbtBuild",
    "DbtConsumerWatcherSensor",
    "DbtDag",
    "DbtFlags",
    "DbtProducerWatcherOperator",
    "DbtProducerWatcherVirtualenvOperator",
    "DbtRunWatcherOperator",
    "DbtSeedWatcherOperator",
    "DbtSnapshotWatcherOperator",
    "DbtTaskGroup",
    "DbtTestWatcherOperator",
    "ExecutionConfig",
    "ExecutionMode",
    "InvocationMode",
    "LoadMode",
    "Producer",
    "ProducerCommand",
    "ProducerRetryOn",
    "ProfileConfig",
    "ProjectConfig",
    "RenderConfig",
    "TestBehavior",
    "__version__",
    "bash_producer",
    "cloud_run_producer",
    "dbt_asset",
    "docker_producer",
    "ecs_producer",
    "kubernetes_producer",
    "producer_command",
    "ssh_producer",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module.

    :raises AttributeError: there is no such name.
    """
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
