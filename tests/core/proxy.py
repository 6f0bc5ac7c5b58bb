"""A proxy in front of any HTTP server: it counts what passes, and spoils what a test says."""

from __future__ import annotations

import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE = 60.0
_OF_THE_CONNECTION = {"connection", "content-length", "expect", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


@dataclass(frozen=True)
class Fault:
    """What happens to one request: ``kind`` is reset, hang, truncate (the body of the answer) or status.

    ``after``: the server carries the request out, and only its answer is spoiled.
    """

    kind: str
    after: bool = False
    status: int = 0

    def __str__(self) -> str:
        return f"{self.kind}{self.status or ''}{' after' if self.after else ''}"


Forward = Callable[[Request], Response]


class Proxy:
    """Answers as the server at ``port`` of 127.0.0.1 does. ``requests`` holds (method, target) of each request, in order.

    ``faults`` are taken one per request; ``always`` is for those without one. ``carry_out`` may do something else than forward.
    """

    def __init__(self, port: int, carry_out: Callable[[Request, Forward], Response] | None = None) -> None:
        self.requests: list[tuple[str, str]] = []
        self.faults: deque[Fault] = deque()
        self.always: Fault | None = None
        self.carried_out = threading.Semaphore(0)  # counts what the server has answered
        self._upstream = port
        self._carry_out = carry_out or (lambda request, forward: forward(request))
        self._released = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                proxy._handle(self)

            do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - http.server's names

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                """A client that went away is what tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """As new; requests that hang end."""
        self._released.set()
        self._released = threading.Event()
        self.requests, self.faults, self.always, self.carried_out = [], deque(), None, threading.Semaphore(0)

    def stop(self) -> None:
        """Close the port."""
        self.reset()
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, client: BaseHTTPRequestHandler) -> None:
        length = int(client.headers.get("Content-Length", 0))
        headers = [(name, value) for name, value in client.headers.items() if name.lower() not in _OF_THE_CONNECTION]
        request = Request(client.command, client.path, headers, client.rfile.read(length))
        released = self._released
        self.requests.append((request.method, request.target))
        fault = self.faults.popleft() if self.faults else self.always
        if fault is None or fault.after or fault.kind == "truncate":
            response = self._carry_out(request, self._forward)
            self.carried_out.release()
        if fault is not None and fault.kind == "status":
            response = Response(fault.status)
        elif fault is not None and fault.kind in ("reset", "hang"):
            if fault.kind == "hang":
                released.wait(PATIENCE)
            client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a close is a reset
            client.close_connection = True
            return
        self._answer(client, response, cut=fault is not None and fault.kind == "truncate")

    def _forward(self, request: Request) -> Response:
        connection = HTTPConnection("127.0.0.1", self._upstream, timeout=PATIENCE)
        try:
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(request.body)))
            connection.putheader("Connection", "close")
            connection.endheaders(request.body)
            answer = connection.getresponse()
            kept = {"connection", "keep-alive", "transfer-encoding"} | ({"content-length"} if request.method != "HEAD" else set())
            return Response(answer.status, [pair for pair in answer.getheaders() if pair[0].lower() not in kept], answer.read())
        finally:
            connection.close()

    @staticmethod
    def _answer(client: BaseHTTPRequestHandler, response: Response, *, cut: bool) -> None:
        client.send_response_only(response.status)
        for name, value in response.headers:
            client.send_header(name, value)
        if client.command != "HEAD":
            client.send_header("Content-Length", str(len(response.body)))
        client._headers_buffer.append(b"\r\n")
        head = b"".join(client._headers_buffer)
        client._headers_buffer = []
        client.wfile.write(head + (response.body[: len(response.body) // 2] if cut else response.body))
        client.close_connection = cut
