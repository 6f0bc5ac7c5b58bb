"""docs/format.md is what the code does: its tables, its example, and a reader written from that page alone."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator, FormatChecker

from ledger_watcher import codec
from ledger_watcher.capture import compat, event
from ledger_watcher.cli import main
from ledger_watcher.errors import CorruptLedger, UnsupportedLedger
from ledger_watcher.ledger import ChainReader, Kind, LedgerWriter, RunKey, WriterOptions, chain, layout
from ledger_watcher.records import KINDS, MESSAGE_LIMIT, AttemptFinished, AttemptStarted, EndedBy, Outcome, Record, Unknown
from ledger_watcher.schema import line_schema
from ledger_watcher.storage import LocalStore
from tests.core.ledgers import T0, began, ended

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text("utf-8")
RUN = RunKey("shop", "manual__2026-07-31T10:00:00+00:00", group="dbt")

# The reader, from the page alone: json and hashlib, nothing of this project ------------------------------------------

UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
HEADER_TYPES = {"run": str, "seq": int, "epoch": int, "writer": str, "prev": str, "n": int, "ts": str, "type": str}
CHECKPOINT_TYPES = {"run": str, "n": int, "head": dict}


class RefusedError(Exception):
    """The object is not the next one of this chain."""


class NewerError(RefusedError):
    """The object has another format version."""


def refuse_unless(fine: object, why: str) -> None:
    """Raise if the page says so."""
    if not fine:
        raise RefusedError(why)


def path_parts(name: str, value: str) -> list[str]:
    """Paths, steps 1 to 4."""
    text = "".join(chr(byte) if byte in UNRESERVED else f"%{byte:02X}" for byte in value.encode())
    pieces = []
    while len(text) > 200:
        cut = next(cut for cut in (200, 199, 198) if "%" not in text[cut - 2 : cut])
        pieces.append(text[:cut])
        text = text[cut:]
    pieces = [f"{piece[:-1]}%2E" if piece.endswith(".") else piece for piece in [*pieces, text]]
    return [f"{name}={pieces[0]}", *(f"+{piece}" for piece in pieces[1:])]


def run_prefix(deployment: str, dag: str, run: str, group: str, mapped: int) -> str:
    """The folder of a run."""
    values = {"deployment": deployment, "dag": dag, "run": run, "group": group, "map": str(mapped)}
    return "/".join(["v1", *(part for name, value in values.items() for part in path_parts(name, value))])


def read_object(data: bytes, kind: str, types_of: dict[str, type]) -> tuple[dict[str, Any], list[Any]]:
    """Header and lines of one object."""
    if data[:11] != b'{"sha256":"' or data[75:77] != b'",':
        try:
            first = json.loads(data.split(b"\n")[0])
        except ValueError:
            first = None
        if isinstance(first, dict) and first.get("v", 1) != 1:
            raise NewerError(first["v"])
        raise RefusedError("the first 77 bytes")
    refuse_unless(hashlib.sha256(data[77:]).hexdigest().encode() == data[11:75], "the hash")
    refuse_unless(data.endswith(b"\n"), "the last byte")
    first_line, *lines = data[:-1].split(b"\n")
    try:
        header, *records = [json.loads(line) for line in (first_line, *lines)]
    except ValueError as error:
        raise RefusedError("no JSON") from error
    refuse_unless(isinstance(header, dict) and header.get("kind") == kind, "no header")
    if header.get("v") != 1:
        raise NewerError(header.get("v"))
    refuse_header(header, types_of)
    refuse_unless(len(records) == header["n"], "n")
    return header, records


def refuse_header(header: dict[str, Any], types_of: dict[str, type]) -> None:
    """Header fields."""
    refuse_unless(all(type(header.get(name)) is kind for name, kind in types_of.items()), "a header field")
    refuse_unless(header.get("ckpt_seq") is None or type(header.get("ckpt_sha256")) is str, "a checkpoint without its hash")
    refuse_unless(header.get("type", "end") in ("fence", "data", "end"), "type")


def refuse_record(record: object) -> None:
    """A line of a segment, or what stands in one of a checkpoint."""
    refuse_unless(isinstance(record, dict) and isinstance(record.get("kind"), str) and isinstance(record.get("ts"), str), "a record")


def read_segment(data: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and records of a segment."""
    header, records = read_object(data, "segment", HEADER_TYPES)
    for record in records:
        refuse_record(record)
    return header, records


