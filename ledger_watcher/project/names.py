"""Names of tasks: short where that is unambiguous, valid ids always, and the same whatever the order of the manifest.

A task group and a task may not share an id in Airflow, so all ids at the top of the graph are looked at together.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ledger_watcher.errors import ConfigError

ID_LIMIT = 250
"""Longest task id that Airflow stores."""
_GROUP_LIMIT = 200
_DIGITS = 8
_INVALID = re.compile(r"[^\w.-]")
_LONGEST_LEAF = len(".shared_test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who wants a name: as the task ``<name>_<suffix>``, or as the group ``<name>`` of several tasks."""

    key: str
    name: str
    package: str
    suffix: str
    grouped: bool

    def id_of(self, name: str) -> str:
        """The id at the top of the graph that comes of ``name``."""
        return name if self.grouped else f"{name}_{self.suffix}"


def assign_names(wanted: Iterable[Wanted], *, reserved: Collection[str], id_limit: int) -> dict[str, str]:
    """A name for each key: its own, with its package in front where several want the same, with a hash where that does not help.

    All who want the same give way, so that a name never depends on who came first.

    :raises ConfigError: ``id_limit`` leaves no room for names.
    """
    choices = {want.key: _choices(want, id_limit) for want in wanted}
    level = dict.fromkeys(choices, 0)
    by_key = {want.key: want for want in wanted}
    while True:
        ids = {key: by_key[key].id_of(choices[key][level[key]]) for key in choices}
        count = Counter(ids.values())
        clashing = [key for key, task in ids.items() if (count[task] > 1 or task in reserved) and level[key] + 1 < len(choices[key])]
        if not clashing:
            return {key: names[level[key]] for key, names in choices.items()}
        for key in clashing:
            level[key] += 1


def _choices(want: Wanted, id_limit: int) -> tuple[str, ...]:
    limit = min(_GROUP_LIMIT, id_limit - _LONGEST_LEAF) if want.grouped else id_limit - len(want.suffix) - 1
    if limit < 2 * _DIGITS:
        raise ConfigError(
            f"Task ids may have {ID_LIMIT} characters; the names of the task groups around leave {max(0, limit)} for the nodes'."
        )
    digest = hashlib.sha256(want.key.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    room = limit - _DIGITS - 1
    valid = [_INVALID.sub("_", text) for text in (want.name, f"{want.package}_{want.name}")]
    if want.grouped:  # a dot is what separates a group from its tasks
        valid = [text.replace(".", "_") for text in valid]
    return (*(text if len(text) <= limit else f"{text[:room]}_{digest}" for text in valid), f"{valid[0][:room]}_{digest}")
