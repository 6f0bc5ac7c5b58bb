"""What dbt is told to select. What that selects is for dbt to say: nothing here reads an expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger_watcher.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """``select`` and ``exclude`` are words of which dbt takes the union; ``selector`` is the name of one in selectors.yml.

    ``options`` are the other words of a command line that have a part in it, such as ``--indirect-selection eager``. ``exactly``: there are
    no words that select these nodes, only the nodes themselves.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    selector: str | None = None
    options: tuple[str, ...] = ()
    exactly: bool = False

    @classmethod
    def of(cls, select: str | Sequence[str], exclude: str | Sequence[str], selector: str | None) -> Selection:
        """A user's; as for dbt itself, one string may hold several words.

        :raises ConfigError: not words, or a selector beside others, which dbt would ignore.
        """
        found = cls(select=_words("select", select), exclude=_words("exclude", exclude), selector=_selector(selector))
        if found.selector and (found.select or found.exclude):
            raise ConfigError("selector together with select or exclude: dbt would ignore the latter; give one of them.")
        return found

    def __bool__(self) -> bool:
        return bool(self.select or self.exclude or self.selector or self.options or self.exactly)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of a command line."""
        return (
            *(word for one in self.select for word in ("--select", one)),
            *(word for one in self.exclude for word in ("--exclude", one)),
            *(("--selector", self.selector) if self.selector else ()),
            *self.options,
        )


def _words(name: str, value: str | Sequence[str] | None) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value or ()
    odd = next((text for text in texts if not isinstance(text, str)), None)
    if odd is not None:
        raise ConfigError(f"{name} holds {odd!r}; write dbt's words as strings: {name}=['tag:daily', 'path:models/marts'].")
    return tuple(word for text in texts for word in text.split())


def _selector(value: str | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"selector={value!r} is no name; write that of a selector in selectors.yml: selector='nightly'.")
    return value or None
