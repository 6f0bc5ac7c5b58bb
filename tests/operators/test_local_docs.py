"""Documentation to buckets: real servers, a fake dbt that writes the files of the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
import requests
from airflow.sdk.exceptions import AirflowFailException

from ledger_watcher_airflow import DbtDocsAzureStorageOperator, DbtDocsGCSOperator, DbtDocsS3Operator, ProfileConfig
from tests.core.conftest import azurite, gcs, moto, no_cloud  # noqa: F401 - fixtures
from tests.core.emulators import Azurite, GcsEmulator
from tests.core.fakes import FakeDbt
from tests.core.servers import MotoServer
from tests.operators.commands import context

SITE = """
assert sys.argv[sys.argv.index("docs") + 1] == "generate"
os.makedirs("target", exist_ok=True)
for name in os.environ["SITE"].split():
    open("target/" + name, "w").write("<p>" + name + "</p>")
"""
ALL = "index.html manifest.json catalog.json"


@pytest.fixture(autouse=True)
def known_anew() -> None:
    """What a test of another module reached by the same words was another server."""
    for protocol in ("s3", "gs", "abfs"):
        fsspec.get_filesystem_class(protocol).clear_instance_cache()


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    dbt = FakeDbt.make(tmp_path)
    env = {"FAKE_DBT": SITE, "SITE": ALL}
    return {
        "task_id": "docs",
        "profile_config": ProfileConfig(profile_name="shop"),
        "project_dir": dbt.project,
        "dbt_executable_path": dbt.path,
        "env": env,
    }


def there() -> Any:  # noqa: ANN401 - s3fs is not typed
    """S3 as it is now."""
    from s3fs import S3FileSystem

    return S3FileSystem(skip_instance_cache=True, use_listings_cache=False)


def test_s3(moto: MotoServer, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    bucket = moto.bucket()
    operator = DbtDocsS3Operator(**arguments, bucket_name=bucket, folder_dir="docs/shop/")
    for _ in range(2):  # what is there is replaced
        operator.execute(context())
    for name, kind in (("index.html", "text/html"), ("manifest.json", "application/json"), ("catalog.json", "application/json")):
        place = f"{bucket}/docs/shop/{name}"
        assert there().cat_file(place).decode() == f"<p>{name}</p>"
        assert there().info(place)["ContentType"] == kind


def test_gcs(gcs: GcsEmulator, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.bare)
    bucket = gcs.bucket()
    DbtDocsGCSOperator(**arguments, bucket_name=bucket).execute(context())
    for name in ALL.split():
        found = requests.get(f"{gcs.bare}/storage/v1/b/{bucket}/o/{name}?alt=media", timeout=30)
        assert found.text == f"<p>{name}</p>"


def test_azure(azurite: Azurite, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    from azure.storage.blob import BlobServiceClient

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string())
    container = azurite.bucket()
    operator = DbtDocsAzureStorageOperator(**arguments, container_name=container, folder_dir="docs")
    for _ in range(2):
        operator.execute(context())
    with BlobServiceClient.from_connection_string(azurite.connection_string()) as client:
        for name, kind in (("index.html", "text/html"), ("catalog.json", "application/json")):
            found = client.get_blob_client(container, f"docs/{name}")
            assert found.download_blob().readall().decode() == f"<p>{name}</p>"
            assert found.get_blob_properties().content_settings.content_type == kind


def test_the_static_site_is_one_file(moto: MotoServer, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    bucket = moto.bucket()
    arguments["env"]["SITE"] = f"{ALL} static_index.html"
    DbtDocsS3Operator(**arguments, bucket_name=bucket, dbt_cmd_flags=["--static"]).execute(context())
    assert there().find(bucket) == [f"{bucket}/static_index.html"]


def test_a_site_that_is_not_whole_is_not_put_there(moto: MotoServer, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    bucket = moto.bucket()
    arguments["env"]["SITE"] = "index.html manifest.json"
    with pytest.raises(AirflowFailException, match="has written no catalog"):
        DbtDocsS3Operator(**arguments, bucket_name=bucket).execute(context())
    assert there().find(bucket) == []


def test_a_connection_without_its_provider_is_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match=r"connection 'aws'.*install the provider for s3://.*leave connection_id out"):
        DbtDocsS3Operator(**arguments, bucket_name="docs", connection_id="aws").execute(context())
