"""Coarse graphs: one task for a group of nodes, for projects that are too big for a task each.

A model, seed or snapshot belongs, with its own tests, to the group that its label names. Two groups may need each other (a node in A, one below it in
B, one below that in A again), which Airflow's tasks cannot: then the group shows in parts, ``A`` and ``A_2``, as few as it takes to go through the
project from above. A test of several nodes belongs to the lowest of their groups.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TypeAlias

from ledger_watcher.project.graph import TaskKind, TaskSpec
from ledger_watcher.project.names import ID_LIMIT, Wanted, assign_names
from ledger_watcher.project.view import BUILDABLE, NodeView, ProjectView

Label: TypeAlias = Callable[[NodeView], str | None]
"""The group of a node; ``None``: it has a task of its own."""

UNTAGGED = "untagged"


def folder_of(node: NodeView, project: str) -> tuple[str, ...]:
    """The folders that a node's file lies in, from the project's own: ``models``, ``marts``; those of a package stand below its name."""
    parts = PurePosixPath(node.path.replace("\\", "/")).parent.parts if node.path else ()
    return parts if node.package in ("", project) else (node.package, *parts)


def by_folder(view: ProjectView) -> Label:
    """Nodes of one folder belong together."""
    return lambda node: "/".join(folder_of(node, view.project)) or view.project or "dbt"


def by_tag(node: NodeView) -> str:
    """Nodes whose first tag (by the alphabet) is the same belong together, and so do those without a tag."""
    return min(node.tags, default=UNTAGGED)


def coarsened(
    specs: Sequence[TaskSpec], view: ProjectView, label: Label, *, reserved: Collection[str] = (), id_limit: int = ID_LIMIT
) -> list[TaskSpec]:
    """One task for each group of nodes, in place of the tasks of its nodes and of their tests; all others stay.

    :param specs: of :func:`~ledger_watcher.project.graph.build_graph`, parents before their children; tests of several nodes have tasks of their own.
    :raises ConfigError: ``id_limit`` leaves no room for names.
    """
    known = {spec.key: spec for spec in specs}
    parts = _Parts()
    for spec in specs:
        if spec.owner is None and spec.kind not in _TESTS:
            node = view.nodes[spec.key]
            name = label(node) if node.resource_type in BUILDABLE else None
            above = {_subject(known[parent]) for parent in spec.upstream if known[parent].owner or known[parent].kind not in _TESTS}
            parts.place(spec.key, name, above)
    for spec in specs:
        if spec.owner is not None:
            parts.join(spec.key, spec.owner)
        elif spec.kind in _TESTS:
            subjects = {_subject(known[parent]) for parent in spec.upstream}
            parts.settle(spec.key, subjects if spec.key in view.nodes else set())
    names = _names(parts, specs, reserved, id_limit)
    return [*_groups(parts, known, names), *_others(parts, specs)]


_TESTS = (TaskKind.TEST, TaskKind.SHARED_TEST)


def _subject(spec: TaskSpec) -> str:
    return spec.owner or spec.key


@dataclass(slots=True)
class _Part:
    """One task to be: a part of a group, or (without a label) the task of a single node. ``above`` are the bits of all parts above it."""

    label: str | None
    number: int
    above: int = 0
    keys: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Parts:
    """The parts, and where each task of the finer graph went; there is never a way from a part back to itself."""

    parts: list[_Part] = field(default_factory=list)
    home: dict[str, int] = field(default_factory=dict)
    _of_label: dict[str, list[int]] = field(default_factory=dict)

    def place(self, key: str, label: str | None, above: Iterable[str]) -> None:
        """Put a node into the first part of its group that is above none of its parents, or into a new one."""
        parents = {self.home[one] for one in above}
        same = self._of_label.setdefault(label, []) if label is not None else []
        place = next((part for part in same if not self._is_above_any(part, parents)), None)
        if place is None:
            place = len(self.parts)
            self.parts.append(_Part(label, len(same) + 1))
            same.append(place)
        self._put(key, place, parents)

    def settle(self, key: str, subjects: Iterable[str]) -> None:
        """Put a test of several nodes into the lowest of their groups; into a part of its own if these are no groups."""
        parents = {self.home[one] for one in subjects}
        lowest = next((part for part in sorted(parents) if not self._is_above_any(part, parents)), None)
        if lowest is None or self.parts[lowest].label is None:
            self.place(key, None, subjects)
        else:
            self._put(key, lowest, parents)

    def join(self, key: str, other: str) -> None:
        """Put a task to another one."""
        self._put(key, self.home[other], set())

    def _put(self, key: str, place: int, parents: set[int]) -> None:
        self.home[key] = place
        self.parts[place].keys.append(key)
        new = 0
        for parent in parents - {place}:
            new |= self.parts[parent].above | 1 << parent
        if new & ~self.parts[place].above:
            for number, part in enumerate(self.parts):
                if number == place or part.above >> place & 1:
                    part.above |= new

    def _is_above_any(self, place: int, others: set[int]) -> bool:
        return any(self.parts[other].above >> place & 1 for other in others)


def _key(part: _Part) -> str:
    return f"group {part.label} {part.number}"


def _names(parts: _Parts, specs: Iterable[TaskSpec], reserved: Collection[str], id_limit: int) -> dict[str, str]:
    wanted = []
    for part in parts.parts:
        if part.label is not None:
            name = part.label.replace("/", "_").replace(".", "_") + (f"_{part.number}" if part.number > 1 else "")
            wanted.append(Wanted(key=_key(part), name=name, package="group", suffix=TaskKind.BUILD.value, grouped=False))
    kept = {spec.group or spec.task_id for spec in specs if parts.parts[parts.home[spec.key]].label is None}
    return assign_names(wanted, reserved={*reserved, *kept}, id_limit=id_limit)


def _groups(parts: _Parts, known: dict[str, TaskSpec], names: dict[str, str]) -> list[TaskSpec]:
    return [
        TaskSpec(
            key=_key(part),
            group=None,
            name=names[_key(part)],
            kind=TaskKind.BUILD,
            nodes=tuple(dict.fromkeys(uid for key in part.keys for uid in known[key].nodes)),
            upstream=_upstream(parts, (known[key] for key in part.keys), number),
            members=tuple(key for key in part.keys if known[key].owner is None and known[key].kind not in _TESTS),
        )
        for number, part in enumerate(parts.parts)
        if part.label is not None
    ]


def _others(parts: _Parts, specs: Iterable[TaskSpec]) -> list[TaskSpec]:
    return [replace(spec, upstream=_upstream(parts, [spec])) for spec in specs if parts.parts[parts.home[spec.key]].label is None]


def _upstream(parts: _Parts, specs: Iterable[TaskSpec], own: int | None = None) -> tuple[str, ...]:
    found: set[str] = set()
    for parent in {parent for spec in specs for parent in spec.upstream}:
        place = parts.home[parent]
        if place != own:
            found.add(parent if parts.parts[place].label is None else _key(parts.parts[place]))
    return tuple(sorted(found))
