"""The emulator over TLS on a loopback port: the SDK speaks to nothing else."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from .certificate import write_certificates
from .cloud import Cloud
from .request import Answer, Request


class AzureServer:
    """Context manager. `url` is the endpoint, `ca_file` what it is verified with, `cloud` what a test programs."""

    def __init__(self, folder: Path) -> None:
        self.ca_file, certificate, key = write_certificates(folder)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self.cloud = Cloud()
        self.url = ""

    def fresh(self) -> Cloud:
        """A new, empty subscription at the same address."""
        self.cloud = Cloud(url=self.url)
        self._server.cloud = self.cloud
        return self.cloud

    def __enter__(self) -> Self:
        self._server = _Server(self.cloud, self._context)
        self.url = self.cloud.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, cloud: Cloud, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cloud = cloud
        self._context = context

    def finish_request(self, request: object, client_address: object) -> None:
        # In the connection's own thread: a slow handshake must not hold up the others.
        wrapped = self._context.wrap_socket(request, server_side=True)  # type: ignore[arg-type]
        try:
            super().finish_request(wrapped, client_address)
        finally:
            wrapped.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests; anything else shows as a dropped connection in them."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(
            self.command,
            parts.path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
            body,
        )
        self._reply(self.server.cloud.handle(request))

    def _reply(self, answer: Answer) -> None:
        if answer.drop:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if answer.status != 204:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet: pytest shows what matters."""
