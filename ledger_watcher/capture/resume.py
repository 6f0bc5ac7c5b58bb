"""What an attempt has left to build, from the ledger alone, and how dbt is told.

dbt's own `dbt retry` needs the run_results.json of the run before, which a killed dbt never writes, and loses the gating by unit tests.
So the nodes that are left are written into a run_results.json as ``error``, and dbt selects them from there (``result:error``): by
their exact unique_ids, however many, and nodes that the project has lost are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from ledger_watcher import codec
from ledger_watcher.capture.argv import NARROWABLE
from ledger_watcher.capture.ending import Ended
from ledger_watcher.capture.freshness import SOURCE, without_sources
from ledger_watcher.capture.request import CaptureRequest, Checked
from ledger_watcher.records import FRESH, ONLY, HookFinished, NodeFinished, Plan, bounded_message, utcnow
from ledger_watcher.state import Attempt, RunState

SLACK = timedelta(seconds=2)
"""The clock of a producer's host is not the one of Airflow's scheduler."""

_SCHEMA = "https://schemas.getdbt.com/dbt/run-results/v6.json"  # dbt 1.8 to 1.12, and Fusion


_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an attempt builds: ``todo``, or all that its command selects if that is ``None``.

    ``sources`` are those that it checks before, all if that is ``None``.
    ``carried`` are the successes of attempts before, to be recorded again. ``failed_hooks`` are those of the attempt before, which only
    run again if a node does.
    """

    plan: Plan | None = None
    todo: frozenset[str] | None = None
    sources: frozenset[str] | None = frozenset()
    carried: tuple[NodeFinished, ...] = ()
    failed_hooks: tuple[HookFinished, ...] = ()

    @property
    def note(self) -> str | None:
        """What a person is told before dbt starts, if it is not told everything."""
        if not self.todo:
            return None
        if not self.carried:
            return f"{len(self.todo)} nodes are to be built, and nothing else."
        return f"{len(self.carried)} nodes are done and taken over from the attempts before, {len(self.todo)} are left to build."


def scope_of(request: CaptureRequest) -> str | None:
    """The word for ``scope`` in the attempt's first record."""
    return ONLY if request.only is not None else FRESH if request.fresh else None


def decide(checked: Checked, request: CaptureRequest, past: RunState, ask_dbt: Callable[[], frozenset[str]]) -> Scope:
    """What this attempt builds; see :class:`~.request.CaptureRequest` for the rules.

    :param past: the run before this attempt.
    :param ask_dbt: what the command selects. Only called if something is done and nobody knows the whole; it takes seconds.
    """
    if request.only is not None:
        plan, nodes = Plan(ts=utcnow(), unique_ids=tuple(sorted(request.only)), source=ONLY), without_sources(request.only)
        return Scope(plan=plan, todo=nodes, sources=request.only - nodes if request.freshness else frozenset())
    given = None if request.plan is None else Plan(ts=utcnow(), unique_ids=request.plan, source=request.plan_source)
    if checked.command.selects and not (request.selected or request.exactly):
        given = None  # dbt builds less than the caller has
    exactly = without_sources(given.unique_ids) if given is not None and request.exactly else None
    whole = Scope(plan=given, todo=exactly, sources=request.sources if request.freshness else frozenset())
    if checked.command.subcommand not in NARROWABLE or request.fresh:
        return whole
    attempts = _going_on_from(past, request)
    ok = {name: node.finished for name, node in past.nodes.items() if node.finished is not None and node.finished.outcome.ok}
    counted = {attempt.epoch for attempt in attempts}
    done = request.done | {name for name in ok if past.nodes[name].epoch in counted}
    if not without_sources(done):
        return whole
    plan = given or _earlier_plan(attempts, checked.recorded) or plan_of(ask_dbt(), request)
    nodes = without_sources(plan.unique_ids)
    todo = nodes - done
    if len(todo) == len(nodes):
        return replace(whole, plan=plan)
    now, unchecked = utcnow(), frozenset(plan.unique_ids) - nodes - done
    again = bool(todo or unchecked)  # then all sources are checked once more
    kept = sorted(name for name in done if name in ok and not (again and request.freshness and name.startswith(SOURCE)))
    carried = tuple(replace(ok[name], ts=now, source="carried_over") for name in kept)
    return Scope(
        plan=plan, todo=todo, sources=whole.sources if again else frozenset(), carried=carried, failed_hooks=_failed_hooks(attempts)
    )


