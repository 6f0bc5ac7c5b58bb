"""The critical path of a run: the chain of nodes whose ends the run had to wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

Span = tuple[float, float]
"""Start and end in seconds."""


def critical_path(spans: Mapping[str, Span], parents: Mapping[str, Sequence[str]]) -> list[str]:
    """The unique_ids of the critical path, first to last; empty if nothing ran.

    It ends with the node that ended last. Before each node stands the one that it had to wait for: of those that dbt lets run before it
    and that had ended when it began, the one that ended last. dbt lets run before a node all that lies above it, the tests whose subjects
    all lie above it (dbt-core, compilation.py, ``add_test_edges``), and its unit tests. What did not run (an ephemeral model, a source) is
    looked through. What lies between the end of one and the start of the next, the node waited for a free thread, or for dbt.

    :param spans: what ran in one attempt.
    :param parents: unique_id -> ``depends_on.nodes``, from the manifest.
    """
    if not spans:
        return []
    last = max(spans, key=lambda unique_id: (spans[unique_id][1], unique_id))
    found = {last: None}
    graph = _Graph(spans, parents)
    while True:
        start = spans[last][0]
        gates = [uid for uid in graph.gates(last) if uid not in found and spans[uid][1] <= start]
        if not gates:
            return list(found)[::-1]
        last = max(gates, key=lambda unique_id: (spans[unique_id][1], unique_id))
        found[last] = None


class _Graph:
    """What dbt lets run before what, among the nodes that ran."""

    def __init__(self, spans: Mapping[str, Span], parents: Mapping[str, Sequence[str]]) -> None:
        self.spans = spans
        self.parents = parents
        self.tests: dict[str, list[str]] = {}
        for uid in spans:
            for subject in parents.get(uid, ()) if uid.startswith(("test.", "unit_test.")) else ():
                self.tests.setdefault(subject, []).append(uid)

    def gates(self, unique_id: str) -> Iterator[str]:
        """Its nearest ancestors that ran, and the tests that stand between them and it.

        A test all of whose subjects lie above one of those ancestors gates that one already.
        """
        near = self._near(unique_id)
        yield from (uid for uid in near if uid in self.spans)
        yield from (test for test in self.tests.get(unique_id, ()) if test.startswith("unit_test."))
        tests = {test for uid in near for test in self.tests.get(uid, ())} - {unique_id}
        above: set[str] | None = None
        for test in tests:
            subjects = set(self.parents[test])
            if not subjects <= near:
                above = self._ancestors(unique_id) if above is None else above
            if subjects <= (above or near):
                yield test

    def _near(self, unique_id: str) -> set[str]:
        """What lies above, up to and with the first that ran on each way."""
        return self._walk(unique_id, through=lambda uid: uid not in self.spans)

    def _ancestors(self, unique_id: str) -> set[str]:
        return self._walk(unique_id, through=lambda _: True)

    def _walk(self, unique_id: str, through: Callable[[str], bool]) -> set[str]:
        found: set[str] = set()
        todo = list(self.parents.get(unique_id, ()))
        while todo:
            uid = todo.pop()
            if uid not in found:
                found.add(uid)
                todo += self.parents.get(uid, ()) if through(uid) else ()
        return found
