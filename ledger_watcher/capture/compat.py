"""What differs between dbt versions, adapters and engines, in one place.

Measured on dbt-core 1.8 to 1.12 and the Fusion 2.0 preview. The records speak one language; everything here turns dbt's words into it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ledger_watcher import codec
from ledger_watcher.records import Outcome

_OUTCOMES = {
    "success": Outcome.SUCCESS,
    "pass": Outcome.SUCCESS,
    "warn": Outcome.WARN,
    "error": Outcome.FAILED,
    "fail": Outcome.FAILED,
    "runtime error": Outcome.FAILED,
    "partial success": Outcome.FAILED,  # 1.9+: some batches of a microbatch model failed; dbt skips what is downstream
    "skipped": Outcome.SKIPPED,
    "no-op": Outcome.NOOP,
    "reused": Outcome.REUSED,
    "cancelled": Outcome.CANCELLED,
}

TEST_TYPES = frozenset({"test", "unit_test"})
_RAN = frozenset({"pass", "fail", "warn"})
_QUERY_IDS = ("query_id", "job_id", "sfqid", "query_execution_id", "statement_id")
_ROW_COUNTS = ("rows_inserted", "rows_updated", "rows_deleted")
_ADAPTER_RESPONSE_LIMIT = 4 * 1024

_ZONE = re.compile(r"(?:[Zz]|[+-]\d\d:?\d\d)$")
_FUSION_PREFIX = re.compile(r"^\[error\] \[[^\]\n]*\]: ")
_FUSION_TRACE = re.compile(r"\n +(?:--> |\d+: )")


def outcome_of(status: str) -> Outcome | None:
    """The common word for dbt's status, ``None`` for one that this version does not know."""
    return _OUTCOMES.get(status.lower())


def time_of(text: object) -> datetime | None:
    """An aware UTC time of dbt's; core's ``node_started_at`` has no zone and means UTC. ``None`` for an empty or odd value."""
    if not isinstance(text, str) or not text:
        return None
    try:
        # fromisoformat of Python 3.10 knows neither "Z" nor nanoseconds (Fusion has both)
        return codec.time_of(text if _ZONE.search(text) else f"{text}Z").astimezone(timezone.utc)
    except ValueError:
        return None


def number(value: object) -> float | None:
    """``value`` as a float, if it is a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def failures_of(resource_type: str | None, status: str, count: object) -> int | None:
    """The number of failing rows of a test that ran.

    Events carry 0 for every node (a protobuf default, left out altogether by some writers), and run_results.json has 0 for microbatch
    models and hooks: neither means anything.
    """
    if resource_type not in TEST_TYPES or status not in _RAN:
        return None
    return count if isinstance(count, int) and not isinstance(count, bool) else 0


def adapter_response_of(value: object) -> dict[str, Any] | None:
    """dbt's adapter_response, without SQL text (Trino's has it) and without anything huge."""
    if not isinstance(value, Mapping):
        return None
    kept = {str(key): item for key, item in value.items() if key != "query" and item is not None}
    try:
        return kept if kept and len(codec.dumps(kept)) <= _ADAPTER_RESPONSE_LIMIT else None
    except (TypeError, ValueError):
        return None


def rows_affected(response: Mapping[str, Any] | None) -> int | None:
    """Rows that the statement touched, by whichever name the adapter has for it; negative numbers (DDL on some drivers) mean unknown."""
    if not response:
        return None
    count = _count(response.get("rows_affected"))
    if count is not None:
        return count
    counts = [found for name in _ROW_COUNTS if (found := _count(response.get(name))) is not None]
    return sum(counts) if counts else None


def _count(value: object) -> int | None:
    if isinstance(value, str) and value.strip().isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != value // 1:
        return None
    return int(value)  # protobuf's Struct knows only floats


def query_id(response: Mapping[str, Any] | None) -> str | None:
    """The warehouse's id of the statement (Snowflake, Databricks, Trino: query_id; BigQuery: job_id; ...)."""
    for name in _QUERY_IDS:
        value = (response or {}).get(name)
        if isinstance(value, str | int) and value:
            return str(value)
    return None


def fusion_error(text: str) -> str:
    """The text of Fusion's ``Generic`` error event as its run_results.json has it: without the code in front and the stack behind."""
    bare = _FUSION_PREFIX.sub("", text, count=1)
    trace = _FUSION_TRACE.search(bare)
    return (bare[: trace.start()] if trace else bare).rstrip()
