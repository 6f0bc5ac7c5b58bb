"""Text that is safe and short enough to show.

Names and messages come from projects and warehouses: a control character in them could move the cursor, recolour or retitle the
terminal, or hide what stands beside it. Everything that is shown goes through :func:`inert`.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime, timezone

_MINUTE = 60
_HOUR = 3600
_DAY = 86400


def inert(text: object) -> str:
    r"""``text`` on one line with every character that is not printable written as an escape (``\x1b``, ``\n``, ``\u202e``)."""
    raw = str(text)
    if raw.isprintable():
        return raw
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in raw)


def inert_lines(text: str) -> list[str]:
    """The lines of ``text``, each inert; tabs become spaces."""
    return [inert(line.expandtabs(4)) for line in text.splitlines()]


def first_line(text: str | None) -> str:
    """The first line of ``text`` that says something, inert; empty if none does."""
    return next((line.strip() for line in inert_lines(text or "") if line.strip()), "")


def encodable(text: str, encoding: str | None) -> str:
    """``text`` as an output of that encoding can take it: what it cannot is written as an escape."""
    name = encoding or "utf-8"
    return text.encode(name, "backslashreplace").decode(name)


def width(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def duration(seconds: float | None) -> str:
    """A length of time for people: ``0.31 s``, ``12.3 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    if seconds < _MINUTE - 0.05:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"  # noqa: PLR2004 - as many digits as a glance takes in
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"


def age(since: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit: ``4 s``, ``12 min``, ``3 h``, ``2 d``. A time ahead of this clock is ``0 s``."""
    if since is None:
        return ""
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def clock(time: datetime | None, *, date: bool = True) -> str:
    """A time in UTC to the second: ``2026-07-31 10:00:01Z``, or its time of day."""
    if time is None:
        return ""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ" if date else "%H:%M:%SZ")
