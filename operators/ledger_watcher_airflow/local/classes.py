"""One operator class per dbt command and mode, made of the table in :mod:`~ledger_watcher_airflow.commands`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from inspect import Parameter, Signature
from typing import Any

from ledger_watcher_airflow.commands import COMMANDS, LIMITED, Command
from ledger_watcher_airflow.flags import DbtFlags
from ledger_watcher_airflow.local.docs import DbtDocsUploadBaseOperator
from ledger_watcher_airflow.local.operator import DbtLocalBaseOperator, DbtVirtualenvBaseOperator

_HOME = __name__.rpartition(".")[0]

MODES: Mapping[str, type[DbtLocalBaseOperator]] = {"Local": DbtLocalBaseOperator, "Virtualenv": DbtVirtualenvBaseOperator}
"""What stands behind the command in the names."""

UPLOADS = {"S3": ("s3", "bucket_name"), "GCS": ("gs", "bucket_name"), "AzureStorage": ("abfs", "container_name")}
"""Where documentation goes: the scheme, and what its bucket is called."""


def _made(name: str, base: type[DbtLocalBaseOperator], command: Command, **more: Any) -> type[DbtLocalBaseOperator]:
    attributes = {"__module__": _HOME, "__qualname__": name, "command": command, **more}
    kind: Callable[..., Any] = type(base)
    made: type[DbtLocalBaseOperator] = kind(name, (base,), {**attributes, "__init__": _init(base, command, more.get("bucket"))})
    return made


def _init(base: type[DbtLocalBaseOperator], command: Command, bucket: str | None) -> Callable[..., None]:
    """``__init__`` with all arguments by name, since Airflow takes those of a DAG's ``default_args`` that stand in the signature."""

    def init(self: DbtLocalBaseOperator, **kwargs: Any) -> None:
        base.__init__(self, **kwargs)

    found = {one.name: one for one in _parameters(base)}
    for name in () if command.macro else ("macro_name", "args"):
        del found[name]
    for name in {"bucket_name", "container_name"} & set(found):
        del found[name]
    if bucket:
        found[bucket] = Parameter(bucket, Parameter.KEYWORD_ONLY, annotation="str")
    for one in fields(DbtFlags):
        if one.name not in LIMITED - command.takes:
            default = one.default if one.default is not MISSING else None
            found[one.name] = Parameter(one.name, Parameter.KEYWORD_ONLY, default=default, annotation=one.type)
    ours = Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)
    more = Parameter("kwargs", Parameter.VAR_KEYWORD, annotation="Any")
    vars(init).update(__signature__=Signature([ours, *found.values(), more]), __name__="__init__")
    return init


def _parameters(base: type[Any]) -> Iterator[Parameter]:
    for cls in base.__mro__:
        if issubclass(cls, DbtLocalBaseOperator) and "__init__" in vars(cls):
            yield from (one for one in inspect.signature(cls.__init__).parameters.values() if one.kind is Parameter.KEYWORD_ONLY)


def _all() -> Iterator[type[DbtLocalBaseOperator]]:
    for mode, base in MODES.items():
        for stem, command in COMMANDS.items():
            doc = (
                f"``{command}`` on the worker{', in a virtual environment' if mode == 'Virtualenv' else ''}; see :class:`{base.__name__}`."
            )
            yield _made(f"Dbt{stem}{mode}Operator", base, command, __doc__=doc)
    for name, (scheme, bucket) in UPLOADS.items():
        doc = f"``dbt docs generate`` to {scheme}://; see :class:`DbtDocsUploadBaseOperator`."
        yield _made(f"DbtDocs{name}Operator", DbtDocsUploadBaseOperator, COMMANDS["Docs"], scheme=scheme, bucket=bucket, __doc__=doc)


OPERATORS = {made.__name__: made for made in _all()}
"""All of them, by name."""
