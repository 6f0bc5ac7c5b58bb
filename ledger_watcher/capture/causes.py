"""Why dbt skipped a node: the failed nodes above it.

dbt's events say that a node was skipped and which nodes made dbt mark their children; the edges between the two come from manifest.json.
That a node IS skipped is never concluded here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Parents = Callable[[], Mapping[str, Sequence[str]]]
"""unique_id -> the unique_ids it depends on; called when the first node is skipped, again as long as it returns nothing."""

_LONGEST = 50
_TESTS = ("test.", "unit_test.")


class SkipCauses:
    """Collects failures and names those that explain a skip."""

    def __init__(self, parents: Parents | None) -> None:
        self._read = parents
        self._parents: Mapping[str, Sequence[str]] = {}
        self._failed: set[str] = set()
        self._marked: set[str] = set()
        self._hooks: list[str] = []

    def failed(self, unique_id: str) -> None:
        """A node failed. It explains skips only if dbt marks nothing (1.8 does not say MarkSkippedChildren)."""
        self._failed.add(unique_id)

    def marked(self, unique_id: str) -> None:
        """dbt marked the children of a node that failed; one with ``on_error: continue`` (1.12) is never marked."""
        self._marked.add(unique_id)

    def hook_failed(self, unique_id: str) -> None:
        """An on-run-start hook failed: it explains the nodes that were never started."""
        if unique_id not in self._hooks:
            self._hooks.append(unique_id)

    def of(self, unique_id: str, *, started: bool = True) -> tuple[str, ...]:
        """The failed nodes that explain why ``unique_id`` was skipped, empty if the manifest cannot be read."""
        if not started and self._hooks:
            return tuple(self._hooks)
        causes = self._marked or self._failed
        parents = self._graph() if causes else {}
        if unique_id not in parents:
            return ()
        above = _ancestors(parents, unique_id)
        around = above | {unique_id}  # a unit test runs before its model and gates it
        found = {
            cause
            for cause in causes
            if cause in above or (cause.startswith(_TESTS) and (gate := parents.get(cause)) and around.issuperset(gate))
        }
        return tuple(sorted(found)[:_LONGEST])

    def _graph(self) -> Mapping[str, Sequence[str]]:
        if not self._parents and self._read is not None:
            self._parents = self._read()
        return self._parents


def _ancestors(parents: Mapping[str, Sequence[str]], unique_id: str) -> set[str]:
    seen: set[str] = set()
    todo = list(parents.get(unique_id, ()))
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += parents.get(node, ())
    return seen
