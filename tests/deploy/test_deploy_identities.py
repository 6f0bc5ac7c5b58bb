"""The policies at work: identities of moto's IAM, which checks actions and resources. Its S3 checks `If-None-Match` itself; conditions it passes over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import boto3
import pytest

from ledger_watcher.errors import Denied, Exists, Missing
from ledger_watcher.storage import Store, open_store
from tests.core.servers import MotoServer
from tests.deploy.aws import KINDS, policies

PREFIX = "shop/"
REGION = "eu-central-1"


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    server = MotoServer()
    yield server
    server.require_credentials(False)
    server.stop()


@pytest.fixture(scope="module")
def stores(server: MotoServer) -> dict[str, dict[str, Store]]:
    """By kind of identity and by prefix: the ledger's store, opened with the identity's own key."""
    client = partial(boto3.client, endpoint_url=server.url, region_name=REGION, aws_access_key_id="setup", aws_secret_access_key="setup")
    bucket = server.bucket()
    found = {}
    for kind in KINDS:
        iam = client("iam")
        iam.create_user(UserName=kind)
        document = {"Version": "2012-10-17", "Statement": policies(PREFIX, f"arn:aws:s3:::{bucket}")[kind]}
        iam.put_user_policy(UserName=kind, PolicyName="ledger", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=kind)["AccessKey"]
        options = {
            "endpoint_url": server.url,
            "key": key["AccessKeyId"],
            "secret": key["SecretAccessKey"],
            "client_kwargs": {"region_name": REGION},
        }
        found[kind] = {prefix: open_store(f"s3://{bucket}/{prefix}", storage_options=options) for prefix in (PREFIX, "bank/")}
    client("s3").put_object(Bucket=bucket, Key="shop/v1/there.jsonl", Body=b"there\n")
    client("s3").put_object(Bucket=bucket, Key="bank/v1/there.jsonl", Body=b"theirs\n")
    server.require_credentials(True)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_everybody_reads_and_is_told_what_is_missing(stores: dict[str, dict[str, Store]], kind: str) -> None:
    store = stores[kind][PREFIX]
    assert store.get("v1/there.jsonl") == b"there\n"
    assert "there.jsonl" in store.list("v1")
    with pytest.raises(Missing):
        store.get("v1/absent.jsonl")


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_producer_creates(stores: dict[str, dict[str, Store]], kind: str) -> None:
    store = stores[kind][PREFIX]
    if kind != "producer":
        with pytest.raises(Denied):
            store.create(f"v1/{kind}.jsonl", b"x\n")
        return
    store.create("v1/producer.jsonl", b"x\n")
    with pytest.raises(Exists):
        store.create("v1/producer.jsonl", b"y\n")
    assert store.get("v1/producer.jsonl") == b"x\n"


@pytest.mark.parametrize("kind", ["producer", "reader", "auditor", "retention"])
def test_only_retention_deletes(stores: dict[str, dict[str, Store]], kind: str) -> None:
    store = stores[kind][PREFIX]
    if kind == "retention":
        store.delete("v1/there.jsonl")
        with pytest.raises(Missing):
            store.get("v1/there.jsonl")
        return
    with pytest.raises(Denied):
        store.delete("v1/there.jsonl")
    assert store.get("v1/there.jsonl") == b"there\n"


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_reads_or_writes_below_another_prefix(stores: dict[str, dict[str, Store]], kind: str) -> None:
    store = stores[kind]["bank/"]
    with pytest.raises(Denied):
        store.get("v1/there.jsonl")
    with pytest.raises(Denied):
        store.create("v1/new.jsonl", b"x\n")
    with pytest.raises(Denied):
        store.delete("v1/there.jsonl")
