"""The policies of deploy/terraform/aws for one bucket, as statements."""

from __future__ import annotations

from typing import Any

from tests.deploy.hcl import TERRAFORM, blocks, filled

FOLDER = TERRAFORM / "aws"
BUCKET = "arn:aws:s3:::ledgers"
LOGS = "arn:aws:s3:::ledgers-access-logs"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/1234"
RETENTION = "arn:aws:iam::123456789012:role/gc"
KINDS = ("producer", "reader", "auditor", "retention")


def policies(prefix: str = "", bucket: str = BUCKET) -> dict[str, list[dict[str, Any]]]:
    """By kind of identity, the statements of its role; under ``bucket``, those of the bucket, in which RETENTION alone may delete."""
    values = {"var.bucket_arn": bucket, "var.prefix": prefix, "var.kms_key_arn": KEY, "var.access_log_arn": LOGS}
    tables = blocks(FOLDER / "policies", "locals")
    values["local.objects"] = filled(tables["objects"], values)
    values["local.deleters"] = [RETENTION]
    statements = filled(tables["statements"], values)
    found = {kind: [statements[name] for name in names] for kind, names in tables["grants"].items()}
    of_the_bucket = filled(tables["bucket"], values | {"local.objects": f"{bucket}/*"})
    return found | {"bucket": list(of_the_bucket.values())}
