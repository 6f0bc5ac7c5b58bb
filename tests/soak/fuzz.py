"""Random bytes into whatever reads a ledger: only declared errors may come out.

``python -m tests.soak.fuzz decode --seconds 60`` drives one target with atheris (coverage-guided); without a name, each of them in a
process of its own. What is sealed by a hash would be refused at once, so those targets also get a right hash over their bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ledger_watcher"]):
    from ledger_watcher import codec
    from ledger_watcher.errors import CorruptLedger, UnsupportedLedger
    from ledger_watcher.ledger.checkpoint import Compaction, pack_checkpoint, unpack_checkpoint
    from ledger_watcher.ledger.layout import RunKey
    from ledger_watcher.ledger.segments import unpack

from ledger_watcher.ledger import ChainReader
from ledger_watcher.records import Heartbeat
from tests.core.chains import NOW, RUN, Chain, finished, note, started
from tests.core.stores import MemoryStore

LARGEST = 4096


def decode(data: bytes) -> None:
    """A line: a record or a ``ValueError``; and what was read can be written and read again."""
    try:
        record = codec.decode(data)
    except ValueError:
        return
    if codec.decode(codec.encode(record)) != record:
        raise AssertionError(f"written and read again it is another record: {data!r}")


def segment(data: bytes) -> None:
    """An object as it is, and with a right hash."""
    for each in (data, sealed(data)):
        with contextlib.suppress(CorruptLedger, UnsupportedLedger):
            unpack("fuzz", each)


def checkpoint(data: bytes) -> None:
    """An object as it is, and with a right hash; one that is accepted can be made again."""
    for each in (data, sealed(data)):
        try:
            head, entries, _ = unpack_checkpoint("fuzz", each)
        except (CorruptLedger, UnsupportedLedger):
            continue
        compaction = Compaction()
        compaction.add(entries)
        unpack_checkpoint("fuzz", pack_checkpoint(head, compaction)[0])


def prefix(data: bytes) -> None:
    """A path: a run whose own prefix it is, or a ``ValueError``."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        run = RunKey.from_prefix(text)
    except ValueError:
        return
    if RunKey.from_prefix(run.prefix) != run:
        raise AssertionError(f"its own prefix is that of another run: {text!r}")


TARGETS: dict[str, Callable[[bytes], None]] = {"decode": decode, "segment": segment, "checkpoint": checkpoint, "prefix": prefix}


def sealed(data: bytes) -> bytes:
    """The bytes behind the hash of a sealed object, and that hash in front."""
    return b'{"sha256":"' + hashlib.sha256(data).hexdigest().encode() + b'",' + data


def corpus() -> list[bytes]:
    """Something sound of every kind to begin with."""
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    chain.data("a", "b")
    chain.end()
    reader = ChainReader(store, RUN)
    compaction = Compaction()
    compaction.add(reader.read())
    assert reader.last is not None
    objects = [*store.objects.values(), pack_checkpoint(reader.last, compaction)[0]]
    lines = [codec.encode(record) for record in (started(1), note("a"), finished(), Heartbeat(ts=NOW))]
    return [*objects, *(each[77:] for each in objects), *lines, RUN.prefix.encode()]


def run(name: str, seconds: int) -> None:
    """Never returns: libFuzzer ends the process, with 0 if nothing was found."""
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(corpus()):
            (Path(folder) / str(number)).write_bytes(data)
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={LARGEST}",
            f"-artifact_prefix={tempfile.gettempdir()}/ledger-watcher-fuzz-{name}-",
        ]
        atheris.Setup([sys.argv[0], *options, folder], TARGETS[name])
        atheris.Fuzz()


def main() -> int:
    """Exit code 1 if one of the targets found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    chosen = parser.parse_args()
    if chosen.target:
        run(chosen.target, chosen.seconds)
    failed = 0
    for name in TARGETS:
        command = [sys.executable, "-m", "tests.soak.fuzz", name, "--seconds", str(chosen.seconds)]
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        sys.stdout.write(f"{name}: {result.stderr if result.returncode else result.stderr.strip().splitlines()[-1]}\n")
        failed += result.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
