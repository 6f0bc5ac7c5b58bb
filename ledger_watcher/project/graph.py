"""From nodes to tasks: which tasks a DAG has, which nodes each one mirrors, and what it waits for.

The edges are those of the project; tests gate what dbt gates in ``dbt build``: a test is a parent of every node that lies below
all that it is about, sources included (dbt-core, compilation.py, ``add_test_edges``). A resource without a task (a function, a node that is not
selected) is looked through: its children wait for its parents, as they do in dbt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from graphlib import CycleError, TopologicalSorter

from ledger_watcher.errors import ConfigError
from ledger_watcher.project.names import ID_LIMIT, Wanted, assign_names
from ledger_watcher.project.view import BUILDABLE, SOURCES, TESTS, NodeView, ProjectView


class TestBehavior(str, Enum):
    """Where the tests of a project show."""

    __test__ = False  # its name is the users', pytest need not collect it

    AFTER_EACH = "after_each"
    """One test task per node; a test of several nodes is a task of its own."""
    BUILD = "build"
    """A node's tests decide its own task."""
    AFTER_ALL = "after_all"
    """One task for all tests, unit tests too, which run when all else is built and keep nothing from being built."""
    NONE = "none"
    """dbt runs no tests."""


class SourceRenderingBehavior(str, Enum):
    """Which sources of a project show. If any do, ``dbt source freshness`` runs before the build."""

    NONE = "none"
    ALL = "all"
    WITH_TESTS_OR_FRESHNESS = "with_tests_or_freshness"


class TaskKind(str, Enum):
    """What a task stands for; the value is the suffix of its id."""

    RUN = "run"
    SEED = "seed"
    SNAPSHOT = "snapshot"
    SOURCE = "source"
    TEST = "test"
    SHARED_TEST = "shared_test"
    BUILD = "build"
    """A group of nodes, see :mod:`~ledger_watcher.project.coarse`."""
    EXPOSURE = "exposure"
    EMPTY = "empty"


_KIND_OF = {"model": TaskKind.RUN, "seed": TaskKind.SEED, "snapshot": TaskKind.SNAPSHOT, "source": TaskKind.SOURCE}
_ALL_TESTS = "all tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One task. ``key`` is unique in the graph, ``group`` the task group of a node with its test, ``nodes`` what the task mirrors.

    ``owner`` is the node whose tests it stands for. ``members`` are the nodes of a group, those without records too.
    """

    key: str
    group: str | None
    name: str
    kind: TaskKind
    nodes: tuple[str, ...]
    upstream: tuple[str, ...]
    owner: str | None = None
    members: tuple[str, ...] = ()

    @property
    def task_id(self) -> str:
        """The id within the group: ``run`` in the group ``customers``, else ``customers_run``."""
        suffix = (_KIND_OF[self.key.split(".", 1)[0]] if self.kind is TaskKind.EMPTY else self.kind).value
        return suffix if self.group else f"{self.name}_{suffix}"


def build_graph(
    view: ProjectView,
    behavior: TestBehavior,
    *,
    detach: bool = True,
    sources: SourceRenderingBehavior = SourceRenderingBehavior.NONE,
    reserved: Collection[str] = (),
    id_limit: int = ID_LIMIT,
) -> list[TaskSpec]:
    """The tasks of a project, in an order that depends on nothing but the project.

    :param detach: ``False``: tests of several nodes count for each of them, in a task ``shared_test`` of its group that nothing waits for. One that
        dbt lets nodes wait for keeps its own task beside.
    :param reserved: ids that the DAG needs for other tasks.
    :param id_limit: longest task id, without the groups that the caller puts around.
    :raises ConfigError: the project has a cycle, or ``id_limit`` leaves no room for names.
    """
    nodes = {node.unique_id: node for node in [*view.of_type(BUILDABLE), *_shown(view, sources)]}
    lineage = _Lineage.of(view, nodes)
    tests = _sorted_tests([] if behavior is TestBehavior.NONE else view.of_type(TESTS), nodes)
    each = behavior is TestBehavior.AFTER_EACH
    tested = tests.owned if each else {}
    if behavior is TestBehavior.AFTER_ALL:
        tests.let_go_of_gates()
    counted = {} if detach or behavior is TestBehavior.AFTER_ALL else _by_parent(tests.shared, lineage)
    wanted = _wanted(view, behavior, nodes.values(), tests, frozenset(tested) | frozenset(counted))
    names = assign_names(wanted, reserved=reserved, id_limit=id_limit)

    specs: list[TaskSpec] = []
    for uid, parents in lineage.parents.items():
        node = nodes[uid]
        own_tests = tests.owned.get(uid, []) if behavior is TestBehavior.BUILD else []
        specs.append(
            TaskSpec(
                key=uid,
                group=names[uid] if uid in tested or uid in counted else None,
                name=names[uid],
                kind=_KIND_OF[node.resource_type] if _has_records(node) or own_tests or uid in tests.gates else TaskKind.EMPTY,
                nodes=(*tests.gates.get(uid, ()), *((uid,) if _has_records(node) else ()), *own_tests),
                upstream=tuple(_after(parent) if parent in tested else parent for parent in parents),
            )
        )
        if uid in tested:
            specs.append(
                TaskSpec(
                    key=_after(uid),
                    group=names[uid],
                    name=names[uid],
                    kind=TaskKind.TEST,
                    nodes=tuple(tested[uid]),
                    upstream=(uid,),
                    owner=uid,
                )
            )
    if behavior is TestBehavior.AFTER_ALL:
        return [*specs, *_all_tests(names, specs, tests)]
    joined = _with_shared_tests(view, specs, tests.shared, lineage, names)
    return joined if not counted else _counted(joined, counted, names, lineage)


def below_sources(specs: Collection[TaskSpec]) -> frozenset[str]:
    """The keys of the tasks that may have a skipped one above them, since their sources' freshness is checked."""
    children: dict[str, list[str]] = {}
    for spec in specs:
        for parent in spec.upstream:
            children.setdefault(parent, []).append(spec.key)
    todo, found = [spec.key for spec in specs if spec.key in spec.nodes and spec.kind is TaskKind.SOURCE], set[str]()
    while todo:
        new = set(children.get(todo.pop(), ())) - found
        found |= new
        todo += new
    return frozenset(found)


