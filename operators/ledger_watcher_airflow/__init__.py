"""Run dbt once, anywhere; show every node as an Airflow task through a ledger on shared storage.

Names are imported when they are first used: Airflow loads this package in processes that draw no dbt project.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ledger_watcher import __version__

if TYPE_CHECKING:
    from ledger_watcher.capture.freshness import SourceFreshness
    from ledger_watcher.project import SourceRenderingBehavior, TestBehavior
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
        TestIndirectSelection,
    )
    from ledger_watcher_airflow.consumer import (
        DbtBuildWatcherOperator,
        DbtConsumerWatcherSensor,
        DbtRunWatcherOperator,
        DbtSeedWatcherOperator,
        DbtSnapshotWatcherOperator,
        DbtSourceWatcherOperator,
        DbtTestWatcherOperator,
    )
    from ledger_watcher_airflow.dag import DbtDag, DbtTaskGroup
    from ledger_watcher_airflow.flags import DbtCall, DbtFlags
    from ledger_watcher_airflow.local import *  # noqa: F403 - its stub says which
    from ledger_watcher_airflow.nodes import DbtNode, DbtResourceType
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
        "TestIndirectSelection",
    ),
    "consumer": (
        "DbtBuildWatcherOperator",
        "DbtConsumerWatcherSensor",
        "DbtRunWatcherOperator",
        "DbtSeedWatcherOperator",
        "DbtSnapshotWatcherOperator",
        "DbtSourceWatcherOperator",
        "DbtTestWatcherOperator",
    ),
    "dag": ("DbtDag", "DbtTaskGroup"),
    "flags": ("DbtCall", "DbtFlags"),
    "nodes": ("DbtNode", "DbtResourceType"),
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
_WHERE = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names} | {
    "NodeTrigger": f"{__name__}.trigger",  # not for users: so Airflow's database names it
    "SourceFreshness": "ledger_watcher.capture.freshness",
    "SourceRenderingBehavior": "ledger_watcher.project",
    "TestBehavior": "ledger_watcher.project",
}

__all__ = [
    "AssetMode",
    "DbtAssetsOperator",
    "DbtBuildWatcherOperator",
    "DbtCall",
    "DbtConsumerWatcherSensor",
    "DbtDag",
    "DbtFlags",
    "DbtNode",
    "DbtProducerWatcherOperator",
    "DbtProducerWatcherVirtualenvOperator",
    "DbtResourceType",
    "DbtRunWatcherOperator",
    "DbtSeedWatcherOperator",
    "DbtSnapshotWatcherOperator",
    "DbtSourceWatcherOperator",
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
    "SourceFreshness",
    "SourceRenderingBehavior",
    "TestBehavior",
    "TestIndirectSelection",
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
    """Import a public name from its module: those above, and the operators of :mod:`ledger_watcher_airflow.local`.

    :raises AttributeError: there is no such name.
    """
    home = _WHERE.get(name) or (f"{__name__}.local" if name.startswith("Dbt") and name.endswith("Operator") else "")
    found = getattr(importlib.import_module(home), name, None) if home else None
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
