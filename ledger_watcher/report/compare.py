"""Two runs, node by node: what changed between them."""

from __future__ import annotations

from dataclasses import dataclass

from ledger_watcher.report.view import NodeRow, node_rows
from ledger_watcher.state import RunState

SAME = "same"
NEW = "new"
REMOVED = "removed"
STATUS = "status"


@dataclass(frozen=True, slots=True)
class Change:
    """One node in the first and in the second run; it is absent where it was neither planned nor seen."""

    unique_id: str
    before: NodeRow | None
    after: NodeRow | None

    @property
    def row(self) -> NodeRow:
        """The newer of the two rows, for what names the node."""
        row = self.after or self.before
        assert row is not None  # noqa: S101 - a change has one side at least
        return row

    @property
    def kind(self) -> str:
        """new, removed, status (another state than before), or same, whatever the seconds."""
        if self.before is None:
            return NEW
        if self.after is None:
            return REMOVED
        return SAME if self.before.state == self.after.state else STATUS

    @property
    def seconds(self) -> tuple[float | None, float | None]:
        """How long it took, before and after, by dbt's clock."""
        return (self.before.seconds() if self.before else None), (self.after.seconds() if self.after else None)

    @property
    def slower(self) -> float | None:
        """Seconds more than before; negative if it got faster, ``None`` if one of the two is not known."""
        before, after = self.seconds
        return None if before is None or after is None else after - before

    def number(self, name: str) -> tuple[int | None, int | None]:
        """``rows_affected`` or ``failures``, before and after."""
        return _number(self.before, name), _number(self.after, name)


def changes(before: RunState, after: RunState) -> list[Change]:
    """Every node of either run: those that got slower first, by how much; those that cannot be compared last, the longest first."""
    old = {row.unique_id: row for row in node_rows(before)}
    new = {row.unique_id: row for row in node_rows(after)}
    found = [Change(unique_id, old.get(unique_id), new.get(unique_id)) for unique_id in dict.fromkeys((*new, *old))]
    return sorted(found, key=_rank)


def total_seconds(found: list[Change]) -> tuple[float, float]:
    """The seconds of all nodes of either run added up, whatever ran beside what."""
    return sum(change.seconds[0] or 0.0 for change in found), sum(change.seconds[1] or 0.0 for change in found)


def _rank(change: Change) -> tuple[bool, float, str]:
    slower = change.slower
    weight = slower if slower is not None else max(change.seconds[0] or 0.0, change.seconds[1] or 0.0)
    return slower is None, -weight, change.unique_id


def _number(row: NodeRow | None, name: str) -> int | None:
    value: int | None = getattr(row.finished, name) if row and row.finished else None
    return value
