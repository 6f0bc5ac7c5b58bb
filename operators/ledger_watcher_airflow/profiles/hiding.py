"""Secrets out of a profile and into the environment, where dbt looks them up.

The names begin with ``DBT_ENV_SECRET_``: dbt allows those in profiles.yml, masks their values in its logs, keeps them out of its partial
parse, and does not parse a project anew because one has changed (https://docs.getdbt.com/reference/dbt-jinja-functions/env_var).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

PREFIX = "DBT_ENV_SECRET_"

_JINJA = re.compile(r"\{[{%#]")
_REFERENCE = re.compile(r"""\{\{\s*env_var\(\s*(["'])(?P<name>\w+)\1\s*\)\s*\}\}""")
_EVERY_OTHER = re.compile(r"\W", re.ASCII)


@dataclass(slots=True)
class Hiding:
    """Collects in ``env`` what it takes out of profiles."""

    env: dict[str, str] = field(default_factory=dict, repr=False)

    def text(self, text: str, name: str) -> str:
        """What stands for ``text`` in a profile. ``name`` becomes part of the variable's."""
        variable = PREFIX + _EVERY_OTHER.sub("_", name).upper()
        while self.env.setdefault(variable, text) != text:
            variable += "_"
        return _env_var(variable)

    def tree(
        self,
        value: Any,  # noqa: ANN401 - YAML is any
        secret: Callable[[str], bool],
        name: str,
        *,
        literal: bool,
        path: str = "",
    ) -> Any:  # noqa: ANN401
        """Plain data with a reference in place of each text whose ``name`` (that of the nearest key) is secret.

        :param literal: the data knows no Jinja: what looks like it is taken out, too, lest dbt renders it. Otherwise texts that call
            ``env_var`` stay as they are.
        """
        path = path or name
        if isinstance(value, Mapping):
            return {key: self.tree(one, secret, str(key), literal=literal, path=f"{path}_{key}".lstrip("_")) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.tree(one, secret, name, literal=literal, path=f"{path}_{place}") for place, one in enumerate(value)]
        if not isinstance(value, str) or not value:
            return value
        hidden = secret(name) and (literal or "env_var(" not in value)
        return self.text(value, f"PROFILE_{path}") if hidden or (literal and _JINJA.search(value)) else value

    def referred(self, value: Any, env: Mapping[str, str]) -> Any:  # noqa: ANN401
        """Plain data in which what refers to a variable of ``env``, and to nothing else, refers to one with the same value in :attr:`env`."""
        if isinstance(value, Mapping):
            return {key: self.referred(one, env) for key, one in value.items()}
        if isinstance(value, list):
            return [self.referred(one, env) for one in value]
        found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if found is None or found["name"].startswith(PREFIX) or found["name"] not in env:
            return value
        return self.text(env[found["name"]], found["name"])


def looks_secret(name: str) -> bool:
    """Whether a value of this name is taken for a secret, as everywhere else in this project."""
    from ledger_watcher.capture.secrets import SECRET_KEY  # noqa: PLC0415 - a DAG file's parse needs none of it

    return SECRET_KEY.match(name) is not None


def _env_var(name: str) -> str:
    return f"{{{{ env_var('{name}') }}}}"
