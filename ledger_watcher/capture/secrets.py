"""Which texts of a run are secret, as far as that can be known before dbt starts.

Known are the values of ``DBT_ENV_SECRET_*``, those of variables that the caller names, and what stands under a name such as ``password``
in profiles.yml and in ``--vars``. profiles.yml is read without a YAML library (dbt, which has one, may live in another environment): by
lines, every target of every profile, with ``env_var`` resolved and no other Jinja.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ledger_watcher.capture.argv import DbtCommand

_PREFIX = "DBT_ENV_SECRET"  # dbt_common.constants.SECRET_ENV_PREFIX
_SHORTEST = 4
"""A shorter text would tear up everything else."""
_SHORTEST_FOUND = 8
"""The same for what nobody named: a password such as ``test`` stands in half of all names."""
_LEAST_LINE = 16
"""A line of a secret of several lines (a private key) that counts by itself."""

SECRET_KEY = re.compile(
    r"(?:.*(?:passwd|password|passphrase|secret|token|credentials?|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key|keyfile_json)"
    r"|(?:.*[_.-])?(?:pass|pwd|sas))\Z",
    re.IGNORECASE | re.DOTALL,
)
"""Names whose values are secret, whoever gave them."""

# name: value, as a line of YAML or inside { }, also in JSON; the value is in double quotes, in single quotes, or plain.
_PAIR = re.compile(
    r"""(?P<name>[A-Za-z_][\w.-]*)["']?[ \t]*:[ \t]*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^']|'')*)'"""
    r"""|(?P<jinja>\{\{[^\n]*?\}\})|(?P<plain>[^\s"'#,{}\[\]][^\n,{}]*))?"""
)
_BLOCK = re.compile(r"[|>][-+0-9]*[ \t]*(?:#.*)?\Z")
_ENV_VAR = re.compile(r"""env_var\(\s*(["'])(?P<name>\w+)\1\s*(?:,\s*(["'])(?P<default>[^"']*)\3\s*)?\)""")


def known_secrets(
    command: DbtCommand, env: Mapping[str, str], cwd: Path, project: Path, redact_env: Collection[str] = ()
) -> frozenset[str]:
    """Every text that is to be masked.

    :param env: the environment, with which dbt starts in ``cwd``; ``project`` is the folder of its project.
    :param redact_env: names of environment variables whose values are secret.
    """
    named = [value for name, value in env.items() if name.startswith(_PREFIX) or name in redact_env]
    said = command.option("--profiles-dir") or env.get("DBT_ENGINE_PROFILES_DIR") or env.get("DBT_PROFILES_DIR")
    found: list[str] = []
    for folder in [cwd / said] if said else {cwd, project, Path(env.get("HOME", "")) / ".dbt"}:
        with suppress(OSError):  # there is none, as in most of the places
            found += secret_values((folder / "profiles.yml").read_text("utf-8", "replace"), env)
    found += secret_values(command.option("--vars") or "", env)
    return frozenset(_usable(named, _SHORTEST)) | frozenset(_usable(found, _SHORTEST_FOUND))


def secret_values(text: str, env: Mapping[str, str]) -> list[str]:
    """The values under secret names in YAML or JSON, without those that stand under another name too (``user: postgres``): no secret."""
    secret: list[str] = []
    other: set[str] = set()
    for pair in _PAIR.finditer(text):
        value = _value(pair, text)
        (secret.extend if SECRET_KEY.match(pair["name"]) else other.update)(_resolved(value, env))
    return [value for value in secret if value not in other]


def _value(pair: re.Match[str], text: str) -> str:
    if pair["double"] is not None:
        with suppress(ValueError):  # YAML has a few escapes more than JSON; they are not in keys and passwords
            return str(json.loads(f'"{pair["double"]}"', strict=False))
        return pair["double"]
    if pair["single"] is not None:
        return pair["single"].replace("''", "'")
    plain = (pair["jinja"] or pair["plain"] or "").split(" #", 1)[0].strip()
    return _block(pair, text) if _BLOCK.match(plain) else plain


def _block(pair: re.Match[str], text: str) -> str:
    """The lines below ``name: |`` that are indented deeper."""
    start = text.rfind("\n", 0, pair.start()) + 1
    indent = pair.start() - start
    lines = []
    for line in text[pair.end() :].split("\n")[1:]:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        lines.append(line.strip())
    return "\n".join(lines)


def _resolved(value: str, env: Mapping[str, str]) -> Iterator[str]:
    """The text, or what its calls of ``env_var`` stand for."""
    if "{{" not in value:
        yield value
    for call in _ENV_VAR.finditer(value):
        found = env.get(call["name"], call["default"])
        if found is not None:
            yield found


def _usable(values: Iterable[str], shortest: int) -> Iterator[str]:
    for value in (value.strip() for value in values):
        if len(value) >= shortest:
            yield value
        if "\n" in value:
            yield from (line for each in value.split("\n") if len(line := each.strip()) >= _LEAST_LINE)
