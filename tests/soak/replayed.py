"""Runs of a dbt that replays a recorded stream: milliseconds each, and killed at exact lines and exact storage requests."""

from __future__ import annotations

import os
import random
import signal
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ledger_watcher import codec
from ledger_watcher.capture import Capture, CaptureRequest, wanted_line
from ledger_watcher.capture.compat import outcome_of
from ledger_watcher.ledger import ChainReader, RunKey, WriterOptions
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore
from tests.core.fakes import FakeDbt
from tests.core.streams import VERSIONS, lines
from tests.soak.checks import check_attempt, check_end, check_that, done, outcomes, reap

RUN = RunKey("shop", "r")
OPTIONS = WriterOptions(commit_interval=0.005)
MOST_KILLS = 4
_BUILT = ("function.", "model.", "seed.", "snapshot.", "test.", "unit_test.")

REPLAY = """
def die():
    if VICTIM in ("wrapper", "both"):
        os.kill(os.getppid(), 9)
    if VICTIM in ("dbt", "both"):
        os.kill(os.getpid(), 9)
    threading.Event().wait()  # until SIGINT comes, since the wrapper is dead
if VICTIM and LISTING and "ls" in sys.argv:
    die()
todo, step = set(selected(NODES)), 0
audit = os.open(AUDIT, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for row in open(STREAM):
    unique_id, commits, line = row.rstrip("\\n").split("\\t", 2)
    if unique_id and unique_id not in todo:
        continue
    if VICTIM and not LISTING and step == LINE:
        die()
    step += 1
    if commits:
        os.write(audit, f"{ATTEMPT} {unique_id}\\n".encode())
    text(line)
    time.sleep(0.0005)
sys.exit(1)
"""


@dataclass
class Kill:
    """Who is killed when: at a line of dbt's stream, while it lists, or at a request of the wrapper to the storage."""

    victim: str
    line: int = 0
    listing: bool = False
    request: int = -1
    after: bool = False

    @staticmethod
    def draw(chance: random.Random, length: int) -> Kill:
        if chance.random() < 0.3:
            return Kill("wrapper", request=chance.randrange(25), after=chance.random() < 0.5)
        victim = chance.choice(("dbt", "wrapper", "both"))
        return Kill(victim, line=chance.randrange(length), listing=chance.random() < 0.1)


class DeadlyStore(LocalStore):
    """Kills this process before or after its n-th request to create an object."""

    def __init__(self, root: str, kill: Kill | None) -> None:
        super().__init__(root)
        self._kill = kill
        self._count = 0

    def create(self, key: str, data: bytes) -> None:
        kill, number = self._kill, self._count
        self._count += 1
        here = kill is not None and kill.request == number
        if here and kill is not None and not kill.after:
            os.kill(os.getpid(), signal.SIGKILL)
        super().create(key, data)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)


@cache
def recorded(version: str) -> list[tuple[str, bool, str]]:
    """The lines of a stream that the parser looks at, each with its node and whether the node's success is committed just before it."""
    found: list[tuple[str, bool, str]] = []
    last: dict[str, int] = {}
    for raw in lines(f"build-{version}"):
        if not raw.startswith(b"{") or not wanted_line(raw):
            continue
        event = codec.loads(raw)
        unique_id = str((event["data"].get("node_info") or {}).get("unique_id") or "")
        unique_id = unique_id if unique_id.startswith(_BUILT) else ""
        if event["info"]["name"] == "NodeFinished" and unique_id:
            outcome = outcome_of(event["data"]["run_result"]["status"])
            if outcome is not None and outcome.ok:
                last[unique_id] = len(found)  # a microbatch model's batches finish before it does
        found.append((unique_id, False, raw.decode().strip()))
    return [(name, i == last.get(name), line) for i, (name, _, line) in enumerate(found)]


@dataclass
class Campaign:
    """All runs of one campaign, below ``folder``."""

    folder: Path
    expected: dict[str, dict[str, str]] = field(default_factory=dict)

    def run(self, chance: random.Random, name: Path) -> Counter[str]:
        """One run, killed again and again. Returns what was done to it.

        :raises Broken: a promise was.
        """
        version = chance.choice(VERSIONS)
        if version not in self.expected:
            whole = Replay(self.folder / f"whole-{version}", version)
            whole.attempt(None, plan=False)
            self.expected[version] = {node: status for node, status in outcomes(whole.state).items() if node.startswith(_BUILT)}
        replay = Replay(self.folder / name, version)
        planned, told = chance.random() < 0.5, Counter[str]()
        for _ in range(chance.randint(1, MOST_KILLS)):
            kill = Kill.draw(chance, len(recorded(version)))
            replay.attempt(kill, plan=planned)
            told[f"kills of {kill.victim}"] += 1
        replay.attempt(None, plan=planned)
        told["attempts"] += replay.attempts
        check_end(replay.state, self.expected[version])
        committed = {node for _, node in replay.committed}
        missed = {node for node, status in self.expected[version].items() if status in ("success", "warn")} - committed
        check_that(not missed, f"never built: {sorted(missed)}")
        return told


class Replay:
    """One run with all its attempts."""

    def __init__(self, folder: Path, version: str) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._dbt = FakeDbt.make(folder)
        self._nodes = sorted({unique_id for unique_id, _, _ in recorded(version) if unique_id})
        self.attempts = 0
        rows = (f"{unique_id}\t{'x' if commits else ''}\t{line}\n" for unique_id, commits, line in recorded(version))
        (folder / "stream").write_text("".join(rows))

    @property
    def state(self) -> RunState:
        state = RunState()
        state.apply(ChainReader(LocalStore(str(self._folder / "ledger")), RUN).read())
        return state

    @property
    def committed(self) -> list[tuple[int, str]]:
        """The attempt and the node of each commit."""
        file = self._folder / "audit"
        found = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [(int(attempt), unique_id) for attempt, unique_id in found]

    def attempt(self, kill: Kill | None, *, plan: bool) -> None:
        """One attempt, and what must hold after it."""
        before = done(self.state)
        self.attempts += 1
        pid = os.fork()
        if pid == 0:
            try:
                self._wrapper(kill, plan=plan)
                os._exit(0)
            except BaseException:  # noqa: BLE001 - the parent looks at the exit code
                traceback.print_exc()
                os._exit(99)
        _, status = os.waitpid(pid, 0)
        reap()
        code = os.waitstatus_to_exitcode(status)
        check_that(code in (0, -signal.SIGKILL), f"attempt {self.attempts} ended with {code}")
        check_attempt(self.attempts, before, [node for number, node in self.committed if number == self.attempts])

    def _wrapper(self, kill: Kill | None, *, plan: bool) -> None:
        files = {"STREAM": str(self._folder / "stream"), "AUDIT": str(self._folder / "audit"), "ATTEMPT": self.attempts}
        deadly = kill is not None and kill.request < 0
        deed = {"VICTIM": kill.victim if kill and deadly else "", "LINE": kill.line if kill else 0, "LISTING": bool(kill and kill.listing)}
        told = "".join(f"{name} = {value!r}\n" for name, value in {**files, **deed, "NODES": self._nodes}.items())
        request = CaptureRequest(
            command=(str(self._dbt.path), "build"),
            project_dir=self._dbt.project,
            env=self._dbt.env(told + REPLAY),
            plan=tuple(self._nodes) if plan else None,
            forward=lambda _line: None,
        )
        Capture(DeadlyStore(str(self._folder / "ledger"), kill), RUN, request, options=OPTIONS).run()
