"""One try per request, within seconds: how each cloud library is brought to it.

Left alone, a storage that answers 503 holds one call for 45 s (s3fs), 34 s (gcsfs) or 87 s (adlfs), each with retries that nobody above
sees. The writer and the reader have their own retries, with a deadline and with words for a person, so the libraries must have none.
What stays below is aiohttp's: a PUT, GET or DELETE whose kept-alive connection turns out to be broken is sent once more.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ledger_watcher.errors import ConfigError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CONNECT_TIMEOUT = 3
"""Seconds for a connection."""
READ_TIMEOUT = 10
"""Seconds without a byte of the answer."""

S3_CLIENT_CONFIG: Mapping[str, Any] = {
    "retries": {"mode": "standard", "total_max_attempts": 1},
    "connect_timeout": CONNECT_TIMEOUT,
    "read_timeout": READ_TIMEOUT,
}
"""Arguments of botocore's Config, for whoever builds an S3 filesystem: they cannot be set on a finished one."""


def one_try(filesystem: AbstractFileSystem) -> None:
    """Take the library's own retries and its listings cache away from a filesystem, however it was built.

    :raises ConfigError: the library's version is one in which its retries cannot be found.
    """
    filesystem.dircache.use_listings_cache = False  # behind a cache a new segment stays invisible
    libraries = {cls.__module__.partition(".")[0] for cls in type(filesystem).__mro__}
    if "s3fs" in libraries:
        filesystem.retries = 1  # its own loop around botocore's
    elif "gcsfs" in libraries:
        _gcsfs(filesystem)
    elif "adlfs" in libraries:
        _adlfs(filesystem)


def _gcsfs(filesystem: AbstractFileSystem) -> None:
    """gcsfs binds six tries with up to 32 s between them to its method by a decorator: the method below it is bound instead."""
    import aiohttp  # noqa: PLC0415 - gcsfs has imported it

    request = getattr(type(filesystem)._request, "__wrapped__", None)  # noqa: SLF001 - no public way
    if request is None:
        raise ConfigError(
            "This version of gcsfs retries in a way that ledger_watcher does not know; install another, and please report it."
        )
    filesystem._request = types.MethodType(request, filesystem)  # noqa: SLF001
    if filesystem.requests_timeout is None:
        filesystem.requests_timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)


def _adlfs(filesystem: AbstractFileSystem) -> None:
    """adlfs builds its client without a policy: the same one is built again with it, and with the time-outs of the user."""
    from azure.storage.blob.aio import BlobServiceClient  # noqa: PLC0415 - adlfs has imported it

    client = filesystem.service_client
    if client is getattr(filesystem, "ledger_watcher_client", None):  # fsspec hands the same filesystem out again for the same options
        return
    options = {"connection_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT, **filesystem._timeout_kwargs}  # noqa: SLF001 - the user's
    options.pop("timeout", None)  # of single requests
    filesystem.service_client = filesystem.ledger_watcher_client = BlobServiceClient(
        client.url, client.credential, retry_total=0, **options
    )
