"""The emulated cloud on a loopback port: who is let in, and the way from HTTP to `Cloud` and back."""

from __future__ import annotations

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from .answers import Answer, error, ok
from .cloud import Cloud

ACCOUNT = "daemon@acme-ml.iam.gserviceaccount.com"
TOKEN_SECONDS = 3600
KEY_BITS = 1024
"""Weak on purpose: each provider reads its key anew, and a strong one takes a tenth of a second to check."""


class GcpServer:
    """Context manager. `url` is the endpoint, `cloud` what a test programs, `key_file()` the account's key."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.url = ""
        self.revoked = False
        """Whether the account's key is no longer good."""
        self._tokens: dict[str, float] = {}
        private = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        self._private = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        self._public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def key(self, **changes: str) -> dict[str, str]:
        """The service account's key as Google hands it out; its token service is this server."""
        return {
            "type": "service_account",
            "project_id": self.cloud.project,
            "private_key_id": "1",
            "private_key": self._private,
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": f"{self.url}/token",
            **changes,
        }

    def issue(self, body: bytes) -> Answer:
        """A token for an assertion that the account's key signed."""
        assertion = dict(parse_qsl(body.decode())).get("assertion", "")
        if self.revoked or not self._is_signed(assertion):
            no = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            return Answer(400, json.dumps(no).encode())
        token = secrets.token_hex(16)
        self._tokens[token] = time.time() + TOKEN_SECONDS
        return ok({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"})

    def expire_tokens(self) -> None:
        """Let every token that was issued run out now."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    def lets_in(self, authorization: str) -> bool:
        """Whether it bears a token issued here, or one that the account signed itself."""
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or self.revoked:
            return False
        return self._tokens.get(token, 0.0) > time.time() or self._is_signed(token)

    def _is_signed(self, token: str) -> bool:
        decode: Any = jwt.decode
        try:
            claims = decode(token, certs=self._public)
        except ValueError:
            return False
        return bool(claims.get("iss") == ACCOUNT)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, owner: GcpServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one piece: in two, the second waits for the other side's delayed acknowledgement.
    wbufsize = 65536
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        owner = self.server.owner
        if parts.path == "/token":
            self._reply(owner.issue(body))
        elif not owner.lets_in(self.headers.get("Authorization", "")):
            self._reply(error(401, "authError", "Invalid Credentials"))
        else:
            query = parse_qsl(parts.query, keep_blank_values=True)
            self._reply(owner.cloud.handle(self.command, parts.path, query, body))

    def _reply(self, answer: Answer) -> None:
        if answer.drop:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet: pytest shows what matters."""
