"""What dbt wants where an Airflow connection has it in another form. Each of them takes the value and the connection.

:raises ValueError: the value cannot be that; the message says what it has to be, and not what it is.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow.profiles.connection import ConnectionView

Convert: TypeAlias = Callable[[Any, ConnectionView], Any]

_PEM = "-----BEGIN"
_WITHOUT_SUFFIX = "us-west-2"
"""The region of Snowflake whose accounts are named without it."""


def number(value: Any, _connection: ConnectionView) -> int:  # noqa: ANN401 - whatever the JSON has
    """A whole number; in a connection that is written as a URI, all of it is text."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError("a whole number") from None


def flag(value: Any, _connection: ConnectionView) -> bool:  # noqa: ANN401
    """True or false, also as a word."""
    words = {"true": True, "1": True, "false": False, "0": False}
    found = words.get(str(value).lower())
    if found is None:
        raise ValueError("true or false")
    return found


def without_scheme(value: Any, _connection: ConnectionView) -> str:  # noqa: ANN401
    """The host of a URL."""
    return str(value).removeprefix("https://").removeprefix("http://")


def snowflake_account(value: Any, connection: ConnectionView) -> str:  # noqa: ANN401
    """The account, with its region if the connection names one that is not part of it yet."""
    region = connection.find(["extra.region"])
    return f"{value}.{region}" if region and region != _WITHOUT_SUFFIX and region not in str(value) else str(value)


def private_key(value: Any, _connection: ConnectionView) -> str:  # noqa: ANN401
    """A key in PEM, which newer providers of Snowflake keep in base64."""
    text = str(value)
    try:
        decoded = base64.b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return text
    return decoded if _PEM in decoded else text


def key_dict(value: Any, _connection: ConnectionView) -> dict[str, Any]:  # noqa: ANN401
    """The key of a Google service account, as an object or as its JSON."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.get("private_key"):
        raise ValueError("the JSON of a service account's key, with its private_key")
    return dict(found)


def aws_credentials(conn_id: str) -> Mapping[str, Any]:
    """The keys that Amazon's provider makes of a connection: its own, or those of a role that it assumes.

    :raises ConfigError: there is no such provider, or no keys.
    """
    try:
        hooks = importlib.import_module("airflow.providers.amazon.aws.hooks.base_aws")  # few have it, and it is heavy
    except ImportError as error:
        raise ConfigError(
            f"The profile of the connection {conn_id!r} needs Amazon's provider: pip install apache-airflow-providers-amazon."
        ) from error
    found = hooks.AwsGenericHook(aws_conn_id=conn_id).get_credentials()
    if not found.access_key or not found.secret_key:
        raise ConfigError(f"The connection {conn_id!r} gives no AWS keys; add login and password, or a role_arn, to it.")
    return {"aws_access_key_id": found.access_key, "aws_secret_access_key": found.secret_key, "aws_session_token": found.token}
