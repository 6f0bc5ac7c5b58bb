"""S3 on 127.0.0.1: moto's server, which is real enough to count on, and a stub that answers as a test says."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

CREDENTIALS = {"key": "testing", "secret": "testing"}


class MotoServer:
    """moto's S3 over HTTP. ``requests`` holds (method, path) of each request; creates of one key follow one another.

    moto itself checks the precondition and then writes, without a lock in between: S3 does both at once, and so does this server.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app  # takes seconds: not for tests without it
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.requests: list[tuple[str, str]] = []
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """Of 127.0.0.1."""
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def bucket(self) -> str:
        """A new bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        requests.put(f"{self.url}/{name}", timeout=30).raise_for_status()
        return name

    def require_credentials(self, required: bool) -> None:
        """Whether moto checks keys and policies from now on."""
        requests.post(f"{self.url}/moto-api/reset-auth", data=b"0" if required else b"inf", timeout=30).raise_for_status()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if environ["REQUEST_METHOD"] != "PUT":
            return self._moto(environ, start_response)  # type: ignore[no-any-return]
        with self._locks[environ["PATH_INFO"]]:
            return list(self._moto(environ, start_response))


class StubServer:
    """A few lines of S3 (PUT with If-None-Match, GET) whose next answers a test can spoil.

    ``answers`` are taken one per request: (status, code) is an error document without effect; ``reset`` closes the connection before
    the request is carried out, ``lost`` after it, ``hang`` answers nothing, ``truncate`` breaks off in the middle of the body.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.objects: dict[str, bytes] = {}
        self.answers: deque[tuple[int, str | None] | str] = deque()
        self._done = threading.Event()
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                stub._handle(self)

            do_GET = do_PUT  # noqa: N815 - http.server's names
            do_HEAD = do_PUT  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def reset(self) -> None:
        """Forget everything; requests that hang end."""
        self._done.set()
        self._done = threading.Event()
        self.requests, self.objects, self.answers = [], {}, deque()

    def stop(self) -> None:
        """Close the port; requests that hang end too."""
        self._done.set()
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.requests.append((request.command, request.path))
        answer = self.answers.popleft() if self.answers else None
        if isinstance(answer, tuple):
            return self._send(request, answer[0], self._document(answer[1]))
        if answer == "hang":
            self._done.wait(60)
        if answer in ("hang", "reset"):
            return self._drop(request)
        status, content = self._carry_out(request, body)
        if answer == "lost":
            return self._drop(request)
        return self._send(request, status, content, cut=answer == "truncate")

    def _carry_out(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        with self._lock:
            if request.command == "PUT":
                if request.path in self.objects and request.headers.get("If-None-Match") == "*":
                    return 412, self._document("PreconditionFailed", "<Condition>If-None-Match</Condition>")
                self.objects[request.path] = body
                return 200, b""
            if request.path not in self.objects:
                return 404, self._document("NoSuchKey")
            return 200, self.objects[request.path]

    @staticmethod
    def _document(code: str | None, more: str = "") -> bytes:
        return f"<Error><Code>{code}</Code><Message>as the test says</Message>{more}</Error>".encode() if code else b""

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, content: bytes, *, cut: bool = False) -> None:
        request.send_response(status)
        request.send_header("Content-Type", "application/xml")
        request.send_header("Content-Length", str(len(content) + (100 if cut else 0)))
        request.send_header("ETag", '"0"')
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)
        request.close_connection = cut

    @staticmethod
    def _drop(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
