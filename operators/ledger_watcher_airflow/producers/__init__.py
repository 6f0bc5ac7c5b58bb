"""Producers other than the one that runs dbt on the worker with what is installed there."""

from ledger_watcher_airflow.producers.command import Producer, ProducerCommand, producer_command
from ledger_watcher_airflow.producers.factories import (
    bash_producer,
    cloud_run_producer,
    docker_producer,
    ecs_producer,
    kubernetes_producer,
    ssh_producer,
)
from ledger_watcher_airflow.producers.virtualenv import DbtProducerWatcherVirtualenvOperator

__all__ = [
    "DbtProducerWatcherVirtualenvOperator",
    "Producer",
    "ProducerCommand",
    "bash_producer",
    "cloud_run_producer",
    "docker_producer",
    "ecs_producer",
    "kubernetes_producer",
    "producer_command",
    "ssh_producer",
]
