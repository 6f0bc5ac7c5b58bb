"""Nothing in a ledger acts on a terminal: no escape sequence, no control character, no override of the direction of writing, whatever shows it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from ledger_watcher.cli import main
from ledger_watcher.ledger import RunKey
from ledger_watcher.records import Artifact, HookFinished, NodeProgress, Outcome, Record, Unknown
from tests.core.hostile import PAYLOADS
from tests.core.ledgers import at, began, dbt, ended, ends, log, starts, write, write_open

PATIENCE = 60
TEXTS = tuple(text.replace("\udc80", "") for text in PAYLOADS)
EVERY = "".join(TEXTS)
ACTING = tuple(text for text in TEXTS if not text.isprintable())
A, B, LIVE = "run-a", "run-b", "run-live"
OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r?\n|\r")
"""What rich writes by itself: colours, the cursor hidden and shown, a line cleared, a line up."""


def records() -> list[Record]:
    """Each text wherever a record has room for one."""
    found: list[Record] = [dbt(EVERY), Unknown(ts=at(0), original_kind=EVERY, data={EVERY: EVERY})]
    for place, text in enumerate(TEXTS):
        found += [
            starts(text, place, thread=text, relation=text, materialized=text),
            log(text, text, EVERY),
            NodeProgress(ts=at(place), unique_id=f"model.shop.{text}", index=1, total=1, status=text),
            ends(text, Outcome.FAILED, place + 1, message=f"{text}\n{EVERY}"[:6000], query_id=text, status=text, skip_cause=(text,)),
            HookFinished(ts=at(place), unique_id=text, outcome=Outcome.FAILED, status=text, message=text),
            Artifact(ts=at(place), name=text, sha256=text, size=1, path=text),
        ]
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write(folder, RunKey("shop", A), began(command=("dbt", EVERY)), records(), ended(99, 1, message=EVERY, incomplete=EVERY))
    write(folder, RunKey("shop", B), began(100), [ends(f"{text}!", seconds=101) for text in TEXTS], ended(102))
    for text in PAYLOADS:  # the names of a run itself, lone surrogates too
        write_open(folder, RunKey(text, text, group=text, deployment=text), began(-9))
    return folder


def commands(root: Path) -> list[list[str]]:
    where = [str(root)]
    one = ["--dag-id", "shop", "--run-id", A]
    return [
        ["ls", *where, "--limit", "0"],
        ["show", *where, *one],
        *(["show", *where, *one, f"model.shop.{text}"] for text in (TEXTS[0], *ACTING)),
        ["diff", *where, A, B, "--dag-id", "shop"],
        ["tail", *where, *one],
        ["tail", *where, *one, "-f"],
        ["verify", *where, "--all"],
        ["gc", *where, "--older-than", "0h"],
    ]


def test_there_are_enough_of_them() -> None:
    assert len(PAYLOADS) >= 40
    assert len(ACTING) >= 10


def test_plain_output_is_printable(root: Path) -> None:
    for args in commands(root):
        result = CliRunner().invoke(main, args)
        assert result.exit_code in (0, 1), result.output  # 1: verify looks for the artifacts
        assert result.stdout.replace("\n", "").isprintable(), args
        assert result.stderr.replace("\n", "").isprintable(), args
        assert len(result.stdout) > 100


def test_errors_are_printable(root: Path) -> None:
    for text in ACTING:
        for args in (["show", str(root), text], ["show", str(root), "--run-id", text, "--dag-id", text], ["tail", f"{root}/{text}"]):
            result = CliRunner().invoke(main, args)
            assert result.stderr.replace("\n", "").isprintable(), args


def test_a_terminal_gets_no_sequence_but_rich_s_own(root: Path) -> None:
    """A real terminal, each command in turn."""
    code = "import json, sys\nfrom ledger_watcher.cli import main\nfor args in json.loads(sys.argv[1]): main(args, standalone_mode=False)"
    wanted = [args for args in commands(root) if args[0] not in ("verify", "gc")]
    ours, theirs = pty.openpty()
    output = bytearray()

    def read() -> None:
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says EIO when the other side has closed
                return
            if not part:
                return
            output.extend(part)

    environment = {**os.environ, "COLUMNS": "200", "LINES": "50", "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(wanted)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        thread = threading.Thread(target=read)
        thread.start()
        assert process.wait(PATIENCE) == 0
        thread.join(PATIENCE)
    os.close(ours)
    text = output.decode()
    assert "✗ failed" in text, "rich drew it"
    assert "\x1b[?25l" in text, "the live table, too"
    assert OWN.sub("", text).isprintable()
    assert [payload for payload in ACTING if payload in text] == []
