"""A set of nodes as one short word: for command lines, and for what Airflow stores of a task."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence

from ledger_watcher import plain
from ledger_watcher.errors import ConfigError

_DOTS = 2  # model.package.name
_PACK_ADVICE = "Make it with ledger_watcher.packing.pack(unique_ids): base64 of zlib of a JSON list of unique_ids."


def pack(unique_ids: Iterable[str]) -> str:
    """A set of unique_ids as one word of a command line, ``""`` if it is empty: base64 (of the URL alphabet) of zlib of a JSON list.

    The same set always gives the same word. 5,000 names take about 50 kB.

    >>> sorted(unpack(pack(["model.shop.orders", "model.shop.customers", "model.shop.orders"])))
    ['model.shop.customers', 'model.shop.orders']
    """
    names = sorted(set(unique_ids))
    return base64.urlsafe_b64encode(zlib.compress(plain.dumps(names), 9)).decode() if names else ""


def unpack(word: str) -> frozenset[str]:
    """The set that :func:`pack` made into ``word``.

    :raises ConfigError: it is no such word, or holds something else, or nothing.
    """
    try:
        found = plain.loads(zlib.decompress(base64.b64decode(word, altchars=b"-_", validate=True)))
    except (ValueError, zlib.error) as error:
        raise ConfigError(f"A packed set of nodes could not be read: {error}. {_PACK_ADVICE}") from error
    if not isinstance(found, list):
        raise ConfigError(f"A packed set of nodes is a JSON list, not {type(found).__name__}. {_PACK_ADVICE}")
    if problem := problem_of(found):
        raise ConfigError(f"A packed set of nodes holds {problem}. {_PACK_ADVICE}")
    return frozenset(found)


def names_of(nodes: Sequence[str] | str) -> tuple[str, ...]:
    """The unique_ids that stand as a list or as one word."""
    return tuple(sorted(unpack(nodes))) if isinstance(nodes, str) else tuple(nodes)


def problem_of(found: list[object]) -> str | None:
    """What is wrong with a list that should be one of unique_ids."""
    odd = [name for name in found if not isinstance(name, str) or name.count(".") < _DOTS or " " in name]
    if odd:
        return f"{odd[0]!r}, which is no unique_id"
    return None if found else "no nodes"
