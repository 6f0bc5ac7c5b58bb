"""Task groups by folder: where the file of a node lies is where its task stands."""

from __future__ import annotations

import re

from airflow.sdk import TaskGroup

from ledger_watcher.project import ProjectView, TaskSpec, folder_of

_INVALID = re.compile(r"[^\w-]")  # a dot is what separates a group from its tasks


def group_in(name: str, parent: TaskGroup | None) -> TaskGroup:
    """A task group in another one, or in the one that is current."""
    return TaskGroup(name) if parent is None else TaskGroup(name, parent_group=parent)


class Folders:
    """The folders of a project as task groups, each made when the first task stands in it.

    :param home: the group that they stand in, if it is not that of the DAG itself.
    """

    def __init__(self, view: ProjectView, home: TaskGroup | None) -> None:
        self._view = view
        self._home = home
        self._groups: dict[tuple[str, ...], TaskGroup] = {}
        self._folder = {uid: tuple(_INVALID.sub("_", part) for part in folder_of(node, view.project)) for uid, node in view.nodes.items()}

    @property
    def longest(self) -> int:
        """Characters of the longest path, with its dots."""
        return max((sum(len(part) + 1 for part in folder) for folder in self._folder.values()), default=0)

    @property
    def reserved(self) -> set[str]:
        """Names that no task may have because a folder beside it has them."""
        folders = {folder[:depth] for folder in self._folder.values() for depth in range(1, len(folder) + 1)}
        inside: dict[tuple[str, ...], set[str]] = {}
        for folder in folders:
            inside.setdefault(folder[:-1], set()).add(folder[-1])
        return {
            word
            for uid, node in self._view.nodes.items()
            for word in inside.get(self._folder[uid], ())
            if word == node.name or word.startswith(f"{node.name}_")
        }

    def of(self, spec: TaskSpec) -> TaskGroup | None:
        """The group that a task stands in."""
        folder = self._folder.get(spec.key) or self._folder.get(spec.owner or "") or ()
        return self._group(folder)

    def _group(self, folder: tuple[str, ...]) -> TaskGroup | None:
        if not folder:
            return self._home
        if folder not in self._groups:
            parent = self._group(folder[:-1])
            self._groups[folder] = group_in(folder[-1], parent)
        return self._groups[folder]
