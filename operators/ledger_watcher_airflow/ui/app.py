"""The pages and what they ask for. Everything wants a user; what is about a DAG wants one who may read it."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep, get_user
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

from ledger_watcher.report import page
from ledger_watcher_airflow.ui.access import ReadableDag, dags_of, readable, require_dag
from ledger_watcher_airflow.ui.dags import Place, Run, find_run
from ledger_watcher_airflow.ui.overview import overview
from ledger_watcher_airflow.ui.story import story
from ledger_watcher_airflow.ui.timeline import LiveRuns, answer

_TYPES = {"css": "text/css", "js": "text/javascript", "html": "text/html"}
_NUMBER = re.compile(r"-?[0-9]{1,9}")

router = APIRouter()
_lives = LiveRuns()


def create_app() -> FastAPI:
    """The app, without documentation pages, which would be anonymous."""
    app = FastAPI(title="ledger_watcher", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(get_user)])
    app.include_router(router)
    return app


@router.get("/run/data")
def run_data(
    dag_id: ReadableDag,
    run_id: Annotated[str, Query()],
    group: Annotated[str | None, Query()] = None,
    map_index: Annotated[str | None, Query()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The timeline of one of a run's ledgers: the first one, if none is named."""
    run = find_run(dag_id, run_id)
    if run is None:
        raise HTTPException(404, "There is no such DAG run (any more).")
    seen = if_none_match.removeprefix("W/").strip('"') if if_none_match else None
    name, found = answer(run, _chosen(run, group, _index(map_index)), _lives, seen)
    headers = {"ETag": f'"{name}"'}
    return Response(status_code=304, headers=headers) if found is None else _json(found, headers)


@router.get("/task/data")
def task_data(dag_id: ReadableDag, task_id: Annotated[str, Query()], map_index: Annotated[str | None, Query()] = None) -> Response:
    """The story of a task's nodes."""
    return _json(story(dag_id, task_id, _index(map_index)))


@router.get("/ledgers/data")
def ledgers_data(
    request: Request, user: GetUserDep, dag_id: Annotated[str | None, Query()] = None, before: Annotated[int | None, Query()] = None
) -> Response:
    """Runs with ledgers, of one DAG or of all that the user may read."""
    dag_ids = dags_of(user) if dag_id is None else [require_dag(dag_id, request, user)]
    return _json(overview(dag_ids, lambda one: readable(one, request, user), before))


@router.get("/run", dependencies=[Depends(require_dag)])
def run_page() -> Response:
    """The page of a DAG run."""
    return _page("run")


@router.get("/task", dependencies=[Depends(require_dag)])
def task_page() -> Response:
    """The page of a task."""
    return _page("task")


@router.get("/ledgers")
def ledgers_page(request: Request, user: GetUserDep, dag_id: Annotated[str | None, Query()] = None) -> Response:
    """The page of a DAG, or of all."""
    if dag_id is not None:
        require_dag(dag_id, request, user)
    return _page("ledgers")


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Scripts and styles."""
    text = _static().get(name)
    if text is None:
        raise HTTPException(404, "There is no such file.")
    return Response(text, media_type=_TYPES[name.rpartition(".")[2]])


def _chosen(run: Run, group: str | None, map_index: int | None) -> Place | None:
    """The ledger that is asked for, which is one of the run's."""
    fits = [one for one in run.places if group in (None, one.ledger.group) and map_index in (None, one.map_index)]
    if run.places and not fits:
        raise HTTPException(404, "This DAG run has no such ledger (any more).")
    return next(iter(fits), None)


def _index(text: str | None) -> int | None:
    """A map index. Where a task is not mapped, the UI leaves its placeholder as it is."""
    return int(text) if text and _NUMBER.fullmatch(text) else None


def _json(data: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(data, headers=headers)


def _page(view: str) -> Response:
    return Response(_static()["page.html"].replace("VIEW", view), media_type=_TYPES["html"])


@cache
def _static() -> dict[str, str]:
    folder = files(__package__).joinpath("static")
    found = {one.name: one.read_text("utf-8") for one in folder.iterdir() if one.name.rpartition(".")[2] in _TYPES}
    return {**found, "timeline.js": page.script(), "timeline.css": page.style()}
