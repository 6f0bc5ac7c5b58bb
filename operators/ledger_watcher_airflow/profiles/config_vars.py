"""dbt's own settings beside a profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ledger_watcher import codec
from ledger_watcher.errors import ConfigError

_BOOLEANS = (
    "send_anonymous_usage_stats",
    "partial_parse",
    "use_experimental_parser",
    "static_parser",
    "write_json",
    "warn_error",
    "debug",
    "version_check",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DbtProfileConfigVars:
    """Settings of dbt, which get to it as environment variables ``DBT_...``: dbt 1.8 and newer read none in profiles.yml.

    What is ``None`` is as dbt, its project or its environment have it. The names are those of
    https://docs.getdbt.com/reference/global-configs/about-global-configs.

    :raises ConfigError: a value that the setting cannot have.
    """

    send_anonymous_usage_stats: bool | None = False
    partial_parse: bool | None = None
    use_experimental_parser: bool | None = None
    static_parser: bool | None = None
    printer_width: int | None = None
    write_json: bool | None = None
    warn_error: bool | None = None
    warn_error_options: Mapping[str, Any] | None = None
    log_format: str | None = None
    debug: bool | None = None
    version_check: bool | None = None

    def __post_init__(self) -> None:
        for name in _BOOLEANS:
            if not isinstance(getattr(self, name), (bool, type(None))):
                raise ConfigError(f"DbtProfileConfigVars({name}={getattr(self, name)!r}) is neither True nor False.")
        if self.printer_width is not None and not isinstance(self.printer_width, int):
            raise ConfigError(f"DbtProfileConfigVars(printer_width={self.printer_width!r}) is no number.")
        if self.warn_error_options is not None and not isinstance(self.warn_error_options, Mapping):
            raise ConfigError(f"DbtProfileConfigVars(warn_error_options={self.warn_error_options!r}) is no dict.")
        if self.log_format not in (None, "text", "json", "default"):
            raise ConfigError(f"DbtProfileConfigVars(log_format={self.log_format!r}): dbt knows text, json and default.")

    @property
    def env(self) -> dict[str, str]:
        """The environment variables."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            f"DBT_{name.upper()}": codec.dumps(value).decode() if isinstance(value, Mapping) else str(value)
            for name, value in found.items()
            if value is not None
        }