def read_checkpoint(data: bytes, prefix: str, seq: int, *, end: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and entries of a checkpoint."""
    header, entries = read_object(data, "checkpoint", CHECKPOINT_TYPES)
    head = header["head"]
    refuse_header(head, {**HEADER_TYPES, "sha256": str})
    refuse_unless(header["run"] == head["run"] == prefix, "run")
    refuse_unless(head["seq"] == seq, "seq")
    refuse_unless(not end or head["type"] == "end", "an end")
    before = (0, 0)
    for entry in entries:
        refuse_unless(isinstance(entry, dict) and type(entry.get("seq")) is type(entry.get("epoch")) is int, "an entry")
        refuse_record(entry.get("record"))
        refuse_unless(before <= (entry["seq"], entry["epoch"]), "order")
        before = (entry["seq"], entry["epoch"])
    refuse_unless(before[0] <= head["seq"] and all(entry["epoch"] <= head["epoch"] for entry in entries), "beyond head")
    return header, entries


def read_late(get: Callable[[str], bytes | None], names: list[str], prefix: str) -> tuple[list[dict[str, Any]], bool, int]:
    """Entries of the newest checkpoint and of what follows it; whether a listing of ``ckpt/`` alone says that nothing does; requests."""
    found = [(int(match[1]), not match[2], name) for name in names if (match := re.fullmatch(r"([0-9]{10})(\.end)?\.jsonl", name))]
    if not found:
        read = list(follow(get, prefix))
        return [place(header, record) for header, records in read for record in records], False, len(read) + 1
    seq, not_end, name = max(found)
    data = get(f"{prefix}/ckpt/{name}")
    refuse_unless(data is not None, "listed and gone")
    header, entries = read_checkpoint(data or b"", prefix, seq, end=not not_end)
    if not not_end:
        return entries, True, 2
    more = list(follow(get, prefix, header["head"]))
    return [*entries, *(place(header, record) for header, records in more for record in records)], False, 3 + len(more)


def place(header: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """A record and where it stands."""
    return {"seq": header["seq"], "epoch": header["epoch"], "record": record}


def what_counts(entries: list[dict[str, Any]]) -> dict[tuple[Any, ...], Any]:
    """Folding: what is said of attempts and nodes."""
    said: dict[tuple[Any, ...], Any] = {}
    newest: dict[str, int] = {}
    for entry in entries:
        epoch, record = entry["epoch"], entry["record"]
        kind, node = record["kind"], record.get("unique_id", "")
        said[epoch, "last seen"] = record["ts"]
        if kind in ("node_started", "node_finished", "node_progress", "log"):
            if newest.setdefault(node, epoch) < epoch:
                newest[node] = epoch
                said = {key: value for key, value in said.items() if key[0] != node}
            if newest[node] > epoch:
                continue
            old = said.get((node, epoch, kind))
            if kind == "node_finished":
                ok = table("Outcomes")[record["outcome"]]["ok"] == "yes"
                was_ok = old is not None and table("Outcomes")[old["outcome"]]["ok"] == "yes"
                said[node, epoch, kind] = old if was_ok and not ok else record
            elif kind == "node_started":
                said[node, epoch, kind] = old or record
            else:
                said[node, epoch, kind] = [*(old or []), record]
        elif kind in ("hook_finished", "artifact"):
            said[epoch, kind, record.get("unique_id") or record.get("name")] = record
        elif kind != "heartbeat":
            said[epoch, kind] = record
    return said


def follow(
    get: Callable[[str], bytes | None], prefix: str, last: dict[str, Any] | None = None
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Every segment after ``last`` up to the first one that is missing."""
    seq = last["seq"] + 1 if last else 0
    while (data := get(f"{prefix}/seg/{seq:010d}.jsonl")) is not None:
        header, records = read_segment(data)
        refuse_unless(header["run"] == prefix, "run")
        refuse_unless(header["seq"] == seq, "seq")
        refuse_unless(header["prev"] == (last["sha256"] if last else "0" * 64), "prev")
        if header["type"] == "fence":
            refuse_unless(header["epoch"] == (last["epoch"] if last else 0) + 1, "epoch")
        else:
            refuse_unless(header["type"] in ("data", "end") and last and last["type"] != "end", "type")
            refuse_unless(last and (header["epoch"], header["writer"]) == (last["epoch"], last["writer"]), "epoch or writer")
        yield header, records
        seq, last = seq + 1, header


# What the tests share ------------------------------------------------------------------------------------------------

VALUES: dict[object, object] = {
    str: 'a\n"b" \u2028 \\ é',
    int: 1,
    float: 0.5,
    bool: True,
    datetime: T0 + timedelta(microseconds=1),
    tuple[str, ...]: ("model.shop.a", ""),
    dict[str, Any]: {"code": "SELECT", "nested": [1, None, {"x": 1.5}]},
}


def sample(kind: type[Record]) -> Record:
    """A record with a value, neither empty nor its default, in every field: a new field is covered as soon as it is there."""
    values: dict[str, Any] = {name: value_of(hint) for name, hint in get_type_hints(kind).items() if get_origin(hint) is not ClassVar}
    return kind(**values)


def value_of(hint: object) -> object:
    """A value of a field, by its annotation."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return list(hint)[-1]
    if get_origin(hint) in (Union, types.UnionType):
        return value_of(get_args(hint)[0])
    return VALUES[hint]


SAMPLES = tuple(map(sample, KINDS))


def required_names(kind: type[Record]) -> list[str]:
    """The fields that a line must have."""
    return [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]


def least(record: Record) -> Record:
    """The same with nothing but its required fields."""
    return type(record)(**{name: getattr(record, name) for name in required_names(type(record))})


def section(title: str) -> str:
    """The text below a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/format.md has no heading {title!r}"
    return found[1]


def table(title: str) -> dict[str, dict[str, str]]:
    """The first table below a heading: its rows by their first cell, each by the names of the columns."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    if not rows:
        return {}
    names, _, *cells = rows
    assert all(len(row) == len(names) for row in cells), title
    assert len({row[0] for row in cells}) == len(cells), f"{title}: a row stands twice"
    return {row[0].strip("`"): dict(zip(names, row, strict=True)) for row in cells}


def page_type(schema: dict[str, Any]) -> str:
    """The page's word for a property's schema."""
    if "anyOf" in schema:
        return " or ".join(page_type(member) for member in schema["anyOf"])
    if "oneOf" in schema:
        return "object"
    if "$ref" in schema:
        return {"Outcome": "outcome", "EndedBy": "ended_by", "Kind": "string", "Header": "object"}[schema["$ref"].rsplit("/", 1)[-1]]
    if "const" in schema:
        return {str: "string", int: "integer"}[type(schema["const"])]
    if schema["type"] == "array":
        return f"array of {page_type(schema['items'])}"
    return "time" if schema.get("format") == "date-time" else schema["type"]


def validator() -> Draft202012Validator:
    """What checks a line against the generated schema."""
    schema = line_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def property_schemas(kind: type[Record]) -> dict[str, dict[str, Any]]:
    """The generated schema of a kind's fields."""
    found: dict[str, dict[str, Any]] = line_schema()["$defs"][kind.__name__]["properties"]
    return found


def segment_bytes(header: dict[str, Any], lines: list[str]) -> bytes:
    """A segment by the page: ``header`` without its hash."""
    covered = (json.dumps(header)[1:] + "\n" + "".join(f"{line}\n" for line in lines)).encode()
    return b'{"sha256":"' + hashlib.sha256(covered).hexdigest().encode() + b'",' + covered


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A chain of three attempts: one that ended, one that died, one that took over."""
    store = LocalStore(str(tmp_path))
    options = WriterOptions(commit_interval=0.0, heartbeat=60.0, commit_bytes=1)
    writer = LedgerWriter(store, RUN, options=options)
    writer.open(began())
    for record in (*SAMPLES[1:-1], Unknown(ts=T0, original_kind="rested", data={"for": 3})):
        writer.append(record)
    writer.put_file("run_results.json", b"{}")
    writer.close(ended(5, 1, message="x"))
    died = chain.ChainWriter(store, RUN)
    died.claim(began(10))
    died.stage(Kind.DATA, [codec.encode(least(record)) for record in SAMPLES[1:-1]])
    died.push()
    last = LedgerWriter(store, RUN, options=options)
    last.open(began(20))
    last.close(ended(25))
    return tmp_path


def getter(root: Path) -> Callable[[str], bytes | None]:
    """One get per call, ``None`` for missing."""
    return lambda key: (root / key).read_bytes() if (root / key).exists() else None


def checkpoints(root: Path) -> list[Path]:
    """The checkpoints of the run, in the order of their names."""
    return sorted((root / RUN.prefix / "ckpt").glob("*.jsonl"))


def segments(root: Path) -> list[Path]:
    """The files of the chain, in order."""
    return sorted((root / RUN.prefix / "seg").glob("*.jsonl"))


# The tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_field_of_every_kind_has_its_row_in_order_and_no_row_is_left_over(kind: type[Record]) -> None:
    """A field that is renamed, added or removed fails here until the page says so."""
    own = [field.name for field in dataclasses.fields(kind) if field.name != "ts"]
    assert list(table(f"`{kind.kind}`")) == own
    assert list(table("every record")) == ["kind", *(field.name for field in dataclasses.fields(Record))]


def test_the_page_describes_no_kind_that_the_code_does_not_have() -> None:
    """The headings in code style are the kinds, in the code's order."""
    assert re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE) == [kind.kind for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_types_and_what_may_be_absent_agree_with_the_schema(kind: type[Record]) -> None:
    """``never`` is a required field; a default that means something stands in the column."""
    rows = {**table("every record"), **table(f"`{kind.kind}`")}
    required = line_schema()["$defs"][kind.__name__]["required"]
    for name, schema in property_schemas(kind).items():
        written = page_type(schema) if name in required else page_type(schema).removesuffix(" or null")
        assert rows[name]["type"] == written, name
        assert (rows[name]["absent"] == "never") == (name in required), name
        if schema.get("default") not in (None, []):
            default = schema["default"]
            assert rows[name]["absent"] == f"read as `{default if isinstance(default, str) else json.dumps(default)}`", name
        if name.endswith(("_at", "ts")):
            assert rows[name]["unit"] == "UTC", name


def test_null_is_absent_but_where_the_page_says_that_it_is_refused() -> None:
    """In every field that may be absent; by the code and by the schema."""
    check = validator()
    refused = set()
    for record in SAMPLES:
        for name in {field.name for field in dataclasses.fields(record)} - set(required_names(type(record))):
            line = {**json.loads(codec.encode(record)), name: None}
            without = {key: value for key, value in line.items() if key != name}
            if check.is_valid(line):
                assert codec.decode(json.dumps(line).encode()) == codec.decode(json.dumps(without).encode())
            else:
                refused.add(name)
                with pytest.raises(ValueError, match=name):
                    codec.decode(json.dumps(line).encode())
    [said] = re.findall(r"means the same as absent; in (.*?) it is refused", section("Types"), re.DOTALL)
    assert set(re.findall(r"`(\w+)`", said)) == refused


OPTIONAL = ["ckpt_seq", "ckpt_sha256", "mac"]


MAC_KEY = "0123456789abcdef"
SIGNED = RunKey("signed", "r")


@pytest.fixture
def signed(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A chain of two claims, written with a key: the second fence has every field there is."""
    monkeypatch.setenv("LEDGER_WATCHER_HMAC_KEY", MAC_KEY)
    for _ in range(2):
        chain.ChainWriter(LocalStore(str(root)), SIGNED).claim(began(30))
    return root


def test_header_fields_are_those_that_are_written_and_those_of_the_schema(root: Path, signed: Path) -> None:
    """Names and order as in the file, types as in the schema."""
    rows = table("Header fields")
    schema = line_schema()["$defs"]["Header"]
    assert list(rows) == list(json.loads((signed / SIGNED.segment(1)).read_bytes().split(b"\n")[0]))
    first = json.loads(segments(root)[0].read_bytes().split(b"\n")[0])
    assert list(first) == [name for name in rows if name not in OPTIONAL]
    assert set(rows) == set(schema["properties"])
    assert set(rows) - set(OPTIONAL) == set(schema["required"])
    types_of = {name: page_type(s).removesuffix(" or null") for name, s in schema["properties"].items()}
    assert {name: row["type"] for name, row in rows.items()} == types_of


def test_checkpoint_fields_are_those_that_are_written_and_those_of_the_schema(root: Path) -> None:
    """Of the header and of a line around a record, in the order of the file."""
    for title, name, number in (("Checkpoint header fields", "CheckpointHeader", 0), ("Checkpoint entries", "CheckpointLine", 1)):
        rows, schema = table(title), line_schema()["$defs"][name]
        for path in checkpoints(root):
            line = json.loads(path.read_bytes().split(b"\n")[number])
            assert list(line) == [field for field in rows if field != "mac"]
        assert list(rows) == list(schema["properties"])
        assert set(rows) - {"mac"} == set(schema["required"])
        assert {name: row["type"] for name, row in rows.items()} == {name: page_type(s) for name, s in schema["properties"].items()}
    head = json.loads(checkpoints(root)[0].read_bytes().split(b"\n")[0])["head"]
    assert list(head) == [name for name in table("Header fields") if name not in ("sha256", *OPTIONAL)] + ["sha256"]


def test_a_mac_is_over_what_the_page_says(signed: Path) -> None:
    """Recomputed from the bytes of a segment and of a checkpoint."""
    for key in (SIGNED.segment(1), SIGNED.checkpoint(0)):
        data = (signed / key).read_bytes()
        mac = json.loads(data.split(b"\n")[0])["mac"]
        bare = data[77:].replace(b',"mac":"' + mac.encode() + b'"', b"", 1)
        assert hmac.new(MAC_KEY.encode(), bare, hashlib.sha256).hexdigest() == mac


def test_the_words_of_enums_stand_on_the_page() -> None:
    """Outcomes with what they mean to a reader, the ends of an attempt, and the types of a segment."""
    rows = table("Outcomes")
    assert set(rows) == {outcome.value for outcome in Outcome}
    assert {name: row["ok"] == "yes" for name, row in rows.items()} == {outcome.value: outcome.ok for outcome in Outcome}
    for status, outcome in compat._OUTCOMES.items():
        assert f"`{status}`" in rows[outcome.value]["dbt's status"]
    assert all(f"`{by.value}`" in table("`attempt_finished`")["ended_by"]["meaning"] for by in EndedBy)
    assert all(f"`{kind.value}`" in table("Header fields")["type"]["meaning"] for kind in Kind)


def test_limits_are_those_of_the_code() -> None:
    """Each number of the page's table."""
    options = WriterOptions()
    assert {name: float(row["value"]) for name, row in table("Limits").items()} == {
        "path piece": layout._PART_LIMIT,
        "segment": options.segment_bytes,
        "commit size": options.commit_bytes,
        "commit interval": options.commit_interval,
        "heartbeat": options.heartbeat,
        "message": MESSAGE_LIMIT,
        "log lines": event.LOG_LINES,
        "log size": event.LOG_BYTES,
        "checkpoint": options.checkpoint_segments,
        "adapter response": compat._ADAPTER_RESPONSE_LIMIT,
    }


# The schema ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [*SAMPLES, *map(least, SAMPLES)], ids=lambda record: record.kind)
def test_what_the_code_writes_is_valid(record: Record) -> None:
    """Whole and bare; and in both cases the schema notices a field of a wrong type, and one that lacks."""
    check = validator()
    line = json.loads(codec.encode(record))
    assert check.is_valid(line)
    assert check.is_valid({**line, "x-more": {"of": "a later version"}})
    for name in line:
        assert not check.is_valid({**line, name: {"wrong": "type"}}) or name == "adapter_response", name
    for name in required_names(type(record)):
        assert not check.is_valid({key: value for key, value in line.items() if key != name}), name


def test_every_line_of_a_chain_is_valid(root: Path) -> None:
    """Headers, records, and the record of an unknown kind."""
    check = validator()
    lines = [json.loads(line) for path in [*segments(root), *checkpoints(root)] for line in path.read_bytes().split(b"\n")[:-1]]
    assert {line.get("kind") for line in lines} == {None, "checkpoint", "segment", "rested", *(kind.kind for kind in KINDS)}
    assert [line for line in lines if not check.is_valid(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"kind": "rested"},
        {"kind": 1, "ts": "2026-07-31T10:00:00Z"},
        {"kind": "segment", "ts": "2026-07-31T10:00:00Z"},
        {"kind": "checkpoint", "ts": "2026-07-31T10:00:00Z"},
        {"seq": 1, "epoch": 1},
        {"seq": 1.5, "epoch": 1, "record": {"kind": "rested", "ts": "2026-07-31T10:00:00Z"}},
        {"seq": 1, "epoch": 1, "record": {"kind": "rested"}},
        {"kind": "node_finished", "ts": "2026-07-31T10:00:00Z", "unique_id": "a", "status": "x", "outcome": "wonderful"},
    ],
)
def test_what_readers_refuse_is_not_valid(line: dict[str, Any]) -> None:
    """The schema is no looser than the code where a schema can tell."""
    assert not validator().is_valid(line)


def test_the_command_prints_the_schema() -> None:
    """``ledger-watcher schema``, for those who do not have Python at hand elsewhere."""
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == line_schema()


# The worked example and paths ----------------------------------------------------------------------------------------


def example() -> dict[str, bytes]:
    """The objects of the page's example by their keys, their stated sizes checked."""
    found = re.findall(r"^`(\S+)`, (\d+) bytes:\n\n```json\n(.*?)```$", section("Worked example"), re.MULTILINE | re.DOTALL)
    assert [int(size) for _, size, _ in found] == [len(text.encode()) for _, _, text in found]
    objects = {key: text.encode() for key, _, text in found}
    for key, same in re.findall(r"^`(\S+)` has the same bytes as\n`(\S+)`", section("Worked example"), re.MULTILINE):
        objects[key] = objects[same]
    return objects


def test_the_worked_example_is_what_the_code_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, from fixed inputs."""
    writer = chain.ChainWriter(LocalStore(str(tmp_path)), RUN)
    writer.writer = "00112233445566778899aabbccddeeff"
    monkeypatch.setattr(chain, "utcnow", lambda: T0)
    started = AttemptStarted(
        ts=T0,
        attempt=0,
        command=("dbt", "build"),
        invocation="subprocess",
        producer_started_at=T0,
        host="worker-1",
        pid=42,
        version="0.1.0",
    )
    writer.claim(started)
    end = T0 + timedelta(seconds=2.5)
    monkeypatch.setattr(chain, "utcnow", lambda: end)
    message = 'Erreur à la ligne 3:\n  "ref" \\ 1'
    writer.stage(Kind.END, [codec.encode(AttemptFinished(ts=end, exit_code=2, ended_by=EndedBy.EXIT, message=message))])
    writer.push()
    writer.checkpoint(end=True)
    second = chain.ChainWriter(LocalStore(str(tmp_path)), RUN)
    second.writer = "ffeeddccbbaa99887766554433221100"
    again = T0 + timedelta(minutes=1)
    monkeypatch.setattr(chain, "utcnow", lambda: again)
    second.claim(replace(started, ts=again, producer_started_at=again, pid=43))
    assert {str(path.relative_to(tmp_path)): path.read_bytes() for path in [*segments(tmp_path), *checkpoints(tmp_path)]} == example()


def test_the_worked_example_is_read_by_both_readers(tmp_path: Path) -> None:
    """Somebody who copies it into a folder has a ledger."""
    for key, data in example().items():
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    reader = ChainReader(LocalStore(str(tmp_path)), RUN)
    assert [entry.record.kind for entry in reader.read()] == ["attempt_started", "attempt_finished", "attempt_started"]
    assert not reader.ended
    (_, [started]), (end, [finished]), (again, _) = follow(example().get, RUN.prefix)
    assert again["ckpt_sha256"] == json.loads(example()[RUN.checkpoint(1)].split(b"\n")[0])["sha256"]
    late, complete, _ = read_late(example().get, ["0000000001.end.jsonl"], RUN.prefix)
    assert ([entry["record"] for entry in late], complete) == ([started, finished], True)
    late, complete, requests = read_late(example().get, ["0000000001.end.jsonl", "0000000001.jsonl"], RUN.prefix)
    assert (len(late), complete, requests) == (3, False, 4)
    assert (started["attempt"], finished["exit_code"], end["type"]) == (1, 2, "end")
    assert finished["message"].split("\n") == ["Erreur à la ligne 3:", '  "ref" \\ 1']


AWKWARD = [
    "",
    "a",
    "..",
    ".",
    "v1.",
    "a/b é",
    "+",
    "%2E",
    "a" * 200,
    "a" * 201,
    "é" * 34,
    "a" * 199 + ".b",
    "a" * 199 + "é" * 99,
    "ab é." * 99,
]


@pytest.mark.parametrize("value", AWKWARD, ids=range(len(AWKWARD)))
def test_paths_by_the_page_are_those_of_the_code(value: str) -> None:
    """The page's four steps, written independently."""
    assert run_prefix("default", "d", "r", value, 3) == RunKey("d", "r", value, 3).prefix
    assert run_prefix(value or "x", value or "x", value or "x", "", -1) == RunKey(value or "x", value or "x", "", -1, value or "x").prefix


def test_the_page_shows_paths_as_they_are() -> None:
    """The table of examples, where a row is no description."""
    found = re.findall(r"^\| `([^`]+)` \| `(run=[^`]+)` \|$", section("Paths"), re.MULTILINE)
    assert len(found) == 4
    assert [layout._encode("run", value) for value, _ in found] == [[part] for _, part in found]
    assert layout._encode("run", "a" * 201) == ["run=" + "a" * 200, "+a"]
    assert layout._encode("run", "é" * 34) == ["run=" + "%C3%A9" * 33, "+%C3%A9"]


def test_artifacts_lie_where_the_page_says(root: Path) -> None:
    """The record's path is relative to the root, its hash that of the stored bytes."""
    [found] = [r for _, records in follow(getter(root), RUN.prefix) for r in records if r["kind"] == "artifact" and r["size"] == 2]
    digest = hashlib.sha256(b"{}").hexdigest()
    assert found["path"] == f"{RUN.prefix}/files/run_results.{digest}.json"
    assert (root / found["path"]).read_bytes() == b"{}"


# Two readers ---------------------------------------------------------------------------------------------------------


def test_the_reader_from_the_page_agrees_with_the_code(root: Path) -> None:
    """The same records at the same places, the same segments, over three epochs."""
    prefix = run_prefix("default", RUN.dag_id, RUN.run_id, RUN.group, RUN.map_index)
    read = list(follow(getter(root), prefix))
    entries = ChainReader(LocalStore(str(root)), RUN).read()
    mine = [(header["seq"], header["epoch"], record) for header, records in read for record in records]
    assert mine == [(entry.seq, entry.epoch, json.loads(codec.encode(entry.record))) for entry in entries]
    types = [(header["epoch"], header["type"]) for header, _ in read]
    assert types[0] == (1, "fence")
    assert types[-5:] == [(1, "end"), (2, "fence"), (2, "data"), (3, "fence"), (3, "end")]
    assert {record["kind"] for _, _, record in mine} == {"rested", *(kind.kind for kind in KINDS)}


def test_what_is_in_the_segments_is_as_the_page_says(root: Path) -> None:
    """One record in a fence and in an end, at least one in data; an attempt's number is its epoch."""
    for header, records in follow(getter(root), RUN.prefix):
        match header["type"]:
            case "fence":
                assert [(record["kind"], record["attempt"]) for record in records] == [("attempt_started", header["epoch"])]
            case "end":
                assert [record["kind"] for record in records] == ["attempt_finished"]
            case _:
                assert records


def outcome_of_both(root: Path) -> tuple[type[Exception] | None, type[Exception] | None]:
    """What each reader says of the whole chain."""
    return verdict(lambda: list(follow(getter(root), RUN.prefix))), verdict(ChainReader(LocalStore(str(root)), RUN).read)


def verdict(read: Callable[[], object]) -> type[Exception] | None:
    """The refusal of a reader, ``None`` if it read to the end."""
    try:
        read()
    except (RefusedError, CorruptLedger, UnsupportedLedger) as error:
        return type(error)
    return None


def rewrite(path: Path, change: Callable[[dict[str, Any], list[str]], object]) -> None:
    """Change a segment and give it a right hash."""
    first, *lines = path.read_text("utf-8").split("\n")[:-1]
    header = json.loads(first)
    del header["sha256"]
    change(header, lines)
    path.write_bytes(segment_bytes(header, lines))


def with_line(text: str) -> Callable[[dict[str, Any], list[str]], None]:
    """One more line, counted."""

    def change(header: dict[str, Any], lines: list[str]) -> None:
        lines.append(text)
        header["n"] = len(lines)

    return change


REFUSED: dict[str, Callable[[dict[str, Any], list[str]], object]] = {
    "run": lambda header, _: header.update(run=header["run"].replace("shop", "bakery")),
    "seq": lambda header, _: header.update(seq=header["seq"] + 1),
    "prev": lambda header, _: header.update(prev="0" * 63 + "1"),
    "no prev": lambda header, _: header.pop("prev"),
    "epoch": lambda header, _: header.update(epoch=header["epoch"] + 1),
    "epoch of another type": lambda header, _: header.update(epoch=float(header["epoch"])),
    "another writer's end": lambda header, _: header.update(writer="f" * 32),
    "a fence of the same epoch": lambda header, _: header.update(type="fence"),
    "type": lambda header, _: header.update(type="checkpoint"),
    "n": lambda header, _: header.update(n=header["n"] + 1),
    "kind": lambda header, _: header.update(kind="segments"),
    "a line that is no record": with_line("[]"),
    "a record without a time": with_line('{"kind":"rested"}'),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_both_readers_refuse_what_the_page_refuses(root: Path, change: Callable[[dict[str, Any], list[str]], object]) -> None:
    """Each case is the chain's last segment, an end, with a right hash over something wrong."""
    rewrite(segments(root)[-1], lambda *_: None)
    assert outcome_of_both(root) == (None, None), "written anew by the page's rules it is as good"
    rewrite(segments(root)[-1], change)
    assert outcome_of_both(root) == (RefusedError, CorruptLedger)


@pytest.mark.parametrize("kind", ["data", "end"])
def test_after_an_end_only_a_fence_may_come_and_first_of_all_too(root: Path, kind: str) -> None:
    """Neither data nor an end may begin an epoch."""
    last = segments(root)[-1]
    header = json.loads(last.read_bytes().split(b"\n")[0])
    after = {**header, "seq": header["seq"] + 1, "prev": header["sha256"], "type": kind, "n": 0}
    del after["sha256"]
    (last.parent / f"{after['seq']:010d}.jsonl").write_bytes(segment_bytes(after, []))
    assert outcome_of_both(root) == (RefusedError, CorruptLedger)
    rewrite(segments(root)[0], lambda first, _: first.update(type=kind))
    assert outcome_of_both(root) == (RefusedError, CorruptLedger)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.replace(b'"exit_code":0', b'"exit_code":1'),
        lambda data: data[:11] + data[11:75].upper() + data[75:],
        lambda data: data.replace(b'{"sha256":', b'{ "sha256":'),
        lambda _: b"",
    ],
    ids=["cut", "longer", "altered", "hash in capitals", "white space in front", "empty"],
)
def test_both_readers_refuse_other_bytes(root: Path, damage: Callable[[bytes], bytes]) -> None:
    """The hash is over every byte from 77 on, and the first 77 have one form."""
    last = segments(root)[-1]
    before = last.read_bytes()
    last.write_bytes(damage(before))
    assert last.read_bytes() != before
    assert outcome_of_both(root) == (RefusedError, CorruptLedger)


