"""The critical path of a run: the chain of nodes whose ends the run had to wait for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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
    found = [max(spans, key=lambda unique_id: (spans[unique_id][1], unique_id))]
    tests = {uid: tuple(parents.get(uid, ())) for uid in spans if uid.startswith(("test.", "unit_test."))}
    while True:
        newest = found[-1]
        start = spans[newest][0]
        gates = [uid for uid in _gates(newest, parents, tests) if uid in spans and uid not in found and spans[uid][1] <= start]
        if not gates:
            return found[::-1]
        found.append(max(gates, key=lambda unique_id: (spans[unique_id][1], unique_id)))


def _gates(unique_id: str, parents: Mapping[str, Sequence[str]], tests: Mapping[str, Sequence[str]]) -> Iterator[str]:
    above = _ancestors(unique_id, parents)
    yield from above
    for test, subjects in tests.items():
        if test == unique_id or not subjects:
            continue
        if (subjects[0] == unique_id and test.startswith("unit_test.")) or above.issuperset(subjects):
            yield test


def _ancestors(unique_id: str, parents: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    todo = list(parents.get(unique_id, ()))
    while todo:
        parent = todo.pop()
        if parent not in found:
            found.add(parent)
            todo += parents.get(parent, ())
    return found
