"""Taking out what a ledger must not hold: secret values, and the parts of dbt's artifacts that have them.

dbt's callbacks and Fusion's output are not scrubbed at all; core's output is scrubbed of ``DBT_ENV_SECRET_*`` values only, its artifacts of
nothing. ``--vars`` stand in run_results.json under ``args``, and ``DBT_ENV_CUSTOM_ENV_*`` in ``metadata.env`` of every artifact.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ledger_watcher import codec

_SECRET_PREFIX = "DBT_ENV_SECRET"  # noqa: S105 - dbt_common.constants.SECRET_ENV_PREFIX
_SHORTEST = 4
_MASK = "*****"  # as dbt writes it

_ARGS = frozenset(
    """
    cache_selected_only command defer empty event_time_end event_time_start exclude exclude_resource_types export_saved_queries fail_fast
    favor_state full_refresh indirect_selection models partial_parse populate_cache profile resource_types sample select selector
    store_failures target threads version_check warn_error which write_json
    """.split()  # noqa: SIM905 - a line each would fill a page
)
"""Keys of ``args`` that are kept: what was run, never with which values."""


class Masker:
    """Replaces texts: secret values by ``*****``, and the attempt's own target folder by the user's, which its files are moved to.

    A secret of fewer than four characters is left alone: it would tear up everything else.
    """

    def __init__(self, env: Mapping[str, str], folders: Iterable[tuple[str, str]] = ()) -> None:
        secrets = {value for name, value in env.items() if name.startswith(_SECRET_PREFIX) and len(value.strip()) >= _SHORTEST}
        self._secrets = sorted(secrets, key=len, reverse=True)
        self._folders = [(old, new) for old, new in folders if old != new]

    def text(self, text: str) -> str:
        """``text`` without secrets, its paths those of the user."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        for old, new in self._folders:
            text = text.replace(old, new)
        return text

    def paths(self, data: bytes) -> bytes:
        """JSON with the user's paths, otherwise untouched."""
        for old, new in self._folders:
            data = data.replace(json.dumps(old)[1:-1].encode(), json.dumps(new)[1:-1].encode())
        return data

    def tree(self, value: Any, raw: bytes) -> Any:  # noqa: ANN401 - JSON is any
        """Plain data without secrets; ``raw``, its JSON, tells whether there are any, so that a large manifest is not walked for nothing."""
        if not any(form in raw for secret in self._secrets for form in _forms(secret)):
            return value
        return self._walk(value)

    def _walk(self, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self._walk(item) for key, item in value.items()}
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
    return codec.dumps(masker.tree(found, data) if masker is not None else found)


def _forms(secret: str) -> set[bytes]:
    """How a text may stand in JSON: Python's writer escapes everything beyond ASCII, others nothing."""
    return {json.dumps(secret)[1:-1].encode(), json.dumps(secret, ensure_ascii=False)[1:-1].encode()}
