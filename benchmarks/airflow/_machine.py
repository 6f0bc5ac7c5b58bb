"""What processes used, from /proc: CPU, memory, and what else the machine did."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import Self

from scripts.airflow_nanny import descendants

_TICK = os.sysconf("SC_CLK_TCK")
_MEMORY_INTERVAL = 10.0


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process, what is below it, and what was and has been waited for."""
    return sum(map(_cpu, (pid, *descendants(pid)))) / _TICK


def _cpu(pid: int) -> int:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return sum(int(value) for value in fields[11:15])  # utime, stime, cutime, cstime
    return 0


def memory_of(pids: Iterable[int]) -> float:
    """MiB of some processes and what is below them; what n of them share counts 1/n for each (PSS)."""
    return sum(_pss(one) for pid in pids for one in (pid, *descendants(pid))) / 1024


def _pss(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


@dataclass(slots=True)
class Usage:
    """CPU seconds by name, the peak of memory in MiB, and the noise: CPU seconds of everybody else, and of the hypervisor's others."""

    cpu: dict[str, float] = field(default_factory=dict)
    memory: float = 0.0
    others: float = 0.0
    stolen: float = 0.0
    load: float = 0.0


class Meter:
    """Measures some processes by name, as long as the ``with`` block takes; then ``usage`` is complete."""

    def __init__(self, pids: Mapping[str, int], *, memory: Iterable[str]) -> None:
        self.usage = Usage(load=os.getloadavg()[0])
        self._pids = {**pids, "benchmark": os.getpid()}
        self._memory = [self._pids[name] for name in memory]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._before = self._read()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        busy, stolen, cpu = self._read()
        self._stop.set()
        self._thread.join()
        busy_before, stolen_before, cpu_before = self._before
        self.usage.cpu = {name: cpu[name] - cpu_before[name] for name in cpu}
        self.usage.others = max(0.0, busy - busy_before - sum(self.usage.cpu.values()))
        self.usage.stolen = stolen - stolen_before

    def _sample(self) -> None:
        while not self._stop.wait(_MEMORY_INTERVAL):
            self.usage.memory = max(self.usage.memory, memory_of(self._memory))

    def _read(self) -> tuple[float, float, dict[str, float]]:
        user, nice, system, _idle, _iowait, irq, soft, steal = map(int, Path("/proc/stat").read_text("ascii").split()[1:9])
        each = {name: cpu_of(pid) for name, pid in self._pids.items()}
        # The others are children of the benchmark: what is below it is theirs, unless it is nobody's.
        each["benchmark"] = _cpu(self._pids["benchmark"]) / _TICK
        return (user + nice + system + irq + soft) / _TICK, steal / _TICK, each
