"""What an emitter is, which ones there are, and what they know besides the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Protocol

from ledger_watcher import codec
from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.ledger.segments import Entry
from ledger_watcher.project.edges import parents_of

VARIABLE = "LEDGER_WATCHER_EMIT"
EMITTERS: Mapping[str, str] = {"openlineage": "openlineage.client", "otel": "opentelemetry.exporter.otlp.proto.http"}
"""Name of each emitter (and of the extra that installs it) and the module that it needs."""


class Emitter(Protocol):
    """Takes the records of one run, in their order and from one thread."""

    def take(self, entry: Entry) -> None:
        """Tell of one record. What it raises is not told; the next record may be."""

    def close(self, timeout: float) -> list[str]:
        """Send what waits, within so many seconds, and say what could not be sent."""


@dataclass(frozen=True, slots=True)
class Graph:
    """What a manifest knows of the nodes: unique_id -> what each depends on, and -> its relation as dbt writes it; the adapter's type."""

    parents: Mapping[str, Sequence[str]] = field(default_factory=dict)
    relations: Mapping[str, str] = field(default_factory=dict)
    adapter: str = ""

    @classmethod
    def of(cls, manifest: bytes) -> Graph:
        """The graph of a manifest.json; every field is optional (Fusion leaves many out).

        :raises ValueError: it is none.
        """
        raw = codec.loads(manifest)
        if not isinstance(raw, dict):
            raise ValueError("not a manifest: no object")  # noqa: TRY004 - the data is wrong, not the call
        found = {
            unique_id: str(node["relation_name"])
            for section in ("nodes", "sources")
            for unique_id, node in (raw.get(section) or {}).items()
            if isinstance(node, Mapping) and node.get("relation_name")
        }
        metadata = raw.get("metadata")
        return cls(parents_of(raw), found, str((metadata or {}).get("adapter_type") or ""))

    def inputs(self, unique_id: str) -> list[str]:
        """The relations that a node reads: those of its parents, and for a parent without one (an ephemeral model) those of its parents."""
        return list(dict.fromkeys(self._inputs(unique_id, {unique_id})))

    def _inputs(self, unique_id: str, seen: set[str]) -> Iterator[str]:
        for parent in self.parents.get(unique_id, ()):
            if parent in self.relations:
                yield self.relations[parent]
            elif parent not in seen:
                seen.add(parent)
                yield from self._inputs(parent, seen)


@dataclass(frozen=True)
class Origin:
    """The run that is told of. ``manifest`` returns the manifest's bytes, ``None`` if there is none (yet)."""

    run: RunKey
    manifest: Callable[[], bytes | None] = lambda: None

    @cached_property
    def graph(self) -> Graph:
        """Read when first asked for, which is when a node begins: dbt has written the manifest by then. Empty if there is none."""
        try:
            data = self.manifest()
            return Graph.of(data) if data else Graph()
        except (ValueError, AttributeError, TypeError):
            return Graph()

    @property
    def job(self) -> str:
        """The run's dbt in other people's words: the DAG, and the group if dbt belongs to one."""
        return ".".join(part for part in (self.run.dag_id, self.run.group, "dbt") if part)


def wanted_emitters(*environments: Mapping[str, str]) -> tuple[str, ...]:
    """Those of the variable ``LEDGER_WATCHER_EMIT``, with blanks between them; of several environments the last one that has it counts."""
    found = next((environment[VARIABLE] for environment in reversed(environments) if VARIABLE in environment), "")
    return tuple(found.split())


def check_emitters(names: Sequence[str]) -> None:
    """Make sure that they are known and installed.

    :raises ConfigError: one is not.
    """
    for name in names:
        module = EMITTERS.get(name)
        if module is None:
            raise ConfigError(f"There is no emitter {name!r}; correct --emit or {VARIABLE}: {', '.join(EMITTERS)}.")
        if not _installed(module):
            raise ConfigError(f"The emitter {name} needs libraries that are not installed: pip install 'ledger-watcher[{name}]'.")


def make_emitter(name: str, origin: Origin) -> Emitter:
    """An emitter, configured by the environment variables of OpenLineage or OpenTelemetry.

    :raises ConfigError: it is not known, not installed, or its configuration is not usable.
    """
    check_emitters((name,))
    from ledger_watcher.emit.openlineage import OpenLineage  # noqa: PLC0415 - each is loaded only where it is wanted
    from ledger_watcher.emit.otel import OpenTelemetry  # noqa: PLC0415

    made: Callable[[Origin], Any] = {"openlineage": OpenLineage, "otel": OpenTelemetry}[name]
    return made(origin)  # type: ignore[no-any-return]


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
