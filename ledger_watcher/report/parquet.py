"""The nodes of runs as a Parquet file: a row per node, a schema that stays as it is.

The columns are those of the CSV, and ``adapter_response`` as JSON, with types: docs/sql.md has them. New ones come at the end. pyarrow is optional.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ledger_watcher import codec
from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.report.export import COLUMNS, identity, node_values
from ledger_watcher.report.view import NodeRow

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = b"1"
"""In the file's metadata: another one where a column changes its name, its type or its meaning."""
_METADATA = {b"ledger_watcher.schema": VERSION}
_JSON = "adapter_response"
_NUMBERS = {"map_index": "int32", "attempt": "int32", "execution_time": "float64", "rows_affected": "int64", "failures": "int64"}


def parquet_bytes(runs: Iterable[tuple[RunKey, Iterable[NodeRow]]]) -> bytes:
    """A row per node, in the order of the runs.

    :raises ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional, and heavy
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError("Parquet is written with pyarrow, which is not installed: pip install 'ledger-watcher[parquet]'.") from error
    rows = [_plain({**identity(run), **node_values(row)}) for run, nodes in runs for row in nodes]
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema=_schema()), out, compression="zstd")
    return out.getvalue()


def _schema() -> pa.Schema:
    import pyarrow as pa  # noqa: PLC0415

    types: dict[str, Any] = {name: pa.type_for_alias(kind) for name, kind in _NUMBERS.items()}
    types |= dict.fromkeys(("started_at", "finished_at"), pa.timestamp("us", tz="UTC"))
    types["skip_cause"] = pa.list_(pa.field("element", pa.string()))
    return pa.schema([(name, types.get(name, pa.string())) for name in (*COLUMNS, _JSON)], metadata=_METADATA)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """What Arrow takes: no lone surrogates in text, JSON as text."""
    response = values[_JSON]
    text = {name: value.encode("utf-8", "backslashreplace").decode() for name, value in values.items() if isinstance(value, str)}
    return {**values, **text, _JSON: codec.dumps(response).decode() if response else None}
