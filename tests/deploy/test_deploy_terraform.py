"""What terraform itself says; skipped where there is none. Its providers cannot be had everywhere, and without them only a part is checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.aws import BUCKET, KEY, KINDS, LOGS, RETENTION, policies
from tests.deploy.hcl import TERRAFORM

MODULES = sorted({path.parent.relative_to(TERRAFORM).as_posix() for path in TERRAFORM.rglob("*.tf")})
NO_PROVIDER = "Failed to query available provider packages"


@pytest.fixture(scope="module")
def terraform() -> str:
    found = shutil.which("terraform")
    if found is None:
        pytest.skip("terraform is not installed here")
    return found


def run(terraform: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_CLI_ARGS": "-no-color"}
    return subprocess.run(
        [terraform, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_files_are_formatted(terraform: str) -> None:
    result = run(terraform, TERRAFORM, "fmt", "-check", "-recursive", "-diff")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("module", MODULES)
def test_the_module_is_valid(terraform: str, module: str, tmp_path: Path) -> None:
    copy = shutil.copytree(TERRAFORM, tmp_path / "terraform") / module
    made = run(terraform, copy, "init", "-backend=false", "-input=false")
    if made.returncode and NO_PROVIDER in made.stderr:
        pytest.skip(f"the providers of {module} cannot be had here")
    assert made.returncode == 0, made.stderr
    result = run(terraform, copy, "validate")
    assert result.returncode == 0, result.stderr


def test_terraform_makes_the_documents_that_the_other_tests_judge(terraform: str, tmp_path: Path) -> None:
    """The module of policies needs no provider, so it can be applied anywhere."""
    copy = shutil.copytree(TERRAFORM / "aws" / "policies", tmp_path / "policies")
    assert run(terraform, copy, "init", "-input=false").returncode == 0
    variables = {
        "bucket_arn": BUCKET,
        "prefix": "shop/",
        "kms_key_arn": KEY,
        "access_log_arn": LOGS,
        "retention_arns": json.dumps([RETENTION]),
    }
    applied = run(terraform, copy, "apply", "-auto-approve", *(f"-var={name}={value}" for name, value in variables.items()))
    assert applied.returncode == 0, applied.stderr
    said = json.loads(run(terraform, copy, "output", "-json").stdout)
    expected = policies("shop/")
    for kind in KINDS:
        assert json.loads(said["identities"]["value"][kind])["Statement"] == expected[kind]


def test_a_wrong_prefix_is_named(terraform: str, tmp_path: Path) -> None:
    copy = shutil.copytree(TERRAFORM / "aws" / "policies", tmp_path / "policies")
    assert run(terraform, copy, "init", "-input=false").returncode == 0
    result = run(terraform, copy, "plan", f"-var=bucket_arn={BUCKET}", "-var=prefix=/shop")
    assert result.returncode != 0
    assert "prefix is empty, or it ends with a slash" in result.stderr