def test_both_readers_name_another_version(root: Path) -> None:
    """In a header of today's form, and in one of another form that still has a ``v``."""
    last = segments(root)[-1]
    rewrite(last, lambda header, _: header.update(v=2))
    assert outcome_of_both(root) == (NewerError, UnsupportedLedger)
    last.write_bytes(b'{"v":2}\nquite another format')
    assert outcome_of_both(root) == (NewerError, UnsupportedLedger)


def test_both_readers_ignore_what_a_later_writer_adds(root: Path) -> None:
    """Header fields, fields of records and kinds of records; and the order of keys has no meaning."""

    def change(header: dict[str, Any], lines: list[str]) -> None:
        line = {**json.loads(lines[0]), "weather": "fine"}
        lines[:] = [json.dumps(dict(reversed(line.items()))), '{"ts": "2026-07-31T10:00:00+02:00", "kind": "rested", "for": null}']
        turned = dict(reversed(header.items())) | {"n": 2, "compressed": False}
        header.clear()
        header.update(turned)

    rewrite(segments(root)[-1], change)
    assert outcome_of_both(root) == (None, None)
    entries = ChainReader(LocalStore(str(root)), RUN).read()
    assert [entry.record.kind for entry in entries[-2:]] == ["attempt_finished", "unknown"]


