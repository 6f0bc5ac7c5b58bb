"""What an exception of a storage library means for the caller.

The libraries agree on little: an object that exists is FileExistsError, ``OSError(EINVAL)`` (Ceph), a 409 (Azure) or a 412, raw botocore
errors that are no OSError escape, and a 403 of GCS is only in a text. So the chain of causes is searched for an HTTP status or a code.
"""

from __future__ import annotations

from collections.abc import Iterator

from ledger_watcher.errors import Ambiguous, ConfigError, Denied, Exists, LedgerWatcherError, Missing, StorageError, Transient

_DENIED_CODES = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AllAccessDisabled",
    "AuthorizationFailure",
    "AuthenticationFailed",
}
_EXISTS_CODES = {
    "BlobAlreadyExists",  # Azure's 409; its other ones leave it open
    "UnauthorizedBlobOverwrite",  # the same, where the permission is only to create
}
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "RefreshError",
    "DefaultCredentialsError",
    "ClientAuthenticationError",  # azure-identity
    "CredentialUnavailableError",
    "AzureSigningError",  # an account key that is no base64
}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_WRONG_REQUEST = {
    "AuthorizationHeaderMalformed",  # the wrong region
    "PermanentRedirect",
    "InvalidBucketName",
    "KeyTooLongError",
    "NotImplemented",  # a server without conditional writes
    "NotImplementedError",
    "ParamValidationError",
}
_NEVER_SENT = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ConnectionTimeoutError",
    "ConnectionRefusedError",
    "gaierror",
}


def translate(operation: str, path: str, error: Exception) -> LedgerWatcherError:
    """The error of this project's taxonomy for ``error`` of a library: it says what the caller must do."""
    if isinstance(error, LedgerWatcherError):
        return error
    chain = list(_chain(error))
    names = {type(link).__name__ for link in chain}
    code = next((c for link in chain if (c := _code(link))), None)
    status = next((s for link in chain if (s := _status(link))), None)
    if code in _NO_BUCKET or (operation == "create" and (isinstance(error, FileNotFoundError) or status == 404)):  # noqa: PLR2004
        return no_bucket(operation, path, error)
    if code in _WRONG_REQUEST or names & _WRONG_REQUEST:
        return ConfigError(
            f"{operation} {path} failed: such a request can never succeed ({error}). Correct the ledger URI or its storage options."
        )
    kind = _kind(operation, chain, names, code, status)
    return kind(operation, path, error)


def no_bucket(operation: str, path: str, error: Exception) -> ConfigError:
    """Somebody must create the bucket or container, or name another."""
    return ConfigError(
        f"{operation} {path} failed: the bucket or container does not exist ({error}). Create it, or correct the ledger URI."
    )


def is_empty_object(error: Exception) -> bool:
    """Whether a GET from byte 0 failed because the object has no byte 0 (416)."""
    return any(_status(link) == 416 or _code(link) == "InvalidRange" for link in _chain(error))  # noqa: PLR2004


def _kind(operation: str, chain: list[BaseException], names: set[str], code: str | None, status: int | None) -> type[StorageError]:
    if operation == "create" and (code in _EXISTS_CODES or status == 412 or (status is None and isinstance(chain[0], FileExistsError))):  # noqa: PLR2004
        return Exists
    if names & _NO_CREDENTIALS or code in _DENIED_CODES or status in (401, 403) or _forbidden_by_gcs(chain[0]):
        return Denied
    if status == 404 or (status is None and isinstance(chain[0], FileNotFoundError)):  # noqa: PLR2004
        return Missing
    if status is None and isinstance(chain[0], PermissionError):
        return Denied
    if operation != "create" or names & _NEVER_SENT:
        return Transient
    return Ambiguous


def _forbidden_by_gcs(error: BaseException) -> bool:
    """Gcsfs turns a 403 into an OSError without a number; nothing but its text says so."""
    return type(error) is OSError and error.errno is None and str(error).startswith("Forbidden: ")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _code(error: BaseException) -> str | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("Error", {}).get("Code")
        return str(found) if found else None
    found = getattr(error, "error_code", None)  # of Azure: an enum, or a text if it does not know the code
    return str(getattr(found, "value", found)) if found else None


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return int(found) if found else None
    for name in ("status_code", "status", "code"):
        found = getattr(error, name, None)
        if isinstance(found, int):
            return found
        if isinstance(found, str) and found.isdigit():
            return int(found)
    return None
