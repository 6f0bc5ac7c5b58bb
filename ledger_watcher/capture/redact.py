"""Taking out what a ledger must not hold: secret values, and the parts of dbt's artifacts that have them.

dbt's callbacks and Fusion's output are not scrubbed at all; core's output is scrubbed of ``DBT_ENV_SECRET_*`` values only, its artifacts of
nothing. ``--vars`` stand in run_results.json under ``args``, and ``DBT_ENV_CUSTOM_ENV_*`` in ``metadata.env`` of every artifact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from ledger_watcher import codec
from ledger_watcher.capture.secrets import SECRET_KEY

_MASK = "*****"  # as dbt writes it

_ARGS = frozenset(
    """
    cache_selected_only command defer empty event_time_end event_time_start exclude exclude_resource_types export_saved_queries fail_fast
    favor_state full_refresh indirect_selection models partial_parse populate_cache profile resource_types sample select selector
    store_failures target threads version_check warn_error which write_json
    """.split()  # noqa: SIM905 - a line each would fill a page
)
"""Keys of ``args`` that are kept: what was run, never with which values."""

# Credentials in a URL: name and password (or a token alone, in http). What is before the @ of abfss://container@account is none.
_CREDENTIALS = re.compile(
    r"""(?P<http>\bhttps?://)[^/\s'"<>]+@|(?P<user>\b[a-z][a-z0-9+.-]*://[^/:@\s'"<>]*:)[^/\s'"<>]+@""", re.IGNORECASE
)
# Parameters in one, such as ?motherduck_token= or a signature.
_PARAMETER = re.compile(r"""([?&;][\w-]*(?:token|password|pwd|secret|signature|sig|access_?key|api_?key)=)[^&;\s'"<>]+""", re.IGNORECASE)


class Masker:
    """Replaces texts: secret values and credentials in URLs by ``*****``, and the folder that the attempt worked in by the user's.

    A secret is found as it is, as JSON, Python or a URL write it, and nowhere else: not in parts, not in base64.
    """

    def __init__(self, secrets: Iterable[str] = (), folders: Iterable[tuple[str, str]] = ()) -> None:
        self._secrets = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._folders = [(old, new) for old, new in folders if old != new]

    def text(self, text: str) -> str:
        """``text`` without secrets, its paths those of the user."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        if "@" in text and "://" in text:
            text = _CREDENTIALS.sub(lambda found: f"{found['http'] or found['user']}{_MASK}@", text)
        if "=" in text and ("?" in text or "&" in text or ";" in text):
            text = _PARAMETER.sub(rf"\1{_MASK}", text)
        for old, new in self._folders:
            text = text.replace(old, new)
        return text

    def paths(self, data: bytes) -> bytes:
        """JSON with the user's paths, otherwise untouched."""
        for old, new in self._folders:
            data = data.replace(json.dumps(old)[1:-1].encode(), json.dumps(new)[1:-1].encode())
        return data

    def tree(self, value: Any, key: str = "") -> Any:  # noqa: ANN401 - JSON is any
        """Plain data without secrets, those included that stand under a name such as ``password``; ``key`` is the name of ``value``."""
        if isinstance(value, str):
            return _MASK if value and _names_a_secret(key) else self.text(value)
        if isinstance(value, list):
            return [self.tree(item, key) for item in value]
        if isinstance(value, dict):
            return {self.text(name): self.tree(item, name) for name, item in value.items()}
        return value


def redact(name: str, data: bytes, masker: Masker | None = None) -> bytes:
    """An artifact of dbt as it may be stored: ``args`` by an allow-list, no ``metadata.env``, no secret values, the user's paths.

    :raises ValueError: not a JSON object.
    """
    if masker is not None:
        data = masker.paths(data)
    found = codec.loads(data)
    if not isinstance(found, dict):
        raise ValueError(f"{name} is not a JSON object")  # noqa: TRY004 - the data is wrong, not the call
    if isinstance(found.get("metadata"), dict):
        found["metadata"].pop("env", None)
    if "args" in found:
        args = found["args"]
        found["args"] = {key: value for key, value in args.items() if key in _ARGS} if isinstance(args, dict) else {}
    return codec.dumps(masker.tree(found) if masker is not None else found)


def masked(value: Any, mask: Callable[[str], str]) -> Any:  # noqa: ANN401
    """Plain data with ``mask`` applied to every text that is a value in it."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [masked(item, mask) for item in value]
    return {key: masked(item, mask) for key, item in value.items()} if isinstance(value, dict) else value


@lru_cache(maxsize=4096)
def _names_a_secret(key: str) -> bool:
    return "." not in key and SECRET_KEY.match(key) is not None  # a.b.token is a unique_id


def _forms(secret: str) -> set[str]:
    """How a text may stand in another one: as it is, in JSON (with or without escapes beyond ASCII), in Python, in SQL, in a URL."""
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        secret.replace("'", "''"),
        quote(secret, safe="", errors="replace"),
        quote_plus(secret, errors="replace"),
    }