def test_a_missing_segment_is_the_end_of_what_is_known(root: Path) -> None:
    """Nothing behind a gap is ever seen, and a chain that lost its newest segments is a valid one."""
    whole = len(list(follow(getter(root), RUN.prefix)))
    segments(root)[-2].unlink()
    assert len(list(follow(getter(root), RUN.prefix))) == whole - 2
    assert outcome_of_both(root) == (None, None)


# Checkpoints ---------------------------------------------------------------------------------------------------------


def names(root: Path) -> list[str]:
    """What a listing of ``ckpt/`` shows."""
    return [path.name for path in checkpoints(root)]


def late_outcome_of_both(root: Path) -> tuple[type[Exception] | None, type[Exception] | None]:
    """What each reader says of the newest checkpoint and what follows it."""
    reader = ChainReader(LocalStore(str(root)), RUN)
    return verdict(lambda: read_late(getter(root), names(root), RUN.prefix)), verdict(lambda: (reader.open(), reader.read()))


def test_both_late_readers_know_what_the_whole_chain_says(root: Path) -> None:
    """From each checkpoint, whatever is newest; and without any."""
    whole = [place(header, record) for header, records in follow(getter(root), RUN.prefix) for record in records]
    shown = names(root)
    assert len(shown) >= 4
    while True:
        late, complete, _ = read_late(getter(root), shown, RUN.prefix)
        upto = [entry for entry in whole if not complete or entry["seq"] <= int(shown[-1][:10])]
        assert what_counts(late) == what_counts(upto)
        if not shown:
            break
        shown.pop()
    reader = ChainReader(LocalStore(str(root)), RUN)
    mine = [{"seq": e.seq, "epoch": e.epoch, "record": json.loads(codec.encode(e.record))} for e in reader.open()]
    assert (mine, True) == read_late(getter(root), names(root), RUN.prefix)[:2]
    assert reader.complete


