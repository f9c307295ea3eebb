"""moto in a process of its own, and the fault layer before it: one address that speaks AWS."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from . import query
from .cloud import Cloud
from .query import Answer, Request

MOTO = Path(__file__).with_name("moto_process.py")
PASSED_ON = ("Authorization", "Content-Type", "X-Amz-Target", "X-Amz-Date", "X-Amz-Security-Token")


class AwsServer:
    """Context manager. `url` is the endpoint for boto3, `cloud` what a test programs."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.url = ""

    def use(self, cloud: Cloud) -> None:
        """Have another fault layer answer from now on."""
        self.cloud = self._server.cloud = cloud

    def __enter__(self) -> Self:
        self._moto = subprocess.Popen(
            [sys.executable, str(MOTO)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._moto.stdout is not None
        port = int(self._moto.stdout.readline())
        self._server = _Server(self.cloud, port)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        assert self._moto.stdin is not None
        self._moto.stdin.close()
        self._moto.wait(timeout=20)
        assert self._moto.stdout is not None
        self._moto.stdout.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, cloud: Cloud, moto_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cloud = cloud
        self.moto_port = moto_port


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = query.parse({name.lower(): value for name, value in self.headers.items()}, body)
        self._reply(self.server.cloud.handle(request, self._ask_moto))

    def do_GET(self) -> None:
        self._reply(self._ask_moto(Request("", "", ""), "GET"))

    def _ask_moto(self, request: Request, method: str = "POST") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.moto_port, timeout=60)
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        try:
            connection.request(method, self.path, request.encoded() if method == "POST" else None, headers)
            answer = connection.getresponse()
            content_type = answer.getheader("Content-Type") or "text/xml"
            return Answer(answer.status, answer.read(), content_type)
        finally:
            connection.close()

    def _reply(self, answer: Answer) -> None:
        if answer.drop:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet: pytest shows what matters."""
