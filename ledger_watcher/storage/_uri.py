"""URIs of ledgers: which are meant, and what is wrong with the others."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from ledger_watcher.errors import ConfigError

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""The extra of this distribution that a scheme needs."""

_AZURE_HOST = re.compile(r"(?P<account>[a-z0-9-]+)\.(?:dfs|blob)\.(?P<cloud>[a-z0-9.-]+)")  # in any of Azure's clouds
_CONTAINER = re.compile(r"[a-z0-9$-]+")


def split_uri(uri: str) -> tuple[str, str]:
    """Scheme and path (bucket or container first) of a ledger's root.

    :raises ConfigError: empty, with credentials, a query or a fragment, or without a bucket.
    """
    if not isinstance(uri, str) or not uri.strip():
        raise ConfigError(
            "The ledger URI is empty; give a folder or a URI such as s3://bucket/prefix (ExecutionConfig.ledger_uri, or --ledger)."
        )
    if "://" not in uri:
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", uri):  # it would become a local folder named "s3:"
            raise ConfigError(f"The ledger URI {uri!r} has one slash after its scheme; write two (s3://bucket/prefix), or a path.")
        return "file", uri
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise ConfigError("The ledger URI cannot be parsed; write scheme://bucket/prefix, or a path.") from None
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    bucket = _bucket(parts, where)
    if parts.query or parts.fragment:
        raise ConfigError(f"The ledger URI for {where} has a query or fragment; only scheme://bucket/prefix, or a path, is meant.")
    if parts.scheme in ("file", "local"):
        if bucket not in ("", "localhost") or not parts.path:
            raise ConfigError(f"{uri!r} names no local folder; a local ledger is file:///absolute/path (three slashes), or a path.")
        return parts.scheme, parts.path
    if not bucket and parts.scheme != "memory":
        raise ConfigError(f"The ledger URI {uri!r} names no bucket; write {parts.scheme}://bucket/prefix.")
    return parts.scheme, f"{bucket}{parts.path}"


def _bucket(parts: SplitResult, where: str) -> str:
    """What is before the path; of ``abfs://container@account.dfs.core.windows.net/prefix``, the container."""
    before, at, host = parts.netloc.rpartition("@")
    azure = EXTRAS.get(parts.scheme) == "azure" and _AZURE_HOST.fullmatch(host)
    if azure and not at:
        raise ConfigError(f"The ledger URI {where} names an account but no container; write {parts.scheme}://container@{host}/prefix.")
    if azure and _CONTAINER.fullmatch(before):
        return before
    if at:
        raise ConfigError(f"The ledger URI for {where} holds credentials; use ledger_conn_id or the cloud's own credential chain.")
    return host


def azure_account(uri: str) -> dict[str, str]:
    """The options of adlfs that the host of an Azure URI says: none, if it names only the container."""
    host = _AZURE_HOST.fullmatch(urlsplit(uri).netloc.rpartition("@")[2])
    if host is None:
        return {}
    account, cloud = host["account"], host["cloud"]
    return {"account_name": account} | ({} if cloud == "core.windows.net" else {"account_host": f"{account}.blob.{cloud}"})


def check_scheme(uri: str) -> None:
    """Refuse a scheme that fsspec does not know, by its registry alone: nothing is imported, no request made.

    :raises ConfigError: unknown scheme.
    """
    from fsspec.registry import known_implementations, registry  # noqa: PLC0415 - keeps the import of the core small

    scheme, _ = split_uri(uri)
    if scheme not in known_implementations and scheme not in registry:
        raise ConfigError(f"The ledger URI {uri!r} has the unknown scheme {scheme!r}; use a folder, or s3://, gs://, abfs://.")
