"""Keyed hashes: who has no key can alter a ledger, recompute every hash in it, and is found out all the same."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ledger_watcher.capture import Capture, CaptureRequest
from ledger_watcher.cli import main
from ledger_watcher.errors import ConfigError, CorruptLedger
from ledger_watcher.ledger import ChainReader, LedgerWriter
from ledger_watcher.ledger.keys import KEY, KEY_FILE, NO_KEYS, Keyring
from ledger_watcher.ledger.verify import Verification, verify
from ledger_watcher.storage import LocalStore
from tests.core.chains import RUN
from tests.core.fakes import FakeDbt, Screen
from tests.core.ledgers import began, ended, ends, plan, starts
from tests.core.stores import MemoryStore

SECRET = "correct horse battery staple"
OTHER = "0123456789abcdef"
KEYS = Keyring((SECRET.encode(),))
BODY_AT = len('{"sha256":"') + 64 + len('",')


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)


def write(store: MemoryStore, attempts: int = 1) -> None:
    """Attempts by the real writer, with whatever key the environment has."""
    for attempt in range(attempts):
        writer = LedgerWriter(store, RUN)
        writer.open(began(attempt * 10))
        for record in (plan("a"), starts("a"), ends("a")):
            writer.append(record)
        writer.put_file("run_results.json", b'{"results": []}')
        writer.close(ended(attempt * 10 + 3))


def chain_objects(store: MemoryStore) -> list[str]:
    return sorted(key for key in store.objects if key.endswith(".jsonl"))


def problems(store: MemoryStore, keys: Keyring = KEYS) -> list[str]:
    found: Verification = verify(store, RUN, at_once=1, keys=keys)
    return [str(problem) for problem in found.problems]


def with_hash(covered: bytes) -> bytes:
    return b'{"sha256":"' + hashlib.sha256(covered).hexdigest().encode() + b'",' + covered


@pytest.mark.usefixtures("keyed")
def test_the_mac_is_what_the_page_says() -> None:
    """Recomputed by hmac and a cut alone: the last member of the header, over the bytes without it."""
    store = MemoryStore()
    write(store, 2)
    keys = chain_objects(store)
    assert len([key for key in keys if "/ckpt/" in key]) == 3
    for key in keys:
        covered = store.objects[key][BODY_AT:]
        header, _, records = covered.partition(b"\n")
        found = re.search(rb',"mac":"([0-9a-f]{64})"}$', header)
        assert found, key
        assert list(json.loads(b"{" + header))[-1] == "mac"
        bare = header[: found.start()] + b"}\n" + records
        assert hmac.new(SECRET.encode(), bare, "sha256").hexdigest().encode() == found[1]
        assert store.objects[key] == with_hash(covered), "the hash covers the mac"
        assert json.loads(b"{" + header)["kind"] in ("segment", "checkpoint")


@pytest.mark.usefixtures("keyed")
def test_signed_chains_verify_and_read_with_and_without_the_key() -> None:
    store = MemoryStore()
    write(store, 2)
    assert problems(store) == problems(store, NO_KEYS) == []
    readers = [ChainReader(store, RUN, keys) for keys in (KEYS, NO_KEYS)]
    read = [reader.open() for reader in readers]
    assert read[0] == read[1]
    assert len(read[0]) > 5


def test_without_a_key_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (KEY, KEY_FILE):
        monkeypatch.delenv(name, raising=False)
    store = MemoryStore()
    write(store)
    assert not any(b'"mac"' in data for data in store.objects.values())
    assert problems(store, NO_KEYS) == []


def test_what_was_written_without_the_key_is_a_problem_for_whoever_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    store = MemoryStore()
    write(store)
    found = problems(store)
    assert len(found) == len(chain_objects(store))
    assert all("does not end with a mac although a key is set" in problem for problem in found)
    monkeypatch.setenv(KEY, SECRET)
    with pytest.raises(CorruptLedger, match="although a key is set"):
        LedgerWriter(store, RUN).open(began(10))


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def forge(covered: bytes) -> bytes:
        assert old in covered
        return covered.replace(old, new)

    return forge


def without_mac(covered: bytes) -> bytes:
    return re.sub(rb',"mac":"[0-9a-f]{64}"}\n', b"}\n", covered, count=1)


def other_key(covered: bytes) -> bytes:
    bare = without_mac(covered)
    mac = hmac.new(OTHER.encode(), bare, "sha256").hexdigest().encode()
    return bare.replace(b"}\n", b',"mac":"' + mac + b'"}\n', 1)


def mac_moved(covered: bytes) -> bytes:
    found = re.search(rb',"mac":"[0-9a-f]{64}"}\n', covered)
    assert found
    return found[0][1:-2] + b"," + covered[: found.start()] + b"}\n" + covered[found.end() :]


FORGERIES: dict[str, Callable[[bytes], bytes]] = {
    "altered": replaced(b'"exit_code":0', b'"exit_code":1'),
    "no mac": without_mac,
    "another key": other_key,
    "mac elsewhere": mac_moved,
    "mac shortened": lambda covered: re.sub(rb'("mac":"[0-9a-f]{63})[0-9a-f]', rb"\1", covered, count=1),
    "mac in capitals": lambda covered: re.sub(
        rb'"mac":"[0-9a-f]{64}"', lambda mac: b'"mac":"' + mac[0][7:-1].upper() + b'"', covered, count=1
    ),
}


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize("how", FORGERIES)
def test_a_forged_end_is_found_although_all_hashes_are_right(how: str) -> None:
    """The newest segment: no later object holds its hash, so that without a key nobody could tell."""
    store = MemoryStore()
    write(store)
    for key in [key for key in store.objects if "/ckpt/" in key]:
        del store.objects[key]
    end = max(key for key in store.objects if "/seg/" in key)
    store.objects[end] = with_hash(FORGERIES[how](store.objects[end][BODY_AT:]))
    assert problems(store, NO_KEYS) == [], "a sound chain, as far as anybody without the key can tell"
    (problem,) = problems(store)
    assert "mac" in problem
    with pytest.raises(CorruptLedger, match="mac"):
        LedgerWriter(store, RUN).open(began(10))


@pytest.mark.usefixtures("keyed")
def test_a_signed_segment_does_not_pass_in_another_place() -> None:
    """The header, which is signed, names run, number and the segment before: replaying gets an attacker nothing."""
    store = MemoryStore()
    write(store)
    store.objects[RUN.segment(3)] = store.objects[RUN.segment(1)]
    assert any("its sequence number is 1, its place is 3" in problem for problem in problems(store))


@pytest.mark.usefixtures("keyed")
def test_a_forged_checkpoint_is_neither_read_nor_taken_over() -> None:
    """A writer makes its own checkpoint from what it reads: it must not sign what somebody else made up."""
    store = MemoryStore()
    write(store)
    (checkpoint,) = (key for key in store.objects if "/ckpt/" in key)
    covered = without_mac(store.objects[checkpoint][BODY_AT:])
    store.objects[checkpoint] = with_hash(covered.replace(b'"outcome":"success"', b'"outcome":"skipped"'))
    assert len(problems(store)) >= 1
    with pytest.raises(CorruptLedger, match="although a key is set"):
        LedgerWriter(store, RUN).open(began(10))


def test_a_new_key_is_put_in_front_of_the_old_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    monkeypatch.setenv(KEY_FILE, str(file))
    store = MemoryStore()
    file.write_text(f"{SECRET}\n")
    write(store)
    file.write_text(f"\n{OTHER}\n  {SECRET}\r\n")
    write(store)
    assert problems(store, Keyring.from_env()) == []
    old, new = problems(store, Keyring((OTHER.encode(),))), problems(store)
    assert old
    assert new
    assert not any(problem in new for problem in old), "each key has signed some of it"


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({KEY: ""}, "holds no key"),
        ({KEY: "too short"}, "fewer than 16 bytes"),
        ({KEY: SECRET, KEY_FILE: "x"}, "both set"),
        ({KEY_FILE: "nowhere/at/all"}, "cannot be read"),
    ],
)
def test_a_key_that_is_none_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], says: str, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    store = MemoryStore()
    with pytest.raises(ConfigError, match=says) as caught:
        LedgerWriter(store, RUN)
    assert store.calls == []
    assert not any(value in str(caught.value) for name, value in env.items() if name == KEY and value)


def test_the_key_is_never_shown() -> None:
    assert SECRET not in f"{KEYS!r} {KEYS} {KEYS.mac(b'')}"


def run_verify(root: Path, *args: str) -> Result:
    return CliRunner().invoke(main, ["verify", str(root), *args])


def test_the_command_checks_macs_when_it_has_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(KEY, SECRET)
    writer = LedgerWriter(LocalStore(str(tmp_path)), RUN)
    writer.open(began())
    writer.close(ended(3))
    result = run_verify(tmp_path)
    assert result.exit_code == 0
    assert f", macs checked with {KEY}, " in result.stdout
    monkeypatch.setenv(KEY, OTHER)
    result = run_verify(tmp_path)
    assert result.exit_code == 1
    assert "its mac does not belong to it under the key that is set" in result.stdout
    assert OTHER not in result.output
    monkeypatch.delenv(KEY)
    result = run_verify(tmp_path)
    assert (result.exit_code, "macs" in result.stdout) == (0, False)
    monkeypatch.setenv(KEY, "short")
    result = run_verify(tmp_path)
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: A key of ")


def test_dbt_is_not_given_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(KEY, SECRET)
    dbt, store, screen = FakeDbt.make(tmp_path), MemoryStore(), Screen()
    code = "text('names: ' + ' '.join(sorted(os.environ))); text('said: correct ' + 'horse battery staple')"
    request = CaptureRequest(command=(str(dbt.path), "build"), project_dir=dbt.project, env=dbt.env(code), forward=screen)
    Capture(store, RUN, request).run()
    (names,) = (line for line in screen.lines if line.startswith("names: "))
    assert "FAKE_DBT" in names
    assert "LEDGER_WATCHER_HMAC" not in names
    assert "said: *****" in screen.lines
    assert problems(store) == []
    assert not any(SECRET.encode() in data for data in store.objects.values())


IN_PROCESS = """
import os, sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
seen = []
class dbtRunner:
    def __init__(self, callbacks, manifest=None): pass
    def invoke(self, args):
        seen.append(sorted(name for name in os.environ if "HMAC" in name))
        return SimpleNamespace(success=True, exception=None)
module = ModuleType("dbt.cli.main")
module.dbtRunner = dbtRunner
sys.modules["dbt.cli.main"] = module
from ledger_watcher.capture.inprocess import InProcessDbt
from ledger_watcher.capture.runner import Launch
dbt = InProcessDbt(Launch(argv=("build",), env={}, cwd=Path.cwd()), sink=print, grace=1.0)
assert dbt.run() == 0
print(seen, sorted(name for name in os.environ if "HMAC" in name))
"""


def test_dbt_in_this_process_does_not_see_it_either(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_PROCESS], env={KEY: SECRET, KEY_FILE: "x"}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"[[]] {[KEY, KEY_FILE]}"
