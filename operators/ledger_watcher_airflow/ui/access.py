"""Who may see what, by the rules of Airflow's auth manager, whichever it is."""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, HTTPException, Query, Request

_NEEDED = (DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.TASK_LOGS)
"""A ledger tells of runs and tasks, and holds lines of logs."""


def require_dag(dag_id: Annotated[str, Query(min_length=1)], request: Request, user: GetUserDep) -> str:
    """The DAG that is asked for, which the user may read, logs included. What is checked is the very value that is used.

    :raises HTTPException: 401: nobody is logged in; 403: this user may not.
    """
    for entity in _NEEDED:
        requires_access_dag("GET", entity, dag_id)(request, user)
    return dag_id


ReadableDag = Annotated[str, Depends(require_dag)]


def dags_of(user: BaseUser) -> list[str]:
    """The DAGs that the user may see at all."""
    return sorted(get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))


def readable(dag_id: str, request: Request, user: BaseUser) -> bool:
    """Whether the user may read a DAG, logs included."""
    try:
        require_dag(dag_id, request, user)
    except HTTPException:
        return False
    return True
