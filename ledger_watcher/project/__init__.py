"""A small view of a dbt project: what of its manifest a DAG is drawn from, and which of its nodes."""

from ledger_watcher.project.cache import Cache
from ledger_watcher.project.coarse import Label, by_folder, by_tag, coarsened, folder_of
from ledger_watcher.project.ends import end_points
from ledger_watcher.project.graph import SourceRenderingBehavior, TaskKind, TaskSpec, TestBehavior, below_sources, build_graph
from ledger_watcher.project.manifest import load_listing, load_project
from ledger_watcher.project.names import ID_LIMIT
from ledger_watcher.project.place import Place
from ledger_watcher.project.plan import load_plan, pack_plan
from ledger_watcher.project.question import Question
from ledger_watcher.project.selection import Selection
from ledger_watcher.project.view import BUILDABLE, EXPOSURES, SOURCES, TESTS, WITHOUT_TASK, NodeView, ProjectView, without_unused_sources

__all__ = [
    "BUILDABLE",
    "EXPOSURES",
    "ID_LIMIT",
    "SOURCES",
    "TESTS",
    "WITHOUT_TASK",
    "Cache",
    "Label",
    "NodeView",
    "Place",
    "ProjectView",
    "Question",
    "Selection",
    "SourceRenderingBehavior",
    "TaskKind",
    "TaskSpec",
    "TestBehavior",
    "below_sources",
    "build_graph",
    "by_folder",
    "by_tag",
    "coarsened",
    "end_points",
    "folder_of",
    "load_listing",
    "load_plan",
    "load_project",
    "pack_plan",
    "without_unused_sources",
]
