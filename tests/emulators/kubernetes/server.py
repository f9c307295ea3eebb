"""The cluster's API over HTTP on loopback, and the kubeconfig that leads to it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from ruamel.yaml import YAML

from .cluster import Answer, Call, Cluster, Rules, status

RBAC = Path(__file__).parents[3] / "docs" / "providers" / "kubernetes.rbac.yaml"
VERBS = {"POST": "create", "GET": "get", "DELETE": "delete"}


def published() -> list[dict[str, Any]]:
    """The objects that our documentation has people apply."""
    return list(YAML(typ="safe").load_all(RBAC.read_text()))


def published_rules() -> Rules:
    """What their role permits, and nothing more."""
    roles = [one for one in published() if one["kind"] == "Role"]
    return frozenset(
        (resource, verb)
        for role in roles
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


class KubernetesServer:
    """Context manager. `cluster` is what a test programs."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.cluster = Cluster(published_rules() if rules is None else rules)

    def __enter__(self) -> Self:
        self._server = _Server(self.cluster)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write_kubeconfig(self, path: Path, *, token: str = "", url: str = "") -> Path:
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url or self.url}}],
            "users": [{"name": "hostler", "user": {"token": token or self.cluster.token}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": "hostler", "namespace": "other"}}
            ],
        }
        path.write_text(json.dumps(config))
        return path


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cluster = cluster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed hang up as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        try:
            call = _call(self.command, self.path, json.loads(raw) if raw else None)
        except ValueError:
            self._reply(status(400, "BadRequest", "the object provided is unrecognized"))
            return
        if call is None:
            self._reply(status(404, "NotFound", "the server could not find the requested resource"))
            return
        self._reply(self.server.cluster.handle(call, token))

    def _reply(self, answer: Answer) -> None:
        if answer.drop:
            self.close_connection = True
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet: pytest shows what matters."""


def _call(method: str, target: str, body: Any) -> Call | None:
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    words = parts.path.strip("/").split("/")
    if words[-1] == "selfsubjectaccessreviews":
        return Call("create", "", words[-1], body=body)
    if words[:3] != ["api", "v1", "namespaces"] or not 5 <= len(words) <= 7:
        return None
    namespace, resource, *rest = words[3:]
    verb = "list" if method == "GET" and not rest else VERBS[method]
    name, subresource = (*rest, "", "")[:2]
    return Call(verb, namespace, resource, name, subresource, query, body)