def test_a_checkpoint_holds_what_the_page_keeps(root: Path) -> None:
    """Heartbeats go, unless they are an epoch's last record; records of an unknown kind stay, their fields included."""
    data = checkpoints(root)[-1]
    _, entries = read_checkpoint(data.read_bytes(), RUN.prefix, int(data.name[:10]), end=True)
    whole = [place(header, record) for header, records in follow(getter(root), RUN.prefix) for record in records]
    assert all(entry in whole for entry in entries)
    left_out = [entry["record"]["kind"] for entry in whole if entry not in entries]
    assert "heartbeat" in left_out
    assert "rested" not in left_out
    assert [entry["record"] for entry in entries if entry["record"]["kind"] == "rested"] == [
        {"kind": "rested", "ts": "2026-07-31T10:00:00Z", "for": 3}
    ]


def first_entry(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any], list[str]], None]:
    """The first entry changed."""

    def changed(_: dict[str, Any], lines: list[str]) -> None:
        entry = json.loads(lines[0])
        change(entry)
        lines[0] = json.dumps(entry)

    return changed


CHECKPOINTS_REFUSED: dict[str, Callable[[dict[str, Any], list[str]], object]] = {
    "kind": lambda header, _: header.update(kind="segment"),
    "no head": lambda header, _: header.pop("head"),
    "head is a text": lambda header, _: header.update(head="segment"),
    "head without a hash": lambda header, _: header["head"].pop("sha256"),
    "head without a writer": lambda header, _: header["head"].pop("writer"),
    "another segment": lambda header, _: header["head"].update(seq=header["head"]["seq"] - 1),
    "another run": lambda header, _: header.update(run="v1"),
    "head of another run": lambda header, _: header["head"].update(run="v1"),
    "both of another run": lambda header, _: (header.update(run="v1"), header["head"].update(run="v1")),
    "not an end": lambda header, _: header["head"].update(type="data"),
    "type": lambda header, _: header["head"].update(type="checkpoint"),
    "a checkpoint without its hash": lambda header, _: header["head"].update(ckpt_seq=1),
    "n": lambda header, _: header.update(n=header["n"] + 1),
    "order": lambda _, lines: lines.reverse(),
    "beyond head": lambda header, lines: lines.append(lines.pop().replace(f'"seq":{header["head"]["seq"]}', f'"seq":{10**9}')),
    "a later epoch": lambda header, lines: lines.append(lines.pop().replace(f'"epoch":{header["head"]["epoch"]}', '"epoch":99')),
    "no entry": lambda _, lines: lines.append(lines.pop(0) and "[]"),
    "an entry without an epoch": first_entry(lambda entry: entry.pop("epoch")),
    "an entry with a text for a number": first_entry(lambda entry: entry.update(seq="0")),
    "an entry without a record": first_entry(lambda entry: entry.pop("record")),
    "an entry with a text for a record": first_entry(lambda entry: entry.update(record="x")),
    "a record without a time": first_entry(lambda entry: entry["record"].pop("ts")),
}


