"""A figure, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. ``most`` is the target: the figure may not be above it. ``must``: above it, the benchmark has failed."""

    what: str
    value: float
    unit: str
    most: float | None = None
    must: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; ``None`` without one."""
        return None if self.most is None else self.value <= self.most

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "met": self.met}


def markdown(title: str, rows: Sequence[Row]) -> str:
    """A table for a page or a terminal."""
    lines = [f"### {title}", "", "| | figure | unit | target |", "|---|---:|---|---|"]
    for row in rows:
        target = "" if row.most is None else f"at most {_number(row.most)}: {'met' if row.met else '**missed**'}"
        lines.append(f"| {row.what} | {_number(row.value)} | {row.unit} | {target} |")
    return "\n".join([*lines, ""])


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all are not above."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _number(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - digits enough
