"""Recovery: one dbt run, on a worker, for everything of a DAG run that waits and that the producer will not build any more.

It goes through the producer's own way of running dbt and is an attempt in the same ledger, so the other tasks mirror it as it goes. It
claims the epoch after the one that it looked at, or none: so of two tasks that begin it, one goes back to waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ledger_watcher.errors import Fenced, LedgerWatcherError, Overtaken
from ledger_watcher.ledger import RunKey
from ledger_watcher.state import RunState
from ledger_watcher_airflow.compat import AirflowException
from ledger_watcher_airflow.decision import Kind, Verdict, Watcher, done_since_clear
from ledger_watcher_airflow.gate import Above, look_above
from ledger_watcher_airflow.poke import RunWatch
from ledger_watcher_airflow.states import task_states

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ledger_watcher_airflow.ledger import LedgerRef

_UNFINISHED = frozenset({None, "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule"})
"""States of tasks that still have to show what dbt does."""


@runtime_checkable
class Recovers(Protocol):
    """A producer that can build some nodes only."""

    task_id: str

    def on_kill(self) -> None:
        """Interrupt dbt."""

    def recover(self, context: Context, *, only: frozenset[str], after: int) -> None:
        """Run dbt for the nodes ``only``, as an attempt of this DAG run. It returns when dbt has ended, however it ended.

        :param after: claim the epoch after this one, or none.
        :raises Overtaken: there is a newer epoch.
        :raises Fenced: another attempt took the run over.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What one task that was sent to a worker does.

    ``tasks`` are the nodes of each task that mirrors the same ledger, ``producer`` is the operator that ran dbt, ``above`` has the edges of the DAG.
    """

    ledger: LedgerRef
    run: RunKey
    watcher: Watcher
    producer: Any
    tasks: Mapping[str, Iterable[str]]
    above: Above

    def run_dbt(self, context: Context, log: Any) -> tuple[Verdict, RunState]:  # noqa: ANN401 - Airflow's logger
        """Bring about an answer for the watcher's nodes and return it; ``WAIT`` if another attempt will have it.

        :raises AirflowException: dbt cannot be run from here.
        """
        if not isinstance(self.producer, Recovers):
            raise AirflowException(
                f"The producer {type(self.producer).__name__} cannot run dbt for single nodes: clear it together with this task."
            )
        ti, watch = context["ti"], RunWatch(ledger=self.ledger, run=self.run, producer=self.producer.task_id)
        verdict = watch.look(self.watcher, ti)
        if verdict.kind is not Kind.RECOVER:
            return verdict, watch.state
        newest = max(watch.state.attempts, default=0)
        only = self._waiting(watch.state, task_states(ti), getattr(context["dag_run"], "clear_number", None))
        log.info("Recovery: dbt builds %d nodes: %s", len(only), ", ".join(sorted(only)))
        try:
            self.producer.recover(context, only=only, after=newest)
        except (Overtaken, Fenced) as error:
            log.info("%s", error)
            return Verdict(Kind.WAIT, str(error)), watch.state
        except LedgerWatcherError as error:
            raise AirflowException(str(error)) from error
        return watch.look(self.watcher, ti), watch.state

    def interrupt(self) -> None:
        """Interrupt dbt, if it runs."""
        if isinstance(self.producer, Recovers):
            self.producer.on_kill()

    def _waiting(self, state: RunState, states: Mapping[str, str | None], clear_number: int | None) -> frozenset[str]:
        """The nodes of all tasks that have not ended, without those that are done or skipped by choice since the last clear: they are only late.

        Without those below a task that failed for good, which have only not said so yet. Of this task's own nodes all, if none of them is left.
        """
        built = done_since_clear(state, clear_number)
        unfinished = [task_id for task_id in self.tasks if states.get(task_id, "removed") in _UNFINISHED]
        late = {
            unique_id for task_id in unfinished if look_above(task_id, self.above, states)[0] is None for unique_id in self.tasks[task_id]
        }
        own = frozenset(self.watcher.nodes)
        return frozenset(late - built) | (own - built or own)
