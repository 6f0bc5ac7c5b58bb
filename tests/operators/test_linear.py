"""No quadratic cost in our own code: operations per node, counted, stay the same from 250 to 2,000 nodes.

An operation is a line of our own modules that Python executes, again with each turn of a loop. So a look at all nodes for each of them shows,
whatever the machine is doing meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import ledger_watcher
import ledger_watcher_airflow
from ledger_watcher.project.cache import CACHE_ENV
from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig
from ledger_watcher_airflow.decision import Kind, Watcher
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.tail import Tail, TailKey
from tests.operators.runs import BORN, RUN, Attempt, CountingStore, began, done, planned
from tests.projects import node, write_project

SIZES = (250, 500, 1000, 2000)
GROWTH = 1.1
"""How much more a node of the largest run may cost than one of the smallest."""
AT_ONCE = 5
"""Nodes that end between two polls."""
LOOK_EVERY = 5
"""Polls between two looks at the producer, as with a poll a second."""
_OURS = tuple(str(Path(package.__file__).parent) for package in (ledger_watcher, ledger_watcher_airflow) if package.__file__)


class Operations:
    """What was counted so far."""

    count = 0


@contextmanager
def counted() -> Iterator[Operations]:
    """Count the lines of our modules that this thread and those that it starts execute."""
    operations = Operations()

    def line(_frame: FrameType, event: str, _arg: object) -> Callable[..., Any]:
        if event == "line":
            operations.count += 1
        return line

    def call(frame: FrameType, _event: str, _arg: object) -> Callable[..., Any] | None:
        return line if frame.f_code.co_filename.startswith(_OURS) else None

    before = sys.gettrace(), threading.gettrace()
    sys.settrace(call)
    threading.settrace(call)
    try:
        yield operations
    finally:
        sys.settrace(before[0])
        threading.settrace(before[1])  # type: ignore[arg-type] - None is what there mostly is


async def settled() -> None:
    """Let every task that was woken run up to its next wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def watched(store: CountingStore, tasks: int) -> int:
    """Operations of a run in which all tasks wait at first, and some end between two polls, the looks at the producer among them."""

    async def running(_: TailKey) -> str | None:
        return "running"

    async def unheard(_: str) -> None:
        pass

    tail = Tail(TailKey(LedgerRef(uri="file:///nowhere"), RUN, "producer"), poll=1.0, producer_state=running)
    names = [f"model.shop.m{number}" for number in range(tasks)]
    attempt = Attempt(store, began(0))
    attempt.write(planned(*names))
    with counted() as operations:
        waiting = [asyncio.create_task(tail.wait(Watcher(nodes=(name,), born=BORN, try_number=1), unheard)) for name in names]
        await settled()
        for number, first in enumerate(range(0, tasks, AT_ONCE)):
            attempt.write(*(done(name) for name in names[first : first + AT_ONCE]))
            if number % LOOK_EVERY == 0:
                tail._looked = float("-inf")
            await tail._step()
            await settled()
    assert {task.result().kind for task in waiting} == {Kind.SUCCEED}
    return operations.count


def test_waiting_tasks_cost_the_same_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def per_task(size: int) -> float:
        store = CountingStore(tmp_path / str(size))
        monkeypatch.setattr(LedgerRef, "store", lambda _: store)
        return asyncio.run(watched(store, size)) / size

    check({size: per_task(size) for size in SIZES})


def test_a_parse_costs_the_same_for_each_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First without a cache, so that the manifest is read as well; layers of 50 models with two parents each, every second one tested."""
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))

    def per_node(size: int) -> float:
        names = [f"model.big.m{number}" for number in range(size)]
        models = [
            node(name, *names[max(0, i - 51) : max(0, i - 49)], original_file_path=f"models/m{i}.sql") for i, name in enumerate(names)
        ]
        tests = [node(f"test.big.not_null_m{i}.{i:010x}", names[i]) for i in range(0, size, 2)]
        project = write_project(tmp_path / str(size), *models, *tests, project="big")
        with counted() as operations:
            dag = DbtDag(
                "big",
                project_config=ProjectConfig(project),
                profile_config=ProfileConfig(profile_name="big"),
                execution_config=ExecutionConfig(ledger_uri=str(tmp_path / "ledger")),
            )
        assert len(dag.tasks) > size
        return operations.count / size

    check({size: per_node(size) for size in (SIZES[0], SIZES[-1])})


def check(costs: dict[int, float]) -> None:
    """The same at every size, but for what each of them has once."""
    assert max(costs.values()) <= GROWTH * costs[SIZES[0]], costs
