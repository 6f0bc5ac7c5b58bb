"""``dbt docs generate``, and the site to a bucket."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ledger_watcher.errors import ConfigError
from ledger_watcher.storage import EXTRAS, filesystem_class
from ledger_watcher_airflow.commands import COMMANDS
from ledger_watcher_airflow.ledger import connected_filesystem
from ledger_watcher_airflow.local.operator import DbtLocalBaseOperator

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SITE = ("index.html", "manifest.json", "catalog.json")
_STATIC = ("static_index.html",)


class DbtDocsUploadBaseOperator(DbtLocalBaseOperator):
    """Makes the documentation and puts it into a bucket.

    That is ``index.html`` with the two files that it shows, or, with ``dbt_cmd_flags=["--static"]``, ``static_index.html``.

    :param bucket_name: the bucket; of Azure, ``container_name``.
    :param folder_dir: folder in it.
    :param connection_id: Airflow connection with the credentials; the environment's own if not given.
    :raises ConfigError: no bucket.
    """

    command = COMMANDS["Docs"]
    scheme: ClassVar[str]

    def __init__(
        self,
        *,
        bucket_name: str | None = None,
        container_name: str | None = None,
        folder_dir: str | None = None,
        connection_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        bucket = bucket_name or container_name
        if not bucket:
            raise ConfigError(f"{type(self).__name__} needs the name of the bucket or container that the documentation goes to.")
        self.place = "/".join([bucket.strip("/"), *([folder_dir.strip("/")] if folder_dir else [])])
        self.connection_id = connection_id

    def after(self, artifacts: Path) -> None:
        """Put the files into the bucket, in place of those that are there.

        :raises ConfigError: dbt has not written one of them, or the bucket cannot be opened.
        """
        names = _STATIC if "--static" in self.call.flags.dbt_cmd_flags else _SITE
        filesystem = self._filesystem()
        for name in names:
            if not (artifacts / name).is_file():
                raise ConfigError(f"`dbt docs generate` has written no {name} to {artifacts}; leave out the flag that keeps it from that.")
        for name in names:
            filesystem.put_file(str(artifacts / name), f"{self.place}/{name}", **self._typed(name))
            self.log.info("%s://%s/%s", self.scheme, self.place, name)

    def _filesystem(self) -> AbstractFileSystem:
        if self.connection_id:
            return connected_filesystem(f"{self.scheme}://{self.place}", self.connection_id, "leave connection_id out")
        try:
            return filesystem_class(self.scheme)()
        except ImportError as error:
            extra = EXTRAS[self.scheme]
            raise ConfigError(
                f"{self.scheme}:// needs a library that is not installed here ({error}); pip install 'ledger-watcher[{extra}]'."
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"{self.scheme}://{self.place} cannot be opened ({error}); give connection_id=..., or the environment."
            ) from error

    def _typed(self, name: str) -> dict[str, Any]:
        """adlfs alone does not look at a file's name for its type, without which a browser saves the page instead of showing it."""
        if self.scheme != "abfs":
            return {}
        from azure.storage.blob import ContentSettings  # noqa: PLC0415 - comes with adlfs

        return {"content_settings": ContentSettings(content_type=mimetypes.guess_type(name)[0])}
