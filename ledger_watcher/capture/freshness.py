"""What ``dbt source freshness`` found, and which nodes are not built because of it.

dbt has four words for a source (artifacts/schemas/freshness): ``pass``, ``warn``, ``error`` (older than ``error_after``: stale) and
``runtime error`` (nobody knows). Its events have no times; sources.json has them, and leaves out the sources with runtime errors. Fusion
says ``error`` of those, too: a source is only stale if its age is known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ledger_watcher.capture import compat
from ledger_watcher.capture.event import text_of
from ledger_watcher.capture.plan import BUILT
from ledger_watcher.errors import ConfigError
from ledger_watcher.records import STALE, NodeFinished, Outcome, bounded_message, utcnow

SOURCE = "source."
_STALE_STATUS = "error"
_NAMED = 50
_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFreshness:
    """One source: dbt's ``status`` (``pass``, ``warn``, ``error``: stale, ``runtime error``) and the age of its data.

    ``max_loaded_at`` is when the data was loaded last, ``age`` how long before the check that was, in seconds; ``None`` if dbt does not know.
    """

    unique_id: str
    status: str
    max_loaded_at: datetime | None = None
    age: float | None = None

    @property
    def stale(self) -> bool:
        """Its data is known to be older than its ``error_after``."""
        return self.status == _STALE_STATUS and self.age is not None


SkipChoice = Callable[[Sequence[SourceFreshness], frozenset[str]], Collection[str]]
"""Decides which nodes are not built: gets the sources that were checked and the nodes that would be skipped, returns those that are."""


def without_sources(unique_ids: Iterable[str]) -> frozenset[str]:
    """What of a plan dbt builds."""
    return frozenset(name for name in unique_ids if not name.startswith(SOURCE))


def source_records(
    found: Iterable[NodeFinished], sources_json: Mapping[str, Any] | None
) -> tuple[list[NodeFinished], list[SourceFreshness]]:
    """The records of the sources with their times in words, and the sources as a caller's function gets them.

    :param found: the records of the events.
    :param sources_json: the artifact, which also knows what the events did not say.
    """
    results = (sources_json or {}).get("results")
    known = {str(one.get("unique_id")): one for one in results if isinstance(one, Mapping)} if isinstance(results, list) else {}
    records = {record.unique_id: record for record in found}
    for unique_id, result in known.items():
        status = text_of(result, "status")
        if unique_id not in records and status is not None:
            outcome = compat.outcome_of(status) or Outcome.FAILED
            records[unique_id] = NodeFinished(ts=utcnow(), unique_id=unique_id, outcome=outcome, status=status, resource_type="source")
    sources = [_source(record, known.get(unique_id, {})) for unique_id, record in records.items()]
    told = [_told(records[source.unique_id], source, known.get(source.unique_id, {})) for source in sources]
    return told, sources


def _source(record: NodeFinished, result: Mapping[str, Any]) -> SourceFreshness:
    return SourceFreshness(
        unique_id=record.unique_id,
        status=record.status,
        max_loaded_at=compat.time_of(result.get("max_loaded_at")),
        age=compat.number(result.get("max_loaded_at_time_ago_in_s")),
    )


def _told(record: NodeFinished, source: SourceFreshness, result: Mapping[str, Any]) -> NodeFinished:
    message = record.message
    if source.max_loaded_at is not None and source.age is not None:
        limits = "".join(_limit(result.get("criteria"), name) for name in ("warn_after", "error_after"))
        message = f"the newest data is of {source.max_loaded_at:%Y-%m-%dT%H:%M:%SZ}, {_duration(source.age)} before the check{limits}"
    record = replace(record, message=bounded_message(message))
    return replace(record, outcome=Outcome.SKIPPED, by_choice=STALE) if source.stale else record


def _limit(criteria: object, name: str) -> str:
    limit = criteria.get(name) if isinstance(criteria, Mapping) else None
    count, period = (limit.get("count"), limit.get("period")) if isinstance(limit, Mapping) else (None, None)
    return f", {name} {count} {period}{'' if count == 1 else 's'}" if count is not None else ""


def _duration(seconds: float) -> str:
    unit = next(((length, name) for length, name in _UNITS if seconds >= 2 * length), (1.0, "s"))
    return f"{seconds / unit[0]:.1f} {unit[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """What lies below the sources that were checked: ``stale``, by node, if all of them above it are; ``broken`` if one of them is."""

    stale: Mapping[str, frozenset[str]]
    broken: Mapping[str, frozenset[str]]


def below(parents: Mapping[str, Sequence[str]], *, fresh: Collection[str], stale: Collection[str], broken: Collection[str]) -> Below:
    """The nodes that dbt builds below ``stale`` and ``broken`` sources, with these sources.

    A node with a fresh source among those above it is not below stale ones. One with none that was checked is not in question.
    """
    above: dict[str, set[str]] = {}
    children = _children(parents)
    for source in {*fresh, *stale, *broken}:
        todo, seen = [source], {source}
        while todo:
            for child in children.get(todo.pop(), ()):
                if child not in seen:
                    seen.add(child)
                    todo.append(child)
                    above.setdefault(child, set()).add(source)
    bad, old = frozenset(broken), frozenset(stale)
    built = {name: frozenset(sources) for name, sources in above.items() if name.startswith(BUILT)}
    return Below(
        stale={name: sources for name, sources in built.items() if sources <= old},
        broken={name: sources & bad for name, sources in built.items() if sources & bad},
    )


def chosen(choice: SkipChoice | None, sources: Sequence[SourceFreshness], skip: frozenset[str], known: Collection[str]) -> frozenset[str]:
    """The nodes to skip by choice.

    :param known: unique_ids of the project.
    :raises ConfigError: the caller's function returned something else.
    """
    if choice is None:
        return skip
    found = choice(sources, skip)
    odd = [name for name in found if name not in known] if isinstance(found, (set, frozenset, list, tuple)) else [found]
    if odd:
        raise ConfigError(
            f"The function that decides which nodes are skipped returned {odd[0]!r}; return a set of unique_ids of the project."
        )
    return frozenset(found)


def skipped(name: str, node: Mapping[str, Any], cause: Collection[str], *, by_choice: str | None = None) -> NodeFinished:
    """The record of a node that is not given to dbt.

    :param node: its entry in manifest.json.
    """
    config = node.get("config")
    return NodeFinished(
        ts=utcnow(),
        unique_id=name,
        outcome=Outcome.SKIPPED,
        status="skipped",
        resource_type=name.split(".", 1)[0],
        name=text_of(node, "name"),
        materialized=text_of(config, "materialized") if isinstance(config, Mapping) else None,
        skip_cause=tuple(sorted(cause)[:_NAMED]),
        by_choice=by_choice,
        source="watcher",
    )


def _children(parents: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {}
    for child, some in parents.items():
        for parent in some:
            children.setdefault(parent, []).append(child)
    return children