def _shown(view: ProjectView, behavior: SourceRenderingBehavior) -> list[NodeView]:
    if behavior is SourceRenderingBehavior.NONE:
        return []
    tested = {parent for test in view.of_type(TESTS) for parent in test.parents}
    every = behavior is SourceRenderingBehavior.ALL
    return [source for source in view.of_type(SOURCES) if every or source.freshness or source.unique_id in tested]


def _has_records(node: NodeView) -> bool:
    return node.freshness if node.resource_type in SOURCES else not node.ephemeral


@dataclass(slots=True)
class _Tests:
    """Tests by what they do: ``owned`` and ``gates`` (unit tests) by their node, ``shared`` those of several nodes, of sources, or of a node without task."""

    owned: dict[str, list[str]] = field(default_factory=dict)
    gates: dict[str, list[str]] = field(default_factory=dict)
    shared: list[NodeView] = field(default_factory=list)

    def let_go_of_gates(self) -> None:
        """Unit tests are tests like others."""
        for uid, gates in self.gates.items():
            self.owned.setdefault(uid, []).extend(gates)
        self.gates.clear()


def _sorted_tests(tests: Iterable[NodeView], nodes: Collection[str]) -> _Tests:
    found = _Tests()
    for test in tests:
        if test.owner is None or test.owner not in nodes:
            found.shared.append(test)
            continue
        (found.gates if test.resource_type == "unit_test" else found.owned).setdefault(test.owner, []).append(test.unique_id)
    return found


def _after(unique_id: str) -> str:
    return f"tests of {unique_id}"


def _wanted(view: ProjectView, behavior: TestBehavior, nodes: Iterable[NodeView], tests: _Tests, grouped: Collection[str]) -> list[Wanted]:
    wanted = [
        Wanted(
            key=node.unique_id,
            name=node.name,
            package=node.package,
            suffix=_KIND_OF[node.resource_type].value,
            grouped=node.unique_id in grouped,
        )
        for node in nodes
    ]
    test = TaskKind.TEST.value
    if behavior is TestBehavior.AFTER_ALL:
        wanted.append(Wanted(key=_ALL_TESTS, name=view.project or "dbt", package="all", suffix=test, grouped=False))
    else:
        wanted += [Wanted(key=one.unique_id, name=one.name, package=one.package, suffix=test, grouped=False) for one in tests.shared]
    return wanted


def _all_tests(names: Mapping[str, str], specs: Iterable[TaskSpec], tests: _Tests) -> list[TaskSpec]:
    nodes = sorted([*(test for owned in tests.owned.values() for test in owned), *(test.unique_id for test in tests.shared)])
    if not nodes:
        return []
    inner = {parent for spec in specs for parent in spec.upstream}
    leaves = tuple(spec.key for spec in specs if spec.key not in inner)
    return [TaskSpec(key=_ALL_TESTS, group=None, name=names[_ALL_TESTS], kind=TaskKind.TEST, nodes=tuple(nodes), upstream=leaves)]


