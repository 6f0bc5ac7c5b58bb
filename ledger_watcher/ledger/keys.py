"""Keyed hashes: what shows that an object was written by somebody who has the key.

The hashes of a ledger have no key: whoever can overwrite objects can compute all of them anew. With a key, each object's header ends with
``"mac":"<64 hex digits>"``, the HMAC-SHA256 of the bytes that the object's own hash would cover if that member were not there.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ledger_watcher.errors import ConfigError, CorruptLedger

KEY, KEY_FILE = "LEDGER_WATCHER_HMAC_KEY", "LEDGER_WATCHER_HMAC_KEY_FILE"
"""The environment variables that name the key. dbt is never given them."""

_SHORTEST = 16
_MAC = re.compile(rb',"mac":"([0-9a-f]{64})"\}\Z')


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys: the first one signs, each of them is accepted. Without any, nothing is signed and nothing checked. Never shows a key."""

    keys: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Keyring:
        """The key in :data:`KEY`, or those in the file that :data:`KEY_FILE` names, one a line, the newest first; else none.

        :raises ConfigError: both are set; the file cannot be read; there is no key in it; a key has fewer than 16 bytes.
        """
        env = os.environ if env is None else env
        key, path = env.get(KEY), env.get(KEY_FILE)
        if key is not None and path is not None:
            raise ConfigError(f"{KEY} and {KEY_FILE} are both set; unset one of them.")
        if path is not None:
            try:
                lines = Path(path).read_bytes().splitlines()
            except OSError as error:
                raise ConfigError(
                    f"The file that {KEY_FILE} names cannot be read ({error}); correct the path or its permissions."
                ) from error
        else:
            lines = [] if key is None else [os.fsencode(key)]
        keys = tuple(line.strip() for line in lines if line.strip())
        name = KEY if path is None else KEY_FILE
        if not keys and (key is not None or path is not None):
            raise ConfigError(f"{name} is set but holds no key; put one there (openssl rand -hex 32), or unset it.")
        if any(len(each) < _SHORTEST for each in keys):
            raise ConfigError(f"A key of {name} has fewer than {_SHORTEST} bytes; use a random one (openssl rand -hex 32).")
        return cls(keys)

    def __bool__(self) -> bool:
        """There is a key."""
        return bool(self.keys)

    def mac(self, covered: bytes) -> str:
        """The keyed hash of an object's bytes without one."""
        return _mac(self.keys[0], covered)

    def check(self, path: str, covered: bytes) -> None:
        """Do nothing if there is no key, or if the object with these bytes behind its hash was signed with one of them.

        :raises CorruptLedger: it has no keyed hash, or one that none of the keys makes.
        """
        if not self.keys:
            return
        header, newline, records = covered.partition(b"\n")
        found = _MAC.search(header)
        if found is None:
            raise CorruptLedger(path, "its header does not end with a mac although a key is set: it was written without the key")
        bare = b"".join((header[: found.start()], b"}", newline, records))
        if not any(hmac.compare_digest(_mac(key, bare).encode(), found[1]) for key in self.keys):
            raise CorruptLedger(path, "its mac does not belong to it under the key that is set: altered, or written with another key")


NO_KEYS = Keyring()


def _mac(key: bytes, covered: bytes) -> str:
    return hmac.new(key, covered, hashlib.sha256).hexdigest()
