"""From the graph of a project to Airflow's tasks: where each stands, what it is called, what is said of it, and who makes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.sdk import DAG, BaseOperator, TaskGroup

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import (
    BUILDABLE,
    ID_LIMIT,
    NodeView,
    ProjectView,
    TaskKind,
    TaskSpec,
    build_graph,
    by_folder,
    by_tag,
    coarsened,
    end_points,
    without_unused_sources,
)
from ledger_watcher_airflow.assets import asset_task_ids, dbt_asset
from ledger_watcher_airflow.config import AssetMode, ProjectConfig, RenderConfig
from ledger_watcher_airflow.descriptions import documents
from ledger_watcher_airflow.edges import put_behind
from ledger_watcher_airflow.folders import Folders, group_in
from ledger_watcher_airflow.ledger import PRODUCER_TASK_ID
from ledger_watcher_airflow.nodes import DbtNode, DbtResourceType
from ledger_watcher_airflow.overrides import node_arguments

if TYPE_CHECKING:
    from ledger_watcher_airflow.local.render import LocalTasks
    from ledger_watcher_airflow.watched import WatchedTasks

    Tasks: TypeAlias = LocalTasks | WatchedTasks

Drawn: TypeAlias = BaseOperator | TaskGroup
_TESTS = (TaskKind.TEST, TaskKind.SHARED_TEST)
_ID = re.compile(r"[\w.-]+")
_TAG_LIMIT = 100  # airflow/sdk/definitions/dag.py, TAG_MAX_LEN


@dataclass(kw_only=True)
class Drawing:
    """One project in one DAG or task group.

    :param home: the task group, if it is one.
    :param more: what converters are told besides, see :func:`convert`.
    """

    view: ProjectView
    project: ProjectConfig
    config: RenderConfig
    dag: DAG
    home: TaskGroup | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.config.source_pruning:
            self.view = without_unused_sources(self.view)
        self._folders = Folders(self.view, self.home) if self.config.group_nodes_by_folder else None
        self._renames = self.config.normalize_task_id is not None or self.config.normalize_task_display_name is not None
        owned: dict[str, list[str]] = {}
        for uid, node in self.view.nodes.items():
            if node.owner is not None:
                owned.setdefault(node.owner, []).append(uid)
        self._owned = owned

    def graph(self) -> list[TaskSpec]:
        """The tasks that there are to be, and their edges.

        :raises ConfigError: the project cannot be drawn so.
        """
        config, home = self.config, (self.home.group_id if self.home is not None else None) or ""
        limit = ID_LIMIT - (len(home) + 1 if home else 0) - (self._folders.longest if self._folders else 0)
        reserved = {PRODUCER_TASK_ID, *asset_task_ids(len(self.view.nodes)), *(self._folders.reserved if self._folders else ())}
        graph = build_graph(
            self.view,
            config.test_behavior,
            detach=config.should_detach_multiple_parents_tests,
            sources=config.source_rendering_behavior,
            reserved=reserved,
            id_limit=limit,
        )
        if config.coarse:
            graph = coarsened(graph, self.view, self._label, reserved=reserved, id_limit=limit)
        if config.exposures or DbtResourceType.EXPOSURE in (config.node_converters or {}):
            graph += end_points(self.view, graph, reserved=reserved, id_limit=limit)
        return graph

    def draw(self, graph: Sequence[TaskSpec], tasks: Tasks) -> list[BaseOperator]:
        """Create the tasks and their edges; :attr:`tasks_map` has them by node then."""
        documented = {uid: node for uid, node in self.view.nodes.items() if node.resource_type in BUILDABLE}
        self._documents = documents([] if self.config.coarse else documented.values(), self.config.docs)
        self._ids: dict[str, str] = {}
        self._groups: dict[str, TaskGroup] = {}
        drawn = {spec.key: self._task(spec, tasks) for spec in graph}
        behind = {spec.key: spec.upstream for spec in graph}
        for spec in graph:
            if (task := drawn[spec.key]) is not None:
                put_behind(task, _nearest(spec.upstream, behind, drawn))
        self.tasks_map: dict[str, Drawn] = {}
        for spec in graph:
            shown = self._groups.get(spec.key) or drawn[spec.key]
            if shown is not None and spec.kind not in _TESTS:
                self.tasks_map |= dict.fromkeys(spec.members or (spec.key,), shown)
        if self.config.enable_tag_inheritance:
            self.dag.tags |= self._tags()
        return [one for task in drawn.values() if task is not None for one in ([task] if isinstance(task, BaseOperator) else task)]

    # One task --------------------------------------------------------------------------------------------------------

    def _task(self, spec: TaskSpec, tasks: Tasks) -> Drawn | None:
        folder = self._folders.of(spec) if self._folders else self.home
        arguments = {**({"task_group": self._group_of(spec, folder)} if spec.group or folder is not None else {}), **self._arguments(spec)}
        converter = (self.config.node_converters or {}).get(_type_of(spec, self.view))

        def make_task(**changed: Any) -> BaseOperator:
            return tasks.task(spec, **{**arguments, **changed})

        if converter is None or spec.kind is TaskKind.BUILD:
            return make_task()
        node = self.view.nodes.get(spec.key) or self.view.nodes.get(spec.owner or "")
        told = {
            **self.more,
            "dag": self.dag,
            "task_group": arguments.get("task_group"),
            "node": self._node(node) if node is not None else None,
            "task_id": arguments.get("task_id", spec.task_id),
            "make_task": make_task,
        }
        return convert(converter, told)

    def _group_of(self, spec: TaskSpec, folder: TaskGroup | None) -> TaskGroup | None:
        """The group of a node with its test, or else the folder."""
        if not spec.group:
            return folder
        key = spec.owner or spec.key
        if key not in self._groups:
            self._groups[key] = group_in(spec.group, folder)
        if spec.owner is None:
            self._groups[spec.key] = self._groups[key]
        return self._groups[key]

    def _arguments(self, spec: TaskSpec) -> dict[str, Any]:
        """What is said of this task alone: by the project, under what the node's ``meta`` says."""
        node, own = self.view.nodes.get(spec.key), self.view.nodes.get(spec.owner or spec.key)
        found: dict[str, Any] = {}
        if own is not None and own.team and self.config.enable_owner_inheritance:
            found["owner"] = own.team
        if spec.key in self._documents:
            found["doc_md"] = self._documents[spec.key]
        if self._renames and node is not None and spec.group is None and spec.kind not in _TESTS:
            found |= self._names(spec, node)
        found |= node_arguments(spec, self.view.nodes)
        outlets = self.config.asset_mode is AssetMode.PER_NODE and spec.kind is not TaskKind.EMPTY
        if outlets and node is not None and node.relation:
            found["asset"] = dbt_asset(node.relation)
        return found

    def _names(self, spec: TaskSpec, view: NodeView) -> dict[str, Any]:
        """Id and display name as users' functions have them."""
        config, node, found = self.config, self._node(view), {}
        if config.normalize_task_id is not None:
            name = config.normalize_task_id(node)
            if not isinstance(name, str) or not _ID.fullmatch(name) or len(name) > ID_LIMIT:
                raise ConfigError(
                    f"RenderConfig(normalize_task_id=...) made {name!r} of {view.unique_id}; an id has letters, digits, '_', '-' and '.', at most "
                    f"{ID_LIMIT}."
                )
            other = self._ids.setdefault(f"{self._folders.of(spec) if self._folders else ''} {name}", view.unique_id)
            if other != view.unique_id:
                raise ConfigError(
                    f"RenderConfig(normalize_task_id=...) made {name!r} of both {other} and {view.unique_id}; make ids that differ, for example of "
                    "node.unique_id."
                )
            found = {"task_id": name, "task_display_name": spec.task_id}
        if config.normalize_task_display_name is not None:
            found["task_display_name"] = str(config.normalize_task_display_name(node))
        return found

    # Helpers ---------------------------------------------------------------------------------------------------------

    def _node(self, view: NodeView) -> DbtNode:
        return DbtNode(view=view, project_dir=self.project.project_dir, tests=tuple(self._owned.get(view.unique_id, ())))

    def _label(self, view: NodeView) -> str | None:
        if not callable(self.config.granularity):
            return by_tag(view) if self.config.granularity == "tag" else by_folder(self.view)(view)
        word = self.config.granularity(self._node(view))
        if word is not None and (not isinstance(word, str) or not word.strip()):
            raise ConfigError(
                f"RenderConfig(granularity=...) made {word!r} of {view.unique_id}; return the name of a group, or None for a task of its own."
            )
        return word

    def _tags(self) -> set[str]:
        tags = {tag for node in self.view.of_type(BUILDABLE) for tag in node.tags}
        odd = sorted(tag for tag in tags if len(tag) > _TAG_LIMIT)
        if odd:
            raise ConfigError(
                f"The dbt tag {odd[0]!r} has more than the {_TAG_LIMIT} characters of a DAG's tag: shorten it, or leave out "
                "RenderConfig(enable_tag_inheritance=True)."
            )
        return tags


