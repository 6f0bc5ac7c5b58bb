"""Who can do what with a ledger on S3, from the terraform files."""

from __future__ import annotations

from typing import Any

import pytest

from ledger_watcher import schema
from tests.deploy.aws import BUCKET, FOLDER, KEY, KINDS, LOGS, RETENTION, policies
from tests.deploy.hcl import blocks
from tests.deploy.rules import allowed

TLS = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3", "aws:PrincipalArn": "arn:aws:iam::123456789012:role/other"}
CREATE = {**TLS, "s3:ObjectCreationOperation": "true", "s3:if-none-match": "*"}
OVERWRITE = {**TLS, "s3:ObjectCreationOperation": "true"}
PART = {**TLS, "s3:ObjectCreationOperation": "false"}
GC = {**TLS, "aws:PrincipalArn": RETENTION}
KMS = {"kms:EncryptionContext:aws:s3:arn": BUCKET}
OWN, OTHER = f"{BUCKET}/shop/v1/x.jsonl", f"{BUCKET}/bank/v1/x.jsonl"
ANYBODY = [{"Effect": "Allow", "Action": ["*"], "Resource": ["*"]}]

REQUESTS = {
    "create": ("s3:PutObject", OWN, CREATE, {"producer"}),
    "a part": ("s3:PutObject", OWN, PART, {"producer"}),
    "give up a create in parts": ("s3:AbortMultipartUpload", OWN, TLS, {"producer"}),
    "overwrite": ("s3:PutObject", OWN, OVERWRITE, set()),
    "create elsewhere": ("s3:PutObject", OTHER, CREATE, set()),
    "get": ("s3:GetObject", OWN, TLS, set(KINDS)),
    "get elsewhere": ("s3:GetObject", OTHER, TLS, set()),
    "list": ("s3:ListBucket", BUCKET, TLS, set(KINDS)),
    "delete": ("s3:DeleteObject", OWN, TLS, set()),
    "delete as retention": ("s3:DeleteObject", OWN, GC, {"retention"}),
    "delete a version": ("s3:DeleteObjectVersion", OWN, GC, set()),
    "get a version": ("s3:GetObjectVersion", OWN, TLS, {"auditor"}),
    "list versions": ("s3:ListBucketVersions", BUCKET, TLS, {"auditor"}),
    "read the bucket's policy": ("s3:GetBucketPolicy", BUCKET, TLS, {"auditor"}),
    "alter the bucket's policy": ("s3:PutBucketPolicy", BUCKET, TLS, set()),
    "alter lifecycle rules": ("s3:PutLifecycleConfiguration", BUCKET, TLS, set()),
    "stop versions": ("s3:PutBucketVersioning", BUCKET, TLS, set()),
    "shorten a lock": ("s3:PutObjectRetention", OWN, TLS, set()),
    "alter tags": ("s3:PutObjectTagging", OWN, TLS, set()),
    "read access logs": ("s3:GetObject", f"{LOGS}/x", TLS, {"auditor"}),
    "encrypt": ("kms:GenerateDataKey", KEY, KMS, {"producer"}),
    "decrypt": ("kms:Decrypt", KEY, KMS, set(KINDS)),
    "decrypt another bucket's": ("kms:Decrypt", KEY, {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::other"}, set()),
    "get without TLS": ("s3:GetObject", OWN, {**TLS, "aws:SecureTransport": "false"}, set()),
    "get by TLS 1.1": ("s3:GetObject", OWN, {**TLS, "s3:TlsVersion": "1.1"}, set()),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_who_may(request_: tuple[str, str, dict[str, str], set[str]]) -> None:
    action, resource, context, expected = request_
    found = policies("shop/")
    assert {kind for kind in KINDS if allowed([*found[kind], *found["bucket"]], action, resource, context)} == expected


@pytest.mark.parametrize(
    ("action", "context"),
    [
        ("s3:PutObject", OVERWRITE),
        ("s3:DeleteObject", TLS),
        ("s3:DeleteObjectVersion", GC),
        ("s3:GetObject", {**TLS, "aws:SecureTransport": "false"}),
    ],
)
def test_the_bucket_refuses_even_those_who_may_everything(action: str, context: dict[str, str]) -> None:
    assert allowed(ANYBODY, action, OWN, context)
    assert not allowed([*ANYBODY, *policies()["bucket"]], action, OWN, context)


def test_the_bucket_lets_what_a_ledger_needs_through() -> None:
    statements = [*ANYBODY, *policies()["bucket"]]
    for action, context in [("s3:PutObject", CREATE), ("s3:PutObject", PART), ("s3:GetObject", TLS), ("s3:DeleteObject", GC)]:
        assert allowed(statements, action, OWN, context)


def test_the_bucket_s_policy_is_for_everybody_and_only_denies() -> None:
    assert {(statement["Effect"], statement["Principal"]) for statement in policies()["bucket"]} == {("Deny", "*")}


def test_no_identity_has_a_wildcard_in_its_actions() -> None:
    for kind in KINDS:
        assert not [action for statement in policies()[kind] for action in statement["Action"] if "*" in action]


# The bucket ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return blocks(FOLDER, "resource")


@pytest.mark.parametrize("bucket", ["ledger", "access_logs"])
def test_each_bucket_is_private_encrypted_and_versioned(resources: dict[str, Any], bucket: str) -> None:
    block = resources[f"aws_s3_bucket_public_access_block.{bucket}"]
    assert [block[name] for name in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")] == [
        True
    ] * 4
    assert resources[f"aws_s3_bucket_versioning.{bucket}"]["versioning_configuration"][0]["status"] == "Enabled"
    assert resources[f"aws_s3_bucket_ownership_controls.{bucket}"]["rule"][0]["object_ownership"] == "BucketOwnerEnforced"
    assert resources[f"aws_s3_bucket_server_side_encryption_configuration.{bucket}"]["rule"]
    assert resources[f"aws_s3_bucket_policy.{bucket}"]


def test_an_upload_that_was_given_up_is_cleared_away(resources: dict[str, Any]) -> None:
    leftovers, *_ = resources["aws_s3_bucket_lifecycle_configuration.ledger"]["rule"]
    assert leftovers["abort_incomplete_multipart_upload"][0]["days_after_initiation"] == 1
    assert leftovers["status"] == "Enabled"


def test_messages_are_of_ends_alone(resources: dict[str, Any]) -> None:
    (topic,) = resources["aws_s3_bucket_notification.ends"]["topic"]
    assert topic["filter_suffix"] == ".end.jsonl"


def test_the_table_has_every_field_of_every_record() -> None:
    assert set(blocks(FOLDER, "locals")["sql_columns"]) == record_fields()


def record_fields() -> set[str]:
    """Those of all kinds of records, and the place that a line of a checkpoint names."""
    definitions = schema.line_schema()["$defs"]
    kinds = [one for name, one in definitions.items() if "ts" in one.get("properties", {}) and name not in ("Header", "UnknownRecord")]
    return {field for one in kinds for field in one["properties"]} | {"seq", "epoch"}


# Variables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["aws", "aws/policies", "gcp", "gcp/policies"])
def test_every_variable_and_output_is_described(folder: str) -> None:
    for kind in ("variable", "output"):
        named = blocks(FOLDER.parent / folder, kind)
        assert named
        assert not [name for name, body in named.items() if len(body.get("description", "")) < len("Tags of all.")]
        if kind == "variable":
            assert not [name for name, body in named.items() if "type" not in body]


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_the_readme_names_every_variable_and_output(cloud: str) -> None:
    text = (FOLDER.parent / cloud / "README.md").read_text()
    names = [*blocks(FOLDER.parent / cloud, "variable"), *blocks(FOLDER.parent / cloud, "output")]
    assert not [name for name in names if f"`{name}`" not in text]
