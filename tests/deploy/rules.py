"""Who may do what, decided as IAM does: a Deny that fits wins, then an Allow that fits, else no. Only the conditions that the module uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

Statement = Mapping[str, Any]
Context = Mapping[str, str]

# What a request that lacks the key gives: IAM's rules (a negated operator fits, the others do not).
_OPERATORS: Mapping[str, Callable[[str | None, str], bool]] = {
    "Null": lambda found, wanted: (found is None) == (wanted == "true"),
    "Bool": lambda found, wanted: found is not None and found == wanted,
    "ArnNotEquals": lambda found, wanted: found is None or not fnmatchcase(found, wanted),
    "StringLike": lambda found, wanted: found is not None and fnmatchcase(found, wanted),
    "NumericLessThan": lambda found, wanted: found is not None and float(found) < float(wanted),
}


def allowed(statements: Iterable[Statement], action: str, resource: str, context: Context) -> bool:
    """Whether the statements, of the identity and of the bucket, let the request through."""
    effects = {statement["Effect"] for statement in statements if _fits(statement, action, resource, context)}
    return effects == {"Allow"}


def _fits(statement: Statement, action: str, resource: str, context: Context) -> bool:
    return (
        any(fnmatchcase(action, pattern) for pattern in statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        and all(
            _holds(operator, context.get(key), values)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(operator: str, found: str | None, values: str | list[str]) -> bool:
    wanted = values if isinstance(values, list) else [values]
    together = all if "Not" in operator else any
    return together(_OPERATORS[operator](found, value) for value in wanted)
