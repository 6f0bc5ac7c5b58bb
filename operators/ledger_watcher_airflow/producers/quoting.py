"""Words of a command as Jinja templates, such that what is meant literally arrives literally.

A command for an operator of Airflow goes through Jinja, and then, depending on the operator, through a shell or through Kubernetes' own
``$(NAME)``. A word is made of pieces: text (never a template), an expression, or a template of the user's; whatever they render to is
quoted after it was rendered, and never rendered again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PLAIN = re.compile(r"[\w@+=:,/-]*", re.ASCII)
_INSIDE = re.compile(r"[A-Za-z0-9 _@+=:,./-]")
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")


@dataclass(frozen=True, slots=True)
class Quoting:
    """How a word is written for what reads it: each pair is replaced, ``around`` put on both sides."""

    pairs: tuple[tuple[str, str], ...] = ()
    around: str = ""

    def text(self, text: str) -> str:
        """The text, written so."""
        for old, new in self.pairs:
            text = text.replace(old, new)
        return text


ARGV = Quoting()
"""The operator hands each word over as it is."""

SHELL = Quoting((("'", "'\"'\"'"),), "'")
"""One word of a POSIX shell."""

KUBERNETES = Quoting((("$", "$$"),))
"""Kubernetes expands ``$(NAME)`` in commands, arguments and variables, and reads ``$$`` as one ``$``."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A Jinja expression whose value is meant, as text. ``setup`` is what has to stand before it."""

    source: str
    setup: str = ""


Word = Sequence[str | Expression]
"""A word by its pieces."""


def template(word: Word, quoting: Quoting) -> str:
    """The word as a Jinja template."""
    written = "".join(_piece(piece, quoting) for piece in word)
    return f"{quoting.around}{written}{quoting.around}"


def _piece(piece: str | Expression, quoting: Quoting) -> str:
    if isinstance(piece, str):
        text = quoting.text(piece)
        # In an expression, Jinja changes nothing: in text it would drop a last newline and change others; and Airflow would take a word
        # that ends in .sh for the name of a file.
        return text if _PLAIN.fullmatch(text) else "{{ " + literal(text) + " }}"
    value = f'("%s" % (({piece.source}),))'  # a plain string: the replace() of Markup, which tojson gives, would escape for HTML
    for old, new in quoting.pairs:
        value = f"{value}.replace({literal(old)}, {literal(new)})"
    return piece.setup + "{{ " + value + " }}"


def literal(text: str) -> str:
    """The text as a string of a Jinja expression, without any character that Jinja could take for something else."""
    return '"' + "".join(char if _INSIDE.match(char) else _escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    number = ord(char)
    return f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"


def rendered(text: str, name: str = "rendered") -> Expression:
    """A user's template as an expression; its value is held in the Jinja variable ``name``."""
    if not _TEMPLATE.search(text):
        return Expression(literal(text))
    return Expression(name, "{% set " + name + " %}" + text + "{% endset %}")


def json_of(fixed: Mapping[str, object], templated: Mapping[str, object]) -> Expression:
    """Both together as JSON, where the strings of ``templated`` are templates, at any depth."""
    setups: list[str] = []

    def source(value: object, *, is_template: bool) -> str:
        if isinstance(value, str):
            expression = rendered(value, f"value{len(setups)}") if is_template else Expression(literal(value))
            if expression.setup:
                setups.append(expression.setup)
            return expression.source
        if isinstance(value, Mapping):
            items = (f"{literal(str(key))}: {source(item, is_template=is_template)}" for key, item in value.items())
            return "{" + ", ".join(items) + " }"
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(source(item, is_template=is_template) for item in value) + "]"
        if value is None or isinstance(value, (bool, int, float)):
            return repr(value)
        return literal(str(value))  # dates, as in YAML: dbt reads the text

    known = {**{name: (value, False) for name, value in fixed.items()}, **{name: (value, True) for name, value in templated.items()}}
    items = ", ".join(f"{literal(name)}: {source(value, is_template=flag)}" for name, (value, flag) in known.items())
    return Expression("{" + items + " }|tojson", "".join(setups))
