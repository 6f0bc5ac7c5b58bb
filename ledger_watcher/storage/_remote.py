"""Object stores through fsspec."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ledger_watcher.errors import ConfigError, Missing
from ledger_watcher.storage._classify import is_empty_object, no_bucket, translate
from ledger_watcher.storage._clients import S3_CLIENT_CONFIG, one_try
from ledger_watcher.storage._uri import EXTRAS, azure_account, check_scheme, split_uri

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


@dataclass(frozen=True, slots=True)
class FilesystemFactory:
    """Builds the filesystem of ``uri``; picklable, so that a store is.

    :raises ConfigError: unknown scheme; when called, a library that is not installed, or options that it refuses.
    """

    uri: str
    storage_options: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        check_scheme(self.uri)

    def __call__(self) -> AbstractFileSystem:
        scheme, _ = split_uri(self.uri)
        extra = EXTRAS.get(scheme)
        try:
            return filesystem_class(scheme)(**_options(self.uri, extra, self.storage_options))
        except ImportError as error:
            hint = f"pip install 'ledger-watcher[{extra}]'" if extra else "install the fsspec implementation of that scheme"
            raise ConfigError(f"The ledger {self.uri} needs a library that is not installed here ({error}); {hint}.") from error
        except (TypeError, ValueError) as error:
            raise ConfigError(f"The ledger {self.uri} cannot be opened with these storage options ({error}); correct them.") from error


def filesystem_class(scheme: str) -> type[AbstractFileSystem]:
    """The implementation of a scheme.

    :raises ImportError: its library is not installed.
    """
    if EXTRAS.get(scheme) == "gcs":
        # gcsfs registers a subclass for zonal buckets, which asks another service for the layout of the bucket: for up to 90 s per call
        # where that service is not to be reached, or not permitted.
        from gcsfs.core import GCSFileSystem  # noqa: PLC0415

        return GCSFileSystem  # type: ignore[no-any-return]
    import fsspec  # noqa: PLC0415

    return fsspec.get_filesystem_class(scheme)  # type: ignore[no-any-return]


def _options(uri: str, extra: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the user, with what this package and the URI add to them."""
    options = dict(given)
    if extra == "s3":
        options["config_kwargs"] = {**S3_CLIENT_CONFIG, **options.get("config_kwargs", {})}  # a proxy given there changes no time-out
    if extra == "azure" and not options.keys() & {"account_name", "connection_string"}:
        options.update(azure_account(uri))
    return options


_VERSIONS = ("ETag", "etag", "LastModified", "last_modified", "generation", "md5Hash", "updated", "mtime", "created", "VersionId")
"""What the libraries tell of an object that changes with its content."""


class FsspecStore:
    """Objects of one fsspec filesystem. The filesystem is built lazily and once per process: inherited ones break after a fork."""

    def __init__(self, uri: str, filesystem: Callable[[], AbstractFileSystem]) -> None:
        self._uri = uri.rstrip("/")
        self._path = split_uri(uri)[1].strip("/")
        self._build = filesystem
        self._instance: tuple[int, AbstractFileSystem] | None = None
        self._bucket_seen = EXTRAS.get(split_uri(uri)[0]) != "gcs"  # the others tell an absent bucket from an absent object

    @property
    def root(self) -> str:
        """The root as given."""
        return self._uri

    def __getstate__(self) -> dict[str, Any]:
        """A pickled store opens connections of its own."""
        return {**self.__dict__, "_instance": None}

    def _filesystem(self) -> AbstractFileSystem:
        if self._instance is None or self._instance[0] != os.getpid():
            filesystem = self._build()
            one_try(filesystem)
            self._instance = (os.getpid(), filesystem)
        return self._instance[1]

    def create(self, key: str, data: bytes) -> None:
        """See :meth:`Store.create`: one conditional PUT."""
        filesystem = self._filesystem()
        try:
            filesystem.pipe_file(f"{self._path}/{key}", data, mode="create")
        except Exception as error:
            raise translate("create", f"{self._uri}/{key}", error) from error

    def get(self, key: str) -> bytes:
        """See :meth:`Store.get`. ``start=0`` makes it one plain GET on every backend (storage facts, trap 3)."""
        filesystem = self._filesystem()
        try:
            data: bytes = filesystem.cat_file(f"{self._path}/{key}", start=0)
        except Exception as error:
            if is_empty_object(error):
                return b""
            problem = translate("get", f"{self._uri}/{key}", error)
            if isinstance(problem, Missing):
                self._look_for_bucket("get", key)
            raise problem from error
        return data

    def version(self, key: str) -> str | None:
        """What changes whenever the object does, in one request that does not read it; ``None`` if the storage says nothing of the sort.

        :raises Missing: there is no such object.
        """
        filesystem = self._filesystem()
        try:
            info = filesystem.info(f"{self._path}/{key}")
        except Exception as error:
            raise translate("look at", f"{self._uri}/{key}", error) from error
        told = [f"{name}={info[name]}" for name in _VERSIONS if info.get(name)]
        return " ".join([*told, f"size={info.get('size')}"]) if told else None

    def replace(self, key: str, data: bytes) -> None:
        """Write the object, whether there is one or not. Not for ledgers, whose objects never change."""
        filesystem = self._filesystem()
        try:
            filesystem.pipe_file(f"{self._path}/{key}", data)
        except Exception as error:
            raise translate("write", f"{self._uri}/{key}", error) from error

    def list(self, prefix: str) -> list[str]:
        """See :meth:`Store.list`."""
        filesystem = self._filesystem()
        folder = f"{self._path}/{prefix}".rstrip("/")
        try:
            paths = filesystem.ls(folder, detail=False, refresh=True)
        except Exception as error:
            problem = translate("list", f"{self._uri}/{prefix}", error)
            if not isinstance(problem, Missing):
                raise problem from error
            self._look_for_bucket("list", prefix)
            return []
        below = {path.strip("/") for path in paths} - {folder.strip("/")}  # an object of the prefix's own name is not below it
        return sorted({path.rsplit("/", 1)[-1] for path in below})

    def delete(self, key: str) -> None:
        """See :meth:`Store.delete`."""
        filesystem = self._filesystem()
        try:
            filesystem.rm_file(f"{self._path}/{key}")
        except Exception as error:
            problem = translate("delete", f"{self._uri}/{key}", error)
            if not isinstance(problem, Missing):
                raise problem from error
            self._look_for_bucket("delete", key)

    def _look_for_bucket(self, operation: str, key: str) -> None:
        """Of GCS, gcsfs says no more than "not found": at the first time, one request more settles whether the bucket is there.

        :raises ConfigError: it is not.
        """
        if self._bucket_seen:
            return
        path = f"{self._uri}/{key}"
        try:
            self._filesystem().call("GET", "b/{}/o", self._path.partition("/")[0], maxResults=1)
        except Exception as error:
            problem = translate(operation, path, error)
            raise (no_bucket(operation, path, error) if isinstance(problem, Missing) else problem) from error
        self._bucket_seen = True
