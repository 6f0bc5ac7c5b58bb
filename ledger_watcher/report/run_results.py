"""dbt's run_results.json made of a run's records, for a run whose dbt wrote none (it was killed) or did not get to store it.

Schema v6 (dbt 1.7 to 1.12), which ``dbt retry`` and ``--state`` read: every node that has an end, from whichever attempt built it last,
and the newest attempt's hooks. What only dbt knows (compiled code, arguments, the compile step's times) is absent.
"""

from __future__ import annotations

from typing import Any

from ledger_watcher import codec
from ledger_watcher.capture.argv import DbtCommand
from ledger_watcher.errors import ConfigError
from ledger_watcher.records import HookFinished, NodeFinished, Outcome, utcnow
from ledger_watcher.report.export import rfc3339
from ledger_watcher.report.view import node_rows, run_seconds
from ledger_watcher.state import RunState

SCHEMA = "https://schemas.getdbt.com/dbt/run-results/v6.json"

_STATUSES = frozenset({"success", "error", "skipped", "partial success", "no-op", "pass", "fail", "warn", "runtime error"})
"""What dbt's reader accepts (RunStatus, TestStatus, FreshnessStatus); Fusion has other words."""
_STATUS_OF = {
    Outcome.SUCCESS: "success",
    Outcome.WARN: "warn",
    Outcome.FAILED: "error",
    Outcome.SKIPPED: "skipped",
    Outcome.NOOP: "no-op",
    Outcome.REUSED: "success",
    Outcome.CANCELLED: "skipped",
}


def synthesised(state: RunState) -> dict[str, Any]:
    """The content of run_results.json."""
    newest = state.attempt
    dbt = newest.dbt if newest else None
    rows = [row for row in node_rows(state) if row.finished is not None and row.resource_type != "source"]  # dbt has them in sources.json
    hooks = newest.hooks.values() if newest else ()
    return {
        "metadata": {
            "dbt_schema_version": SCHEMA,
            "dbt_version": (dbt and dbt.dbt_version) or "unknown",
            "generated_at": rfc3339(newest.last_seen if newest and newest.last_seen else utcnow()),
            "invocation_id": dbt.invocation_id if dbt else None,
            "env": {},
        },
        "results": [*(_node(row.finished, row.begun.relation if row.begun else None) for row in rows if row.finished), *map(_hook, hooks)],
        "elapsed_time": run_seconds(state) or 0.0,
        "args": _args(newest.started.command if newest and newest.started else ()),
    }


def _node(ended: NodeFinished, relation: str | None) -> dict[str, Any]:
    timed = ended.started_at is not None and ended.finished_at is not None
    timing = [{"name": "execute", "started_at": rfc3339(ended.started_at), "completed_at": rfc3339(ended.finished_at)}] if timed else []
    return {
        **_result(ended),
        "timing": timing,
        "thread_id": ended.thread or "",
        "adapter_response": codec.loads(codec.dumps(ended.adapter_response or {})),
        "failures": ended.failures,
        "relation_name": ended.relation or relation,
    }


def _hook(hook: HookFinished) -> dict[str, Any]:
    return {**_result(hook), "timing": [], "thread_id": "", "adapter_response": {}, "failures": None, "relation_name": None}


def _result(record: NodeFinished | HookFinished) -> dict[str, Any]:
    return {
        "status": record.status if record.status in _STATUSES else _STATUS_OF[record.outcome],
        "unique_id": record.unique_id,
        "execution_time": record.execution_time or 0.0,
        "message": record.message,
        "compiled": None,
        "compiled_code": None,
    }


def _args(command: tuple[str, ...]) -> dict[str, Any]:
    """``which``, without which ``dbt retry`` does not know what to repeat."""
    try:
        return {"which": DbtCommand.parse(command).subcommand}
    except ConfigError:
        return {}
