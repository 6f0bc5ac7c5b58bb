"""The dbt commands that there are operators for, and what each of them takes: the one table that the operators are made of.

Which options a command has is that of ``dbt --help``, the same from dbt-core 1.8 to 1.12; options that all commands have are not in here.
"""

from __future__ import annotations

from dataclasses import dataclass

SELECTION = frozenset({"select", "exclude", "selector", "indirect_selection"})
"""The flags of :class:`~ledger_watcher_airflow.flags.DbtFlags` that say which nodes."""

LIMITED = SELECTION | {"full_refresh", "threads"}
"""Its flags that only some commands have."""

_BUILDING = LIMITED
_CHECKING = LIMITED - {"full_refresh"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One dbt command.

    :param words: as they are written.
    :param takes: of :data:`LIMITED`, the flags that it has.
    :param narrowable: it can be told to work on exactly some nodes, by their unique_ids.
    :param warns: its nodes may end with a warning.
    :param macro: it runs a macro, which has to be named.
    """

    words: tuple[str, ...]
    takes: frozenset[str] = frozenset()
    narrowable: bool = False
    warns: bool = False
    macro: bool = False

    def __str__(self) -> str:
        return f"dbt {' '.join(self.words)}"


COMMANDS = {
    "Build": Command(words=("build",), takes=_BUILDING, narrowable=True, warns=True),
    "Run": Command(words=("run",), takes=_BUILDING, narrowable=True, warns=True),
    "Seed": Command(words=("seed",), takes=_BUILDING, narrowable=True, warns=True),
    "Snapshot": Command(words=("snapshot",), takes=_CHECKING, narrowable=True, warns=True),
    "Test": Command(words=("test",), takes=_CHECKING, narrowable=True, warns=True),
    "Source": Command(words=("source", "freshness"), takes=_CHECKING, narrowable=True, warns=True),
    "Compile": Command(words=("compile",), takes=_BUILDING),
    "Clone": Command(words=("clone",), takes=_BUILDING),
    "LS": Command(words=("ls",), takes=SELECTION),
    "RunOperation": Command(words=("run-operation",), takes=frozenset({"threads"}), macro=True),
    "Docs": Command(words=("docs", "generate"), takes=_CHECKING),
    "Deps": Command(words=("deps",)),
}
"""By what is between ``Dbt`` and the mode in the names of the operators: ``DbtRunLocalOperator``, ``DbtRunVirtualenvOperator``."""

BUILD = COMMANDS["Build"]
