"""Configuration, in the classes and under the names that users of astronomer-cosmos know. Checked when a DAG file is parsed."""

from ledger_watcher_airflow.config.execution import ExecutionConfig
from ledger_watcher_airflow.config.modes import AssetMode, ExecutionMode, InvocationMode, LoadMode, ProducerRetryOn, TestIndirectSelection
from ledger_watcher_airflow.config.project import ProfileConfig, ProjectConfig
from ledger_watcher_airflow.config.render import RenderConfig

__all__ = [
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
]
