"""5,000 tasks that wait for their nodes on one tail: CPU and requests per poll."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from unittest import mock

from benchmarks.ledger._places import Counted, Place, places
from benchmarks.ledger._runs import RUN, T0, node_id, of_node, started
from benchmarks.ledger._table import Row, quantile
from ledger_watcher import codec
from ledger_watcher.ledger import Kind
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher_airflow import tail as tails
from ledger_watcher_airflow.decision import Verdict, Watcher
from ledger_watcher_airflow.ledger import LedgerRef

TITLE = "5,000 waiting tasks on one tail (a folder)"
WAITERS = 5_000
_POLLS = 20


class _Producer:
    """Its state, as the benchmark says."""

    now: str | None = "running"

    async def __call__(self, _key: tails.TailKey) -> str | None:
        return self.now


def measure() -> list[Row]:
    """CPU of the process from one poll to the next, the tasks that it wakes included."""
    with places("local") as (place,):
        store = place.open()
        assert isinstance(store, Counted)  # noqa: S101 - so says places
        with mock.patch.object(LedgerRef, "store", return_value=store):
            return asyncio.run(_scene(place, ChainWriter(store, RUN)))


async def _scene(place: Place, chain: ChainWriter) -> list[Row]:
    chain.claim(started())
    producer = _Producer()
    tail = tails.Tail(tails.TailKey(LedgerRef(uri="file:///nowhere"), RUN, "producer"), poll=1.0, producer_state=producer)
    await tail._step()  # noqa: SLF001 - one poll at a time
    begin = time.process_time()
    tasks = [asyncio.create_task(_wait(tail, number)) for number in range(WAITERS)]
    await asyncio.sleep(0)
    await tail._step()  # noqa: SLF001 - the look that these tasks wait for
    await _settle()
    rows = [Row(what="all of them begin, and the first poll", value=(time.process_time() - begin) * 1000, unit="ms CPU")]

    async def polls(change: Callable[[int], None]) -> tuple[list[float], int]:
        """CPU in ms of each poll, and the most requests that one of them made."""
        spent, most = [], 0
        for number in range(_POLLS):
            change(number)
            begin, before = time.process_time(), place.requests()
            await tail._step()  # noqa: SLF001
            await _settle()
            spent.append((time.process_time() - begin) * 1000)
            most = max(most, place.requests() - before)
        return spent, most

    def one_node(number: int) -> None:
        chain.stage(Kind.DATA, [codec.encode(record) for record in of_node(number)])
        chain.push()

    def producer_state(number: int) -> None:
        producer.now = ("queued", "running")[number % 2]
        tail._looked = float("-inf")  # noqa: SLF001 - a look is due

    for what, change, most in (
        ("nothing changes", lambda _: None, 1.0),
        ("one node finishes", one_node, 2.0),
        ("the producer's state changes, so that all are woken", producer_state, 1.0),
    ):
        spent, requests = await polls(change)
        rows += [
            Row(what=f"a poll while {what}: best", value=min(spent), unit="ms CPU"),
            Row(what=f"a poll while {what}: median", value=quantile(spent, 0.5), unit="ms CPU"),
            Row(what=f"a poll while {what}: requests", value=requests, unit="requests", most=most),
        ]
    rows.append(Row(what="tasks that are done in the end", value=sum(task.done() for task in tasks), unit="tasks"))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return rows


async def _wait(tail: tails.Tail, number: int) -> Verdict:
    watcher = Watcher(nodes=(node_id(number),), born=T0 - timedelta(minutes=1), try_number=1, task_id=f"task_{number}")
    return await tail.wait(watcher, _unheard)


async def _unheard(_: str) -> None:
    """What a task would write to its log."""


async def _settle() -> None:
    """Let every task that was woken run up to its next wait."""
    for _ in range(3):
        await asyncio.sleep(0)
