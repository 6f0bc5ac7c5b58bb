"""Exposures as end points of a graph: what uses the project, behind the last task of what it uses."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ledger_watcher.project.graph import TaskKind, TaskSpec
from ledger_watcher.project.names import ID_LIMIT, Wanted, assign_names
from ledger_watcher.project.view import EXPOSURES, ProjectView


def end_points(view: ProjectView, specs: Sequence[TaskSpec], *, reserved: Collection[str] = (), id_limit: int = ID_LIMIT) -> list[TaskSpec]:
    """A task for each exposure, which waits for its nodes and for their tests; the ids of the other tasks stay what they are.

    :param specs: the other tasks, one for each node or coarser.
    :raises ConfigError: ``id_limit`` leaves no room for names.
    """
    exposures = view.of_type(EXPOSURES)
    suffix = TaskKind.EXPOSURE.value
    wanted = [Wanted(key=one.unique_id, name=one.name, package=one.package, suffix=suffix, grouped=False) for one in exposures]
    taken = {spec.group or spec.task_id for spec in specs}
    names = assign_names(wanted, reserved={*reserved, *taken}, id_limit=id_limit)
    last = {uid: spec.key for spec in specs for uid in spec.members or (spec.key,)}
    last |= {spec.owner: spec.key for spec in specs if spec.owner and spec.kind is TaskKind.TEST}
    return [
        TaskSpec(
            key=one.unique_id,
            group=None,
            name=names[one.unique_id],
            kind=TaskKind.EXPOSURE,
            nodes=(),
            upstream=_behind(one.parents, view, last),
        )
        for one in exposures
    ]


def _behind(parents: Collection[str], view: ProjectView, last: dict[str, str]) -> tuple[str, ...]:
    """The tasks of these nodes, or of the nearest above them that have one."""
    found, left, seen = set[str](), list(parents), set[str]()
    while left:
        uid = left.pop()
        if uid in last:
            found.add(last[uid])
        elif uid in view.nodes and uid not in seen:
            left += view.nodes[uid].parents
        seen.add(uid)
    return tuple(sorted(found))
