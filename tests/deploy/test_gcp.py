"""Who can do what with a ledger on Cloud Storage, from the terraform files."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.aws import KINDS
from tests.deploy.hcl import TERRAFORM, blocks, filled
from tests.deploy.test_aws import record_fields

FOLDER = TERRAFORM / "gcp"

# Of Google's predefined roles, what matters here.
PREDEFINED = {
    "roles/storage.objectCreator": {"storage.objects.create"},
    "roles/storage.objectViewer": {"storage.objects.get", "storage.objects.list"},
}


def permissions() -> dict[str, set[str]]:
    """Of each kind of identity, all its permissions."""
    tables = blocks(FOLDER / "policies", "locals")
    roles = filled(tables["roles"], {"var.auditor_role": "auditor", "var.retention_role": "retention"})
    meant = PREDEFINED | {role: set(found) for role, found in tables["permissions"].items()}
    return {kind: set().union(*(meant[roles[name]] for name in names)) for kind, names in tables["grants"].items()}


@pytest.mark.parametrize(
    ("permission", "expected"),
    [
        ("storage.objects.create", {"producer"}),
        ("storage.objects.get", set(KINDS)),
        ("storage.objects.list", set(KINDS)),
        ("storage.objects.delete", {"retention"}),  # and to replace an object takes it, too
        ("storage.objects.update", set()),
        ("storage.buckets.get", {"auditor"}),
        ("storage.buckets.getIamPolicy", {"auditor"}),
        ("storage.buckets.setIamPolicy", set()),
        ("storage.buckets.update", set()),
    ],
)
def test_who_may(permission: str, expected: set[str]) -> None:
    assert {kind for kind, found in permissions().items() if permission in found} == expected


def test_nobody_may_create_and_delete() -> None:
    """That would be to overwrite."""
    assert not [kind for kind, found in permissions().items() if {"storage.objects.create", "storage.objects.delete"} <= found]


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return blocks(FOLDER, "resource")


@pytest.mark.parametrize("bucket", ["ledger", "access_logs"])
def test_each_bucket_is_private(resources: dict[str, Any], bucket: str) -> None:
    found = resources[f"google_storage_bucket.{bucket}"]
    assert found["uniform_bucket_level_access"] is True
    assert found["public_access_prevention"] == "enforced"
    assert found["force_destroy"] is False


def test_an_upload_that_was_given_up_is_cleared_away(resources: dict[str, Any]) -> None:
    rules = resources["google_storage_bucket.ledger"]["lifecycle_rule"]
    (age,) = [rule["condition"][0]["age"] for rule in rules if rule["action"][0]["type"] == "AbortIncompleteMultipartUpload"]
    assert age == 1


def test_the_table_has_every_field_of_every_record() -> None:
    found = blocks(FOLDER, "locals")
    assert {*found["sql_columns"], *found["sql_lists"]} == record_fields()
