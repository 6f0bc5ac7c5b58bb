"""A small view of a dbt project: what of its manifest a DAG is drawn from."""

from ledger_watcher.project.graph import SourceRenderingBehavior, TaskKind, TaskSpec, TestBehavior, below_sources, build_graph
from ledger_watcher.project.manifest import load_project
from ledger_watcher.project.names import ID_LIMIT
from ledger_watcher.project.view import BUILDABLE, TESTS, WITHOUT_TASK, NodeView, ProjectView

__all__ = [
    "BUILDABLE",
    "ID_LIMIT",
    "TESTS",
    "WITHOUT_TASK",
    "NodeView",
    "ProjectView",
    "SourceRenderingBehavior",
    "TaskKind",
    "TaskSpec",
    "TestBehavior",
    "below_sources",
    "build_graph",
    "load_project",
]