def convert(converter: Callable[..., Any], told: Mapping[str, Any]) -> Drawn | None:
    """The task that a user's function makes of a node, or ``None``: it has none, and what is below waits for what is above.

    It is called with those of these keywords that it takes: ``node`` (a :class:`~ledger_watcher_airflow.nodes.DbtNode`), ``dag``, ``task_group`` and
    ``task_id``, which its operator is to have; ``make_task(**arguments)``, which makes the task that there would have been without it;
    ``task_args`` for operators that run dbt (:mod:`ledger_watcher_airflow.local`); ``dbt_project_name``, ``execution_mode``,
    ``test_behavior``, ``on_warning_callback`` and the settings of :class:`RenderConfig` by their names, as in astronomer-cosmos. A node that has
    another task than ``make_task``'s is built by dbt all the same; if it fails, the producer does.

    :raises ConfigError: it made something else.
    """
    takes = inspect.signature(converter).parameters
    everything = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes.values())
    made = converter(**{name: value for name, value in told.items() if everything or name in takes})
    if made is not None and not isinstance(made, (BaseOperator, TaskGroup)):
        raise ConfigError(
            f"The converter {getattr(converter, '__name__', converter)} returned {made!r} for the task {told['task_id']!r}; return an operator, or None "
            "for no task."
        )
    return made


def _type_of(spec: TaskSpec, view: ProjectView) -> DbtResourceType:
    node = view.nodes.get(spec.key)
    return DbtResourceType.TEST if spec.kind in _TESTS or node is None else DbtResourceType(node.resource_type)


def _nearest(parents: Sequence[str], behind: Mapping[str, Sequence[str]], drawn: Mapping[str, Drawn | None]) -> list[Drawn]:
    """The tasks of these keys, or of the nearest above them that have one."""
    found: dict[str, Drawn] = {}
    left, seen = list(parents), set[str]()
    while left:
        key = left.pop(0)
        task = drawn[key]
        if task is not None:
            found[key] = task
        elif key not in seen:
            left += behind[key]
        seen.add(key)
    return list(found.values())
