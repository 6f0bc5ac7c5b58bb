"""dbt's events about on-run-start and on-run-end hooks to records.

From 1.9 on every hook has an end of its own. In 1.8 one that fails has none: there is DatabaseErrorRunningHook (E045), which names no hook,
and at the end of the run a RunResultError (Z024) with the text; run_results.json of 1.8 has no hooks at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ledger_watcher.capture import compat
from ledger_watcher.capture.event import Event, said, text_of
from ledger_watcher.records import HookFinished, Outcome, bounded_message


class HookParser:
    """The records of hooks.

    :param outcome: the common word for dbt's status of a unique_id.
    :param mask: applied to every message that is kept, to take secrets out.
    """

    def __init__(self, *, outcome: Callable[[str, str], Outcome], mask: Callable[[str], str]) -> None:
        self._outcome = outcome
        self._mask = mask
        self._running: str | None = None
        self._broken: HookFinished | None = None

    def started(self, event: Event) -> None:
        """LogHookStartLine: hooks run one after another."""
        self._running = event.unique_id

    def ended(self, event: Event) -> HookFinished:
        """LogHookEndLine.

        :raises ValueError: it names no hook or no status.
        """
        self._running = None
        # The other status is the adapter's answer in 1.8: "OK", "CREATE TABLE", "SUCCESS 1".
        status = said(text_of(event.node, "node_status") or text_of(event.data, "status"), "has no status")
        outcome = self._outcome(status, event.unique_id)
        time = compat.number(event.data.get("execution_time"))
        return HookFinished(ts=event.ts, unique_id=event.unique_id, outcome=outcome, status=status, execution_time=time)

    def broke(self, event: Event) -> HookFinished | None:
        """DatabaseErrorRunningHook: the hook that was running failed, with which words comes later."""
        if self._running is None:
            return None
        self._broken = HookFinished(ts=event.ts, unique_id=self._running, outcome=Outcome.FAILED, status="error")
        self._running = None
        return self._broken

    def explained(self, event: Event) -> HookFinished | None:
        """RunResultError: if it names no node, it is about the hook that broke. Its record once more, with the message."""
        text = text_of(event.data, "msg")
        if self._broken is None or not text or text_of(event.node, "unique_id"):
            return None
        record, self._broken = replace(self._broken, ts=event.ts, message=bounded_message(self._mask(text))), None
        return record