def _with_shared_tests(
    view: ProjectView, specs: Iterable[TaskSpec], shared: Iterable[NodeView], lineage: _Lineage, names: Mapping[str, str]
) -> list[TaskSpec]:
    """Tests of several nodes (or of sources) as tasks of their own, joined from all their parents, gating what dbt gates."""
    about = {test.unique_id: frozenset(test.parents) for test in shared}
    bit = {uid: 1 << place for place, uid in enumerate(sorted({parent for some in about.values() for parent in some}))}
    above = lineage.ancestors(view, bit)
    parents = lineage.parents
    extra: dict[str, list[str]] = {}
    tests: list[TaskSpec] = []
    for test, subjects in about.items():
        mask = sum(bit[uid] for uid in subjects)
        below = {uid for uid in parents if mask and above[uid] & mask == mask}
        for uid in below:
            if below.isdisjoint(parents[uid]):  # the others wait through this one
                extra.setdefault(uid, []).append(test)
        upstream = tuple(sorted({near for uid in subjects for near in lineage.near.get(uid, ())}))
        tests.append(TaskSpec(key=test, group=None, name=names[test], kind=TaskKind.TEST, nodes=(test,), upstream=upstream))
    return [*(replace(spec, upstream=(*spec.upstream, *extra.get(spec.key, ()))) if spec.key in extra else spec for spec in specs), *tests]


def _by_parent(shared: Iterable[NodeView], lineage: _Lineage) -> dict[str, list[NodeView]]:
    """The tests of several nodes of each node that they are about; of a resource without a task, of the nearest ones above."""
    found: dict[str, list[NodeView]] = {}
    for test in shared:
        for uid in sorted({near for parent in test.parents for near in lineage.near.get(parent, ())}):
            found.setdefault(uid, []).append(test)
    return found


def _counted(
    specs: Iterable[TaskSpec], counted: Mapping[str, list[NodeView]], names: Mapping[str, str], lineage: _Lineage
) -> list[TaskSpec]:
    """A leaf in the group of each node for its tests of several nodes, joined from all of their parents, in place of those tests' own tasks."""
    known = list(specs)
    awaited = {parent for spec in known for parent in spec.upstream}
    covered = {test.unique_id for tests in counted.values() for test in tests} - awaited
    leaves = [
        TaskSpec(
            key=f"shared tests of {uid}",
            group=names[uid],
            name=names[uid],
            kind=TaskKind.SHARED_TEST,
            nodes=tuple(test.unique_id for test in tests),
            upstream=tuple(sorted({near for test in tests for parent in test.parents for near in lineage.near.get(parent, ())})),
            owner=uid,
        )
        for uid, tests in counted.items()
    ]
    return [*(spec for spec in known if spec.key not in covered), *leaves]


@dataclass(frozen=True, slots=True)
class _Lineage:
    """``parents`` of each node with a task, in topological order; ``near`` of any resource: itself, or the nearest tasks above it."""

    parents: dict[str, list[str]]
    near: dict[str, list[str]]

    @classmethod
    def of(cls, view: ProjectView, shown: Collection[str]) -> _Lineage:
        built = {uid: node for uid, node in view.nodes.items() if node.resource_type not in TESTS}
        inner = {uid: sorted(parent for parent in node.parents if parent in built) for uid, node in built.items()}
        found = cls({}, {})
        for uid in _ordered(inner):
            parents = sorted({near for parent in inner[uid] for near in found.near[parent]})
            if uid in shown:
                found.parents[uid] = parents
            found.near[uid] = [uid] if uid in found.parents else parents
        return found

    def ancestors(self, view: ProjectView, bit: Mapping[str, int]) -> dict[str, int]:
        """The ancestors of each resource among those that have a ``bit``, as the sum of their bits."""
        above: dict[str, int] = {}
        for uid in self.near:
            above[uid] = 0
            for parent in view.nodes[uid].parents:
                above[uid] |= bit.get(parent, 0) | above.get(parent, 0)
        return above


def _ordered(parents: Mapping[str, list[str]]) -> list[str]:
    try:
        return list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        raise ConfigError(f"The manifest has a cycle: {' -> '.join(map(str, error.args[1]))}. Make it again with `dbt parse`.") from error
