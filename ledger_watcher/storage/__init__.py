"""Where ledgers are kept: three capabilities (create-if-absent, get, list) over local files and fsspec."""

from ledger_watcher.storage._base import Store, open_store
from ledger_watcher.storage._clients import S3_CLIENT_CONFIG
from ledger_watcher.storage._local import LocalStore
from ledger_watcher.storage._remote import FsspecStore, filesystem_class
from ledger_watcher.storage._uri import EXTRAS, check_scheme, split_uri

__all__ = [
    "EXTRAS",
    "S3_CLIENT_CONFIG",
    "FsspecStore",
    "LocalStore",
    "Store",
    "check_scheme",
    "filesystem_class",
    "open_store",
    "split_uri",
]
