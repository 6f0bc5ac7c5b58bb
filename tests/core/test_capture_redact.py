from __future__ import annotations

import gzip
import json

import pytest

from ledger_watcher import codec
from ledger_watcher.capture import Masker, redact
from tests.core.streams import FIXTURES, run_results

SECRET = 'pä"ss'


def test_arguments_and_environment_are_left_out() -> None:
    found = codec.loads(redact("run_results.json", codec.dumps(run_results("1.11"))))
    assert found["args"]["which"] == "build"
    assert not {"vars", "invocation_command", "profiles_dir", "project_dir", "log_path"} & set(found["args"])
    assert "env" not in found["metadata"]
    assert [result["unique_id"] for result in found["results"]] == [result["unique_id"] for result in run_results("1.11")["results"]]


def test_manifest_keeps_its_nodes() -> None:
    raw = gzip.decompress((FIXTURES / "manifests" / "manifest-1.11.json.gz").read_bytes())
    before, after = codec.loads(raw), codec.loads(redact("manifest.json", raw))
    assert before["metadata"].pop("env") is not None
    assert after == before


@pytest.mark.parametrize("ascii_only", [True, False])
def test_secret_values_are_masked_however_they_are_written(ascii_only: bool) -> None:
    masker = Masker({"DBT_ENV_SECRET_TOKEN": SECRET, "OTHER": "harmless", "DBT_ENV_SECRET_SHORT": "abc"})
    data = json.dumps({"results": [{"message": f"no access with {SECRET}", SECRET: "harmless abc"}]}, ensure_ascii=ascii_only).encode()
    found = codec.loads(redact("run_results.json", data, masker))
    assert found == {"results": [{"message": "no access with *****", "*****": "harmless abc"}]}
    assert masker.text(f"<{SECRET}>") == "<*****>"


def test_the_attempts_folder_becomes_the_users() -> None:
    masker = Masker({}, [("../tmp/x", "target"), ("/tmp/x", "target")])  # noqa: S108
    assert (
        masker.text("compiled code at /tmp/x/run/a.sql and ../tmp/x/run/b.sql") == "compiled code at target/run/a.sql and target/run/b.sql"
    )
    assert codec.loads(masker.paths(b'{"compiled_path": "/tmp/x/compiled/a.sql"}')) == {"compiled_path": "target/compiled/a.sql"}


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff"])
def test_what_is_not_an_artifact_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON"):
        redact("run_results.json", data)


@pytest.mark.parametrize("found", [{"args": []}, {"metadata": None}, {"metadata": {"env": {"A": "b"}}}])
def test_odd_artifacts(found: dict[str, object]) -> None:
    assert "A" not in redact("sources.json", codec.dumps(found)).decode()
