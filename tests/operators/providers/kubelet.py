"""The part of a Kubernetes API server, and of the kubelet behind it, that a pod operator talks to: pods are processes of this machine.

Their image is not looked at: the command of the first container is run, with what Kubernetes would make of ``$(NAME)`` in it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import parse_qs, urlsplit


def expanded(text: str, env: Mapping[str, str]) -> str:
    """What Kubernetes makes of a command, argument or value: ``$(NAME)`` becomes the variable if there is one, ``$$`` becomes ``$``."""
    return re.sub(
        r"\$\$|\$\(([^)]*)\)",
        lambda found: "$" if found[0] == "$$" else env.get(found[1], found[0]),
        text,
    )


class Pod:
    """A pod as a process: ``manifest`` is what was asked for, the output goes into a file."""

    def __init__(self, manifest: dict[str, Any], folder: Path, image_env: Mapping[str, str]) -> None:
        self.manifest = manifest
        self.name: str = manifest["metadata"]["name"]
        self.output = folder / f"{self.name}.log"
        (container,) = manifest["spec"]["containers"]
        env = dict(image_env)
        for variable in container.get("env") or ():
            env[variable["name"]] = expanded(variable.get("value") or "", env)
        argv = [expanded(word, env) for word in [*container["command"], *container["args"]]]
        self.started = now()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(argv, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def end(self) -> None:
        """Ask for the end, as a deletion does; a real kubelet kills after the grace period."""
        self.process.terminate()

    def described(self) -> dict[str, Any]:
        """The pod with its status."""
        code = self.process.poll()
        (container,) = self.manifest["spec"]["containers"]
        ended = {"exitCode": code, "finishedAt": now(), "startedAt": self.started, "reason": "Completed" if code == 0 else "Error"}
        state = {"running": {"startedAt": self.started}} if code is None else {"terminated": ended}
        phase = "Running" if code is None else "Succeeded" if code == 0 else "Failed"
        status = {"name": container["name"], "image": "i", "imageID": "", "ready": code is None, "restartCount": 0, "state": state}
        return {**self.manifest, "status": {"phase": phase, "startTime": self.started, "containerStatuses": [status], "conditions": []}}

    def lines(self, *, follow: bool) -> Iterator[bytes]:
        """The output, each line with its time in front; to the end of the process if asked to follow."""
        with self.output.open("rb") as output:
            while True:
                ended = self.process.poll() is not None
                for line in output:
                    yield f"{now()} ".encode() + line
                if ended or not follow:
                    return
                time.sleep(0.05)  # as often as the file is looked at, nothing depends on it


class Cluster(ThreadingHTTPServer):
    """The server, on a free port of 127.0.0.1. ``pods`` are those that were not deleted, ``created`` all of them, ``news`` the same for who waits for one."""

    daemon_threads = True

    def __init__(self, folder: Path, image_env: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.image_env = dict(image_env)
        self.pods: dict[str, Pod] = {}
        self.created: list[Pod] = []
        self.news: SimpleQueue[Pod] = SimpleQueue()

    def config(self) -> str:
        """A kubeconfig file for it."""
        context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
        server = {"name": "here", "cluster": {"server": f"http://127.0.0.1:{self.server_address[1]}"}}
        content = {"apiVersion": "v1", "kind": "Config", "current-context": "here", "contexts": [context], "clusters": [server]}
        file = self.folder / "kubeconfig"
        file.write_text(json.dumps({**content, "users": [{"name": "me", "user": {}}]}))
        return str(file)


@contextmanager
def cluster(folder: Path, image_env: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster whose containers have ``image_env``; what still runs at the end is killed."""
    with Cluster(folder, {"PATH": os.environ["PATH"], **image_env}) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            for pod in server.created:
                with suppress(ProcessLookupError):
                    pod.process.kill()
                pod.process.wait()


def now() -> str:
    """The time as Kubernetes writes it."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}"


class _Handler(BaseHTTPRequestHandler):
    server: Cluster

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        kind, _, rest = url.path.removeprefix("/api/v1/namespaces/").partition("/")[2].partition("/")
        name, _, part = rest.partition("/")
        if kind == "events":
            self._answer({"kind": "EventList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []})
        elif not name:
            found = [pod.described() for pod in self.server.pods.values() if _selected(pod, asked.get("labelSelector", ""))]
            self._answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})
        elif (pod := self.server.pods.get(name)) is None:
            self._missing(name)
        elif part == "log":
            self._stream(pod.lines(follow=asked.get("follow", "").lower() == "true"))
        else:
            self._answer(pod.described())

    def do_POST(self) -> None:
        manifest = self._body()
        namespace = self.path.split("/")[4]
        manifest["metadata"] = {
            **manifest["metadata"],
            "namespace": namespace,
            "creationTimestamp": now(),
            "uid": manifest["metadata"]["name"],
        }
        pod = Pod(manifest, self.server.folder, self.server.image_env)
        self.server.created.append(pod)
        self.server.pods[pod.name] = pod
        self.server.news.put(pod)
        self._answer(pod.described(), 201)

    def do_PATCH(self) -> None:
        pod = self.server.pods.get(self._name())
        if pod is None:
            self._missing(self._name())
            return
        pod.manifest["metadata"].setdefault("labels", {}).update(self._body().get("metadata", {}).get("labels", {}))
        self._answer(pod.described())

    def do_DELETE(self) -> None:
        pod = self.server.pods.pop(self._name(), None)
        if pod is None:
            self._missing(self._name())
            return
        pod.end()
        self._answer(pod.described())

    def _name(self) -> str:
        return urlsplit(self.path).path.rpartition("/")[2]

    def _body(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return content

    def _answer(self, content: Mapping[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _missing(self, name: str) -> None:
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": name, "code": 404}, 404)

    def _stream(self, lines: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()  # HTTP/1.0: the end of the connection is that of the text
        with suppress(BrokenPipeError):
            for line in lines:
                self.wfile.write(line)
                self.wfile.flush()


def _selected(pod: Pod, selector: str) -> bool:
    labels = pod.manifest["metadata"].get("labels") or {}
    return all(_holds(labels, term) for term in selector.split(",") if term)


def _holds(labels: Mapping[str, str], term: str) -> bool:
    if term.startswith("!"):
        return term[1:] not in labels
    name, differs, value = term.partition("!=") if "!=" in term else term.partition("=")
    return (labels.get(name) == value) is (differs == "=")
