"""Arguments that are not known: which one was meant, or what to write here instead."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar

from ledger_watcher.errors import ConfigError

T = TypeVar("T")


class UnknownArgument(ConfigError, TypeError):
    """There is no such argument, as Python says, and what to write instead."""


def unknown(where: str, name: str, known: Collection[str], instead: Mapping[str, str]) -> UnknownArgument:
    """The error for an argument that there is not.

    :param where: what it was given to, with ``{}`` for the name.
    :param instead: what to write instead of arguments that users of astronomer-cosmos know.
    """
    given = where.format(name)
    if name in instead:
        return UnknownArgument(f"{given} has no meaning here: {instead[name]}.")
    from difflib import get_close_matches  # noqa: PLC0415 - only those who err need it

    near = get_close_matches(name, known, n=1)
    advice = f"did you mean {where.format(near[0])}?" if near else f"known are {', '.join(sorted(known))}."
    return UnknownArgument(f"{given} is not known here: {advice}")


def names_checked(instead: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """A configuration class says what to write in place of an argument that it does not have."""

    def decorate(cls: type[T]) -> type[T]:
        known = [one.name for one in fields(cls) if one.init]  # type: ignore[arg-type]
        init = cls.__init__

        @wraps(init)
        def checked(self: T, *args: Any, **kwargs: Any) -> None:
            for name in kwargs:
                if name not in known:
                    raise unknown(f"{cls.__name__}({{}}=...)", name, known, instead)
            init(self, *args, **kwargs)

        cls.__init__ = checked  # type: ignore[method-assign,assignment]
        return cls

    return decorate
