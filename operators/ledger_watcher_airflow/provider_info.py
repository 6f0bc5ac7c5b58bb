"""What Airflow asks of a provider. It must import nothing: if it fails, every Airflow process of the deployment does."""

from __future__ import annotations


def get_provider_info() -> dict[str, object]:
    """Describe this package to Airflow."""
    return {
        "package-name": "ledger-watcher",
        "name": "Ledger Watcher",
        "description": "Runs dbt once, anywhere, and shows every node as a task through an append-only ledger on shared storage.",
        "config": {
            "ledger_watcher": {
                "description": "Defaults for the ledgers of dbt runs.",
                "options": {
                    "uri": {
                        "description": "Root URI of the ledgers, where ExecutionConfig gives none.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://bucket/prefix",
                        "default": None,
                    },
                    "deployment": {
                        "description": "Name of this Airflow deployment: part of every ledger's path, so that deployments can share a root.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "prod",
                        "default": "default",
                    },
                    "remote_cache_dir": {
                        "description": "URI where hosts that parse DAG files share what dbt answered (dbt ls), beside a folder of their own.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://bucket/dbt-cache",
                        "default": None,
                    },
                    "remote_cache_dir_conn_id": {
                        "description": "Airflow connection with the credentials for it; the environment's own if there is none.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "aws_default",
                        "default": None,
                    },
                },
            }
        },
    }