def plan_of(selected: Collection[str], request: CaptureRequest) -> Plan:
    """The plan that dbt was asked for, which does not name the sources that are shown."""
    return Plan(ts=utcnow(), unique_ids=tuple(sorted({*selected, *(request.sources or ())})), source="dbt ls")


def nothing_left(scope: Scope) -> Ended:
    """The end of an attempt that need not start dbt: 0, unless hooks are to be blamed, which only run when a node does."""
    if not scope.failed_hooks:
        return Ended(exit_code=0, message="Nothing is left to build, so dbt was not started: all nodes of the run are done.")
    named = ", ".join(hook.unique_id for hook in scope.failed_hooks)
    return Ended(
        exit_code=1,
        message=f"All nodes of the run are done, but hooks of the attempt before failed ({named}), and dbt runs them only with a node. "
        "Run all again to repeat them: --fresh, or in Airflow clear the producer with its nodes.",
    )


def judged(ended: Ended, state: RunState, todo: Collection[str]) -> tuple[Ended, str | None]:
    """The end of an attempt that was to build ``todo``, and what is odd about it.

    A dbt that is content must have a result for each of them. If it has none for any, that is no success.
    """
    attempt = state.attempt
    reached = {name for name, node in state.nodes.items() if attempt is not None and node.epoch == attempt.epoch}
    missing = sorted(set(todo) - reached) if ended.exit_code == 0 else []
    if not missing:
        return ended, None
    problem = (
        f"dbt ended without an error and without a word about {len(missing)} of the {len(todo)} nodes that were left to build "
        f"({', '.join(missing[:_NAMED])}, ...): the project does not have them any more, or dbt did not select them. "
        "Run all again: --fresh, or in Airflow clear the producer with its nodes."
    )
    told = replace(ended, incomplete=bounded_message("; ".join(filter(None, (ended.incomplete, problem)))))
    return (told if len(missing) < len(todo) else replace(told, exit_code=1, message=problem)), problem


def write_state(folder: Path, todo: Collection[str]) -> None:
    """A run_results.json that makes ``--select result:error --state folder`` select ``todo``.

    The status says no more than that: dbt looks at nothing else of a result to select it. Fusion wants all of the metadata, though, and
    without a word selects nothing if there is less.
    """
    told = {"dbt_version": "1.8.0", "generated_at": f"{utcnow():%Y-%m-%dT%H:%M:%S.%fZ}", "invocation_id": str(uuid4())}
    result = {"status": "error", "timing": [], "thread_id": "", "execution_time": 0.0, "adapter_response": {}, "message": None}
    unknown = {"failures": None, "compiled": None, "compiled_code": None, "relation_name": None}
    content = {
        "metadata": {"dbt_schema_version": _SCHEMA, **told, "env": {}},
        "results": [{"unique_id": name, **result, **unknown} for name in sorted(todo)],
        "elapsed_time": 0.0,
        "args": {"which": "build", "command": "build"},
    }
    (folder / "run_results.json").write_bytes(codec.dumps(content))


def _going_on_from(past: RunState, request: CaptureRequest) -> list[Attempt]:
    """The attempts whose successes count, newest first: back to the last clear, or to the last fresh attempt."""
    found: list[Attempt] = []
    for epoch in sorted(past.attempts, reverse=True):
        attempt = past.attempts[epoch]
        started = attempt.started
        if started is None or (started.clear_number != request.clear_number and not request.resume):
            break
        if request.since is not None and started.producer_started_at < request.since - SLACK:
            break
        found.append(attempt)
        if started.scope == FRESH:
            break
    return found


def _earlier_plan(attempts: list[Attempt], command: tuple[str, ...]) -> Plan | None:
    """The plan of an attempt with the same command, if one had any."""
    for attempt in attempts:
        started = attempt.started
        if attempt.plan is not None and started is not None and started.scope != ONLY and started.command == command:
            return Plan(ts=utcnow(), unique_ids=tuple(sorted(attempt.plan)), source="plan")
    return None


def _failed_hooks(attempts: list[Attempt]) -> tuple[HookFinished, ...]:
    """Those of the newest attempt in which dbt ran."""
    ran = next((attempt for attempt in attempts if attempt.dbt is not None), None)
    return tuple(hook for hook in ran.hooks.values() if not hook.outcome.ok) if ran else ()
