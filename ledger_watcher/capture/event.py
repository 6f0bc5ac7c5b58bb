"""A typed view of one dbt event, and the bounded log that a node's events add up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger_watcher.capture.compat import time_of
from ledger_watcher.records import Log, plain, utcnow

LOG_LINES = 200
LOG_BYTES = 64 * 1024
_EMPTY: Mapping[str, Any] = {}
_READABLE = frozenset({"info", "warn", "error"})


@dataclass(frozen=True, slots=True)
class Event:
    """``info`` and ``data`` of an event, and its ``node_info`` (empty if it has none)."""

    name: str
    info: Mapping[str, Any]
    data: Mapping[str, Any]
    node: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Event:
        """The view of a raw event.

        :raises ValueError: it is not of the shape ``{"info": {"name": ...}, "data": {...}}``.
        """
        info = raw.get("info") if isinstance(raw, Mapping) else None
        name = info.get("name") if isinstance(info, Mapping) else None
        if not isinstance(info, Mapping) or not isinstance(name, str):
            raise ValueError("it has no name")  # noqa: TRY004 - the data is wrong, not the call
        data = raw.get("data")
        data = data if isinstance(data, Mapping) else _EMPTY
        node = data.get("node_info")
        return cls(name, info, data, node if isinstance(node, Mapping) else _EMPTY)

    @property
    def ts(self) -> datetime:
        """When dbt made the event; now, if it does not say."""
        return time_of(self.info.get("ts")) or utcnow()

    @property
    def level(self) -> str | None:
        """``debug``, ``info``, ``warn`` or ``error``."""
        return text_of(self.info, "level")

    @property
    def unique_id(self) -> str:
        """The node's unique_id.

        :raises ValueError: there is none.
        """
        return said(text_of(self.node, "unique_id"), "names no node")

    @property
    def relation(self) -> str | None:
        """The node's relation, as the warehouse quotes it."""
        relation = self.node.get("node_relation")
        return text_of(relation, "relation_name") if isinstance(relation, Mapping) else None


def text_of(source: Mapping[str, Any], name: str) -> str | None:
    """A field that is a non-empty string: dbt writes ``""`` where it means nothing."""
    value = source.get(name)
    return value if isinstance(value, str) and value else None


def said(found: str | None, missing: str) -> str:
    """A text that an event must have.

    :raises ValueError: it has not: "it " and ``missing``.
    """
    if found is None:
        raise ValueError(f"it {missing}")
    return found


@dataclass(slots=True)
class NodeLog:
    """The readable lines of one node, at most :data:`LOG_LINES` and :data:`LOG_BYTES`; what is over is counted."""

    lines: list[str] = field(default_factory=list)
    size: int = 0
    dropped: int = 0

    def add(self, event: Event, message: str) -> None:
        """Add an event's message, if it is one that dbt shows by default."""
        if event.level not in _READABLE or not message:
            return
        line = f"{event.ts:%H:%M:%S}  {plain(message)}"
        size = len(line.encode("utf-8", "replace"))
        if len(self.lines) >= LOG_LINES or self.size + size > LOG_BYTES:
            self.dropped += 1
            return
        self.lines.append(line)
        self.size += size

    def take(self, unique_id: str, ts: datetime) -> list[Log]:
        """What was collected, as a record, and start anew; nothing if there is nothing."""
        if not self.lines and not self.dropped:
            return []
        record = Log(ts=ts, unique_id=unique_id, lines=tuple(self.lines), dropped=self.dropped)
        self.lines, self.size, self.dropped = [], 0, 0
        return [record]
