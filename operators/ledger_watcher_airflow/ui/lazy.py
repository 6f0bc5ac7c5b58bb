"""An ASGI app that is built by its first request, and that tells browsers to be strict with what it answers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HEADERS = {
    # Scripts and styles are files of this app, so nothing inline is ever run; only Airflow's own pages may frame it.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


class LazyApp:
    """Stands in for the app until somebody asks for a page. If it cannot be built, that is the answer to the request, and no more."""

    def __init__(self) -> None:
        self._app: App | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""

        async def strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                others = [pair for pair in message.get("headers", ()) if pair[0].decode("latin-1").lower() not in HEADERS]
                message = {**message, "headers": [*others, *ours]}
            await send(message)

        try:
            app = self._built()
        except Exception:
            log.exception("The pages of ledger_watcher cannot be shown; Airflow itself is not affected.")
            if scope["type"] == "http":
                await strictly({"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"text/plain")]})
                await strictly(
                    {"type": "http.response.body", "body": b"ledger_watcher cannot show this; the log of the api-server says why."}
                )
            return
        await app(scope, receive, strictly)

    def _built(self) -> App:
        if self._app is None:
            from ledger_watcher_airflow.ui.app import create_app  # noqa: PLC0415 - Airflow imports this module in processes that show nothing

            self._app = create_app()
        return self._app
