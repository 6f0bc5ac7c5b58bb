"""Where the objects of a run lie below the root.

::

    v1/deployment=<d>/dag=<dag_id>/run=<run_id>/group=<group path>/map=<map index>/seg/0000000000.jsonl
                                                                                    /ckpt/0000000063.jsonl
                                                                                    /files/<stem>.<sha256>.<suffix>

Values are percent-encoded (RFC 3986, unreserved characters stay) and so reversible; a value never contains ``/`` and its part
begins with ``name=``, so that an id can neither leave the root nor collide with another. The names make Hive partitions of the
parts, which DuckDB, Athena and BigQuery read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ledger_watcher.errors import ConfigError

if TYPE_CHECKING:
    from ledger_watcher.storage import Store

_PART_LIMIT = 200
"""Longest path part in bytes: file systems allow 255. What is longer goes on in parts that begin with ``+``."""

_VERSION = "v1"
SEG, CKPT, FILES = "seg", "ckpt", "files"
"""The folders of a run."""
_END = ".end"
_SEGMENT = re.compile(r"[0-9]{10,}\.jsonl")
_CHECKPOINT = re.compile(r"([0-9]{10})(\.end)?\.jsonl")
_NAMES = ("deployment", "dag", "run", "group", "map")


@dataclass(frozen=True, slots=True)
class RunKey:
    """The identity of a ledger below its root: producer and consumers derive it on their own.

    ``group`` is the full task group path of the producer, empty at the top of a DAG; ``map_index`` is -1 unless mapped.

    >>> RunKey("shop", "manual__2026-01-01T06:00:00+00:00").prefix
    'v1/deployment=default/dag=shop/run=manual__2026-01-01T06%3A00%3A00%2B00%3A00/group=/map=-1'
    >>> RunKey.from_prefix("v1/deployment=default/dag=shop/run=a%2Fb/group=load.dbt/map=3/seg").run_id
    'a/b'
    """

    dag_id: str
    run_id: str
    group: str = ""
    map_index: int = -1
    deployment: str = "default"

    def __post_init__(self) -> None:
        for name in ("deployment", "dag_id", "run_id"):
            if not getattr(self, name):
                raise ConfigError(f"The {name} of a ledger is empty; every run needs one.")

    @property
    def prefix(self) -> str:
        """The run's folder, relative to the root, without a slash at its end."""
        values = (self.deployment, self.dag_id, self.run_id, self.group, str(self.map_index))
        return "/".join((_VERSION, *(part for name, value in zip(_NAMES, values, strict=True) for part in _encode(name, value))))

    @classmethod
    def from_prefix(cls, prefix: str) -> RunKey:
        """The identity that :attr:`prefix` was made of; what lies inside that folder is accepted too.

        :raises ValueError: not the folder of a run, or one that :attr:`prefix` would write differently.
        """
        values: dict[str, str] = {}
        last = ""
        version, *parts = prefix.strip("/").split("/")
        for part in parts:
            if part.startswith("+") and last:
                values[last] += part[1:]
                continue
            last, sign, text = part.partition("=")
            if not sign:
                break
            values[last] = text
        if version != _VERSION or set(values) != set(_NAMES):
            raise ValueError(f"{prefix!r} is not the folder of a run")
        decoded = {name: unquote(text, errors="surrogatepass") for name, text in values.items()}
        try:
            key = cls(
                deployment=decoded["deployment"],
                dag_id=decoded["dag"],
                run_id=decoded["run"],
                group=decoded["group"],
                map_index=int(decoded["map"]),
            )
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if not f"{prefix.strip('/')}/".startswith(f"{key.prefix}/"):
            raise ValueError(f"{prefix!r} is not how the folder of that run is written: {key.prefix!r}")
        return key

    def segment(self, seq: int) -> str:
        """The key of segment ``seq``."""
        return f"{self.prefix}/{SEG}/{segment_name(seq)}"

    def checkpoint(self, seq: int, *, end: bool = False) -> str:
        """The key of a checkpoint of everything up to segment ``seq``; ``end``: written behind the end of an epoch."""
        return f"{self.prefix}/{CKPT}/{seq:010d}{_END if end else ''}.jsonl"

    def file(self, name: str, sha256: str) -> str:
        """The key of an artifact."""
        stem, dot, suffix = name.partition(".")
        return f"{self.prefix}/{FILES}/{quote(stem, safe='')}.{sha256}{dot}{quote(suffix, safe='')}"

    def __str__(self) -> str:
        group = f" group {self.group}" if self.group else ""
        mapped = f" map index {self.map_index}" if self.map_index >= 0 else ""
        return f"{self.dag_id} / {self.run_id}{group}{mapped}"


def segment_name(seq: int) -> str:
    """The file name of segment ``seq``: ten digits, so that names sort as numbers do."""
    return f"{seq:010d}.jsonl"


def segments_in(names: Iterable[str]) -> list[int]:
    """The numbers of the segments among file names, sorted."""
    return sorted(int(name[:-6]) for name in names if _SEGMENT.fullmatch(name) and segment_name(int(name[:-6])) == name)


def checkpoints_in(names: Iterable[str]) -> list[tuple[int, bool]]:
    """Number and ``end`` of the checkpoints among file names, sorted: of two of one number, the one of an end comes first.

    A writer that claims a run whose newest segment is ``n`` creates checkpoint ``n`` before its fence. So an end's checkpoint that is the
    last of these says that nothing came after that end when the names were listed.
    """
    found = [(int(match[1]), match[2] is not None) for name in names if (match := _CHECKPOINT.fullmatch(name))]
    return sorted(found, key=lambda each: (each[0], not each[1]))


def list_runs(store: Store, *, deployment: str | None = None, dag_id: str | None = None) -> Iterator[RunKey]:
    """Every run below the root, in the order of its path. Folders that are not those of a run are passed over.

    Giving ``deployment`` or ``dag_id`` saves the requests for the folders of others.
    """
    start = _VERSION if deployment is None else f"{_VERSION}/{'/'.join(_encode('deployment', deployment))}"
    only = None if dag_id is None else _encode("dag", dag_id)[0]
    for run in _walk(store, start, only):  # a long name's folder lies in that of a shorter one, so the folder is not enough
        if dag_id in (None, run.dag_id) and deployment in (None, run.deployment):
            yield run


def _walk(store: Store, prefix: str, only_dag: str | None) -> Iterator[RunKey]:
    names = store.list(prefix)
    if SEG in names:
        with suppress(ValueError):  # a stranger's folder of that name
            yield RunKey.from_prefix(prefix)
            return
    for name in names:
        other_dag = only_dag is not None and name.startswith("dag=") and name != only_dag
        if not other_dag and (name.startswith("+") or name.partition("=")[0] in _NAMES):
            yield from _walk(store, f"{prefix}/{name}", only_dag)


def _encode(name: str, value: str) -> list[str]:
    text = quote(value, safe="", errors="surrogatepass")
    pieces: list[str] = []
    while len(text) > _PART_LIMIT:
        cut = _PART_LIMIT
        while "%" in text[cut - 2 : cut]:
            cut -= 1
        pieces.append(text[:cut])
        text = text[cut:]
    pieces.append(text)
    first, *rest = (f"{piece[:-1]}%2E" if piece.endswith(".") else piece for piece in pieces)  # Azure drops a part's last dot
    return [f"{name}={first}", *(f"+{piece}" for piece in rest)]