@pytest.mark.parametrize("change", CHECKPOINTS_REFUSED.values(), ids=CHECKPOINTS_REFUSED)
def test_both_readers_refuse_a_checkpoint_that_the_page_refuses(root: Path, change: Callable[[dict[str, Any], list[str]], object]) -> None:
    """Each with a right hash over something wrong."""
    newest = checkpoints(root)[-1]
    rewrite(newest, lambda *_: None)
    assert late_outcome_of_both(root) == (None, None), "written anew by the page's rules it is as good"
    rewrite(newest, change)
    assert late_outcome_of_both(root) == (RefusedError, CorruptLedger)


def test_both_readers_refuse_other_bytes_of_a_checkpoint_and_name_another_version(root: Path) -> None:
    """As with segments."""
    newest = checkpoints(root)[-1]
    data = newest.read_bytes()
    for other in (data[:-1], data + b"\n", data.replace(b'"exit_code":0', b'"exit_code":1'), b""):
        newest.write_bytes(other)
        assert late_outcome_of_both(root) == (RefusedError, CorruptLedger)
    newest.write_bytes(data)
    rewrite(newest, lambda header, _: header.update(v=2))
    assert late_outcome_of_both(root) == (NewerError, UnsupportedLedger)


def test_both_readers_ignore_what_a_later_writer_adds_to_a_checkpoint(root: Path) -> None:
    """In its header, in an entry, in a record; and names that are not those of checkpoints."""
    newest = checkpoints(root)[-1]
    (newest.parent / "9999999999.jsonl.gz").write_bytes(b"")
    (newest.parent / "99999999999.jsonl").write_bytes(b"")

    def change(header: dict[str, Any], lines: list[str]) -> None:
        header.update(weather="fine", head={**header["head"], "weather": "fine"})
        entry = json.loads(lines[0])
        lines[0] = json.dumps({**entry, "weather": "fine", "record": {**entry["record"], "weather": "fine"}})

    rewrite(newest, change)
    assert late_outcome_of_both(root) == (None, None)


