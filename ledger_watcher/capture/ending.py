"""How an attempt ended, told from dbt's exit code and from what hit it."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace

from ledger_watcher.capture.runner import INTERRUPTED, Runner
from ledger_watcher.records import EndedBy, bounded_message
from ledger_watcher.verdict import HANDLED

_SIGNALLED = 128
_NOT_HANDLED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How dbt ended, before the ledger does. ``raised`` is for the caller to raise when the ledger has."""

    exit_code: int | None
    ended_by: EndedBy = EndedBy.EXIT
    message: str | None = None
    incomplete: str | None = None
    raised: BaseException | None = None

    @property
    def to_the_end(self) -> bool:
        """dbt did all that it was to do, though nodes may have failed."""
        return self.ended_by is EndedBy.EXIT and self.exit_code in (0, HANDLED)


class OverAlready(Exception):
    """The attempt is over before dbt has built anything."""

    def __init__(self, ended: Ended) -> None:
        self.ended = ended


def in_turn(first: Ended, then: Ended) -> Ended:
    """The end of two invocations, of which the second one only ran because the first had come to its own end: the first bad one of them."""
    worse = first if first.exit_code and then.exit_code in (0, HANDLED) else then
    lost = "; ".join(filter(None, (first.incomplete, then.incomplete)))
    return replace(worse, incomplete=bounded_message(lost), raised=first.raised or then.raised)


def ended_by(exit_code: int, runner: Runner, *, interrupted: bool) -> EndedBy:
    """The word for it. ``interrupted``: we were told to interrupt dbt."""
    if runner.raised is not None:
        return EndedBy.TIMEOUT if "timeout" in type(runner.raised).__name__.lower() else EndedBy.SIGNAL
    asked = interrupted or runner.interrupted
    return EndedBy.SIGNAL if (asked and exit_code) or exit_code > _SIGNALLED else EndedBy.EXIT


def reason(exit_code: int, runner: Runner, *, interrupted: bool) -> str | None:
    """Why dbt ended as it did, if it did not say so in an event."""
    if runner.raised is not None:
        return f"dbt was interrupted by {type(runner.raised).__name__}: {runner.raised}"
    if exit_code > _SIGNALLED and not (exit_code == INTERRUPTED and interrupted):
        number = exit_code - _SIGNALLED
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"dbt was killed by {name}" + (" (often the system is out of memory)" if number == signal.SIGKILL else "")
    if exit_code and (interrupted or runner.interrupted):
        return "dbt was interrupted"
    return runner.error if exit_code >= _NOT_HANDLED else None
