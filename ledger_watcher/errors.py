"""Everything that this project raises on purpose.

::

    LedgerWatcherError
    ├── ConfigError            the input is wrong: change it, then try again
    ├── StorageError
    │   ├── Exists             create-if-absent lost: read the object back, then decide
    │   ├── Missing            there is no such object (yet)
    │   ├── Denied             credentials or permissions: a person must act; retrying does not help
    │   ├── Transient          the request was not carried out: try again
    │   └── Ambiguous          the request may have been carried out: read the object back, then decide
    └── LedgerError
        ├── CorruptLedger      an object is not what the format says: the data is bad
        ├── UnsupportedLedger  written by a newer format version: upgrade the reader
        ├── RunNotFound        no such run under this root
        ├── Overtaken          another attempt began first: look again before claiming
        ├── Fenced             another writer took the run over: stop
        └── WriterStopped      the writer could not make its records durable within its bound

Messages say what happened, where (object, run), and what to do next. ``Error kinds answer: retry, fix the input, or is the data bad?``
"""

from __future__ import annotations


class LedgerWatcherError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigError(LedgerWatcherError):
    """The input (arguments, configuration, files of the project) is wrong; the message says what to change."""


class StorageError(LedgerWatcherError):
    """A storage request did not succeed. ``path`` is the object, ``operation`` what was asked of it."""

    advice = "See the cause."

    def __init__(self, operation: str, path: str, cause: BaseException | str | None = None) -> None:
        self.operation = operation
        self.path = path
        why = f": {type(cause).__name__}: {cause}" if isinstance(cause, BaseException) else f": {cause}" if cause else ""
        super().__init__(f"{operation} {path} failed{why}. {self.advice}")


class Exists(StorageError):
    """The object is already there. Another writer, or an earlier try of this one: read it back and compare."""

    advice = "The object exists already."


class Missing(StorageError):
    """The object does not exist (yet)."""

    advice = "The object does not exist."


class Denied(StorageError):
    """Credentials or permissions do not allow the request. Retrying does not help."""

    advice = (
        "Check the credentials and permissions: a writer needs to create and read objects and to list under the ledger's root, "
        "a reader needs to read and to list (without list permission S3 answers 403 for an object that is not there yet)."
    )


class Transient(StorageError):
    """The request was refused without effect (throttled, unreachable): trying again is safe."""

    advice = "The storage was not reachable or throttled the request; it is tried again until the deadline."


class Ambiguous(StorageError):
    """The answer was lost: the request may have been carried out. Only reading the object back settles it."""

    advice = "The outcome is unknown until the object is read back."


class LedgerError(LedgerWatcherError):
    """The ledger's content, or the writer's right to it, is not as needed."""


class CorruptLedger(LedgerError):
    """An object of the ledger is not what the format says. ``path`` names the object, ``problem`` says what is wrong with it."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(
            f"{path} is corrupt: {problem}. The ledger is append-only, so somebody or something altered it; "
            "restore the object (from the bucket's versions, or a backup), or run again under another run id; `ledger-watcher verify` names all damage."
        )


class UnsupportedLedger(LedgerError):
    """The object was written in a format version that this reader does not know."""

    def __init__(self, path: str, version: object, supported: int) -> None:
        self.path = path
        super().__init__(
            f"{path} has ledger format version {version!r}, this installation reads version {supported}. "
            "Upgrade ledger-watcher where the ledger is read (pip install -U ledger-watcher)."
        )


class RunNotFound(LedgerError):
    """No run of that name exists under the root."""


class Fenced(LedgerError):
    """Another writer took over the run. ``by`` describes it; ``epoch`` is its epoch."""

    def __init__(self, path: str, epoch: int, by: str) -> None:
        self.path = path
        self.epoch = epoch
        self.by = by
        super().__init__(
            f"This writer was fenced: {path} was written by {by} in epoch {epoch}. "
            "A newer attempt owns the run; this one must stop its dbt and write nothing more."
        )


class Overtaken(LedgerError):
    """A claim that was to follow a certain epoch found a newer one: whoever wanted it has to look again."""

    def __init__(self, path: str, epoch: int, expected: int) -> None:
        self.path = path
        self.epoch = epoch
        super().__init__(
            f"The newest attempt in {path} is {epoch}, not {expected}: another attempt of the run began meanwhile. Nothing was started; look "
            "at the run again."
        )


class WriterStopped(LedgerError):
    """The writer gave up: what it could not make durable is named in the message."""