def test_after_a_checkpoint_the_next_segment_has_to_follow(root: Path) -> None:
    """From the segment that its head is, as if that one had been read."""
    for path in checkpoints(root)[-1:]:
        path.unlink()
    assert late_outcome_of_both(root) == (None, None)
    newest = checkpoints(root)[-1]
    rewrite(newest, lambda header, _: header["head"].update(sha256="f" * 64))
    assert late_outcome_of_both(root) == (RefusedError, CorruptLedger)


def test_every_segment_that_names_a_checkpoint_names_the_one_that_is_there(root: Path) -> None:
    """By its hash; and each fence but the first does."""
    headers = [header for header, _ in follow(getter(root), RUN.prefix)]
    for header in headers:
        assert ("ckpt_seq" in header) >= (header["type"] == "fence" and header["seq"] > 0)
        if "ckpt_seq" in header:
            data = (root / RUN.prefix / "ckpt" / f"{header['ckpt_seq']:010d}.jsonl").read_bytes()
            assert hashlib.sha256(data[77:]).hexdigest() == header["ckpt_sha256"]


def test_a_reader_without_checkpoints_begins_where_an_expired_chain_begins(root: Path) -> None:
    """And says how much has gone."""
    for path in [*checkpoints(root), *segments(root)[:2]]:
        path.unlink()
    reader = ChainReader(LocalStore(str(root)), RUN)
    entries = reader.open() + reader.read()
    assert (entries[0].seq, reader.expired) == (2, 2)
