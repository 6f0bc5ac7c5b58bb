"""The simulator of tests/soak, driven by seeds and by hypothesis; and that it would notice if a promise were broken."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ledger_watcher import codec
from ledger_watcher.errors import CorruptLedger, StorageError
from ledger_watcher.ledger import Entry, Header, Kind
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.records import Record
from tests.core.stores import Fault
from tests.soak.simulator import FAULTS, OPERATIONS, ViolationError, World, simulate

EXAMPLES = int(os.environ.get("LEDGER_WATCHER_EXAMPLES", "300"))


class Machine(RuleBasedStateMachine):
    """Hypothesis chooses who goes on, with which fault, who crashes and what expires; a failure is printed as the shortest such story."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @precondition(lambda self: self.world.writers < 3)
    @rule(operations=st.lists(st.sampled_from(OPERATIONS), max_size=6), salt=st.integers(0, 99))
    def writer_comes(self, operations: list[str], salt: int) -> None:
        self.world.start_writer(operations, salt)

    @precondition(lambda self: len(self.world.live) < 6)
    @rule(late=st.booleans(), polls=st.integers(0, 9))
    def reader_comes(self, polls: int, *, late: bool) -> None:
        self.world.start_reader(late=late, polls=polls)

    @precondition(lambda self: self.world.live)
    @rule(who=st.integers(0, 5), steps=st.integers(1, 12))
    def goes_on(self, who: int, steps: int) -> None:
        actor = self.world.live[who % len(self.world.live)]
        for _ in range(steps):
            if actor.alive:
                actor.resume(Fault.NONE)

    @precondition(lambda self: self.world.live)
    @rule(who=st.integers(0, 5), data=st.data())
    def meets_a_fault(self, who: int, data: st.DataObject) -> None:
        actor = self.world.live[who % len(self.world.live)]
        actor.resume(data.draw(st.sampled_from(FAULTS[actor.waits_for])))

    @precondition(lambda self: self.world.live)
    @rule(who=st.integers(0, 5))
    def crashes(self, who: int) -> None:
        self.world.live[who % len(self.world.live)].resume(None)

    @precondition(lambda self: self.world.store.late)
    @rule(which=st.integers(0, 9))
    def create_lands(self, which: int) -> None:
        self.world.store.land(which % len(self.world.store.late))

    @rule(count=st.integers(1, 9))
    def beginning_expires(self, count: int) -> None:
        self.world.expire(count)

    def teardown(self) -> None:
        try:
            self.world.finish()
        finally:
            self.world.close()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def test_many_seeds_and_everything_that_may_happen_happens() -> None:
    """A failing seed is in the message; ``python -m tests.soak.simulator --seed N`` shows its requests."""
    seen: dict[str, int] = {}
    for seed in range(40):
        try:
            world = simulate(seed)
        except ViolationError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        for name, count in world.seen.items():
            seen[name] = seen.get(name, 0) + count
    rare = {name: count for name, count in seen.items() if count < 10}
    assert rare == {}
    assert set(seen) == {"checkpoint", "complete", "crashed", "data", "end", "expired", "fence", "fenced", "read"}


def test_a_seed_is_a_story() -> None:
    """The same requests in the same order with the same answers, and the same bytes."""
    one, again, other = simulate(7), simulate(7), simulate(8)
    assert one.store.calls == again.store.calls
    assert one.store.objects == again.store.objects
    assert one.store.calls != other.store.calls


class Careless(ChainWriter):
    """Takes every doubtful answer for success: the read-back left out."""

    def _settle(self, key: str, data: bytes, error: StorageError) -> None:
        pass


class Hasty(ChainWriter):
    """Claims without the checkpoint."""

    def checkpoint(self, *, end: bool = False) -> None:
        if end:
            super().checkpoint(end=end)


class Premature(ChainWriter):
    """Says that its end is there before it is."""

    def push(self) -> Header:
        assert self._staged is not None
        if self._staged[0].kind is Kind.END:
            staged, last = self._staged, self.last
            self._staged, self.last = None, staged[0]
            try:
                self.checkpoint(end=True)
            finally:
                self._staged, self.last = staged, last
        return super().push()


class Forgetful(ChainWriter):
    """Its checkpoints lack what it did not write itself."""

    def _read_on(self) -> None:
        super()._read_on()
        self._compaction = type(self._compaction)()


class Repeating(ChainWriter):
    """Writes what it is not sure of once more, into the next slot."""

    def push(self) -> Header:
        staged = self._staged
        assert staged is not None
        try:
            return super().push()
        except StorageError:
            if staged[0].kind is Kind.DATA and self._store.get(self.run.segment(staged[0].seq)) == staged[1]:
                self.last, self._staged = staged[0], None
                self._compaction.add(Entry(staged[0].seq, staged[0].epoch, record, line) for record, line in _records(staged[2]))
                self.stage(Kind.DATA, staged[2])
            raise


def _records(lines: list[bytes]) -> list[tuple[Record, bytes]]:
    return [(codec.decode(line), line) for line in lines]


@pytest.mark.parametrize("writer", [Careless, Hasty, Premature, Forgetful, Repeating])
def test_the_simulation_finds_broken_writers(writer: type[ChainWriter]) -> None:
    """Writers that leave out one rule each are caught within a few stories."""

    def breaks(seed: int) -> bool:
        try:
            simulate(seed, writer)
        except (ViolationError, CorruptLedger):
            return True
        return False

    assert any(breaks(seed) for seed in range(40))
