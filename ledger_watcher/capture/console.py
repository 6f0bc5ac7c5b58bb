"""dbt's events as the lines that a person would have seen on dbt's own console."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ledger_watcher.capture.argv import Output
from ledger_watcher.capture.compat import time_of
from ledger_watcher.records import plain

_RANK = {"test": 0, "debug": 10, "info": 20, "warn": 30, "error": 40, "none": 100}
_UNSTAMPED = frozenset({"PrintEvent", "ShowNode", "CompiledNode"})
"""dbt_common.events.logger.PRINT_EVENT_NAMES: shown without a time, and by ``--quiet`` too."""

_ANY_LEVEL = re.compile(f'"level": ?"(?:{"|".join(_RANK)})"'.encode())
_PRINTED = re.compile(rb'"name": ?"(?:PrintEvent|ShowNode|CompiledNode)"')


def readable(event: Mapping[str, Any], *, level: str = "info", colors: bool = False) -> str | None:
    """The line that dbt's console shows for an event at ``level``, or ``None`` if it shows none. Never raises.

    The time in front is the event's, in UTC, as dbt has it.
    """
    info = event.get("info")
    if not isinstance(info, Mapping) or not isinstance(message := info.get("msg"), str):
        return None
    name, said = info.get("name"), str(info.get("level"))
    printed = name in _UNSTAMPED
    if level == "none" or (_RANK.get(said, 20) < _RANK.get(level, 20) and not printed):
        return None
    text = message if colors else plain(message)
    when = time_of(info.get("ts"))
    if printed or when is None:
        return text
    if level == "debug":
        return f"{when:%H:%M:%S.%f} [{said:<5}] [{str(info.get('thread'))[:10]:<10}]: {text}"
    return f"{when:%H:%M:%S}  {text}"


class Console:
    """Forwards what the user asked to see. Safe to call from several threads; a write that fails ends the forwarding, nothing else."""

    def __init__(self, output: Output, write: Callable[[str], None]) -> None:
        self._output = output
        self._write = write
        self._lock = threading.Lock()
        shown = "|".join(name for name, rank in _RANK.items() if rank >= _RANK.get(output.level, 20))
        self._level = re.compile(rf'"level": ?"(?:{shown})"'.encode())
        self.problem: str | None = None

    def wants(self, raw: bytes) -> bool:
        """Whether the line may have to be shown: told from its bytes, so that debug lines need no parsing."""
        if not raw.startswith(b"{"):
            return True
        return self._level.search(raw) is not None or _PRINTED.search(raw) is not None or _ANY_LEVEL.search(raw) is None

    def event(self, event: Mapping[str, Any], raw: bytes) -> None:
        """Show an event, as JSON if that was asked for."""
        line = readable(event, level=self._output.level, colors=self._output.colors)
        if line is not None:
            self._put(raw.decode("utf-8", "replace").rstrip("\r\n") if self._output.json else line)

    def text(self, raw: bytes) -> None:
        """Show a line that is not an event."""
        self._put(raw.decode("utf-8", "replace").rstrip("\r\n"))

    def _put(self, line: str) -> None:
        with self._lock:
            if self.problem is not None:
                return
            try:
                self._write(line)
            except Exception as error:  # noqa: BLE001 - a closed terminal must not end dbt
                self.problem = f"dbt's output could not be shown any more: {type(error).__name__}: {error}"
