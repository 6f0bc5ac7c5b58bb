"""The page of a run's timeline: one HTML file with its style, its script and its data inside, which asks no network for anything.

The data is that of :func:`ledger_watcher.report.timeline.timeline_data`, as JSON in an element that no browser executes. The script
reads it and writes text only as text (``textContent``); a Content-Security-Policy allows this script and this style by their hashes, and
nothing else. Without a script the page is a table.

Another page can draw the same: :func:`style` and :func:`script` give ``LedgerTimeline.mount(element)``, whose ``update(data)`` draws, and
draws anew whenever it is called with newer data, with selection, filters and zoom as they were. ``LedgerTimeline.dom`` is what makes its elements,
for what stands around it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

_SCRIPTS = ("dom.js", "axis.js", "gantt.js", "details.js", "panels.js", "nodes.js", "main.js")
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render(data: Mapping[str, Any]) -> str:
    """The page of a run. Characters that are not Unicode's (lone surrogates) do not occur in the data: its texts are inert."""
    import jinja2  # noqa: PLC0415 - the other commands do not need it

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string(_file("page.html"))
    texts = {"style": style(), "script": f"{script()}\n{_file('boot.js')}"}
    policy = {f"{name}_hash": _hash(text) for name, text in texts.items()}
    return template.render(data=data, json=as_json(data), **texts, **policy)


def as_json(data: object) -> str:
    """JSON that can stand inside a script element: without ``<``, ``>``, ``&`` and the line ends that are JavaScript's alone."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def style() -> str:
    """The style sheet."""
    return _file("page.css")


@cache
def script() -> str:
    """The script, which defines ``LedgerTimeline`` and does nothing else."""
    inner = "\n".join(_file(name) for name in _SCRIPTS)
    return f'"use strict";\nconst LedgerTimeline = (() => {{\n{inner}\nreturn {{ mount, dom }};\n}})();'


@cache
def _file(name: str) -> str:
    return files(__name__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
