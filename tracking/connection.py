"""One kept-alive HTTP connection to the server, standard library only; the SDK and the agent both speak through it."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import Any, BinaryIO, Callable, Dict, Iterator, Mapping, Optional, Union
from urllib.parse import urlsplit

from .errors import Refused, ServerRefused, ServerUnreachable

CHUNK_BYTES = 1024 * 1024
ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Largest answer that is read into memory; downloads are streamed."""

Body = Union[bytes, BinaryIO, None]


class Connection:
    """Requests to one server, one at a time; reconnects by itself. Not to be shared between threads."""

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        ca_file: Optional[str] = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refused(f"server URL {url!r} is not of the form http://host:port")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._http: Optional[http.client.HTTPConnection] = None

    def json(
        self, method: str, path: str, message: Any = None, *, timeout_seconds: Optional[float] = None
    ) -> Any:
        """Send a JSON message, give back the JSON answer. Raises ServerUnreachable, ServerRefused."""
        body = None if message is None else json.dumps(message, separators=(",", ":")).encode()
        return self.send(method, path, body, "application/json", timeout_seconds=timeout_seconds)

    def send(
        self,
        method: str,
        path: str,
        body: Body = None,
        content_type: str = "application/octet-stream",
        *,
        length: Optional[int] = None,
        timeout_seconds: Optional[float] = None,
    ) -> Any:
        """Send bytes or a file of `length` bytes, give back the JSON answer (None when it is empty)."""
        answer = self._request(method, path, body, content_type, length, timeout_seconds)
        data = self._read_all(answer)
        return json.loads(data) if data else None

    def exists(self, path: str) -> bool:
        """HEAD: True on 200, False on 404."""
        try:
            self._read_all(self._request("HEAD", path, None, "", None, None))
        except ServerRefused as error:
            if error.status == 404:
                return False
            raise
        return True

    def download(self, path: str) -> Iterator[bytes]:
        """GET in chunks; raises ServerUnreachable when the stream breaks off."""
        answer = self._request("GET", path, None, "", None, None)
        try:
            while chunk := answer.read(CHUNK_BYTES):
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ServerUnreachable(f"download broke off: {error}") from error

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def _request(
        self,
        method: str,
        path: str,
        body: Body,
        content_type: str,
        length: Optional[int],
        timeout_seconds: Optional[float],
    ) -> http.client.HTTPResponse:
        headers: Dict[str, str] = {"Authorization": f"Bearer {self._token()}"}
        if content_type and body is not None:
            headers["Content-Type"] = content_type
        if length is not None:
            headers["Content-Length"] = str(length)
        reused = self._http is not None
        try:
            answer = self._exchange(method, path, body, headers, timeout_seconds)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not (reused and isinstance(body, (bytes, type(None))) and _was_stale(error)):
                raise ServerUnreachable(f"{self._host}:{self._port}: {error!r}") from error
            answer = self._again(method, path, body, headers, timeout_seconds)
        if answer.status >= 400:
            raise self._refusal(answer)
        return answer

    def _again(
        self, method: str, path: str, body: Body, headers: Mapping[str, str], timeout_seconds: Optional[float]
    ) -> http.client.HTTPResponse:
        """A kept-alive connection that the server had closed meanwhile: once more on a fresh one."""
        try:
            return self._exchange(method, path, body, headers, timeout_seconds)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ServerUnreachable(f"{self._host}:{self._port}: {error!r}") from error

    def _exchange(
        self, method: str, path: str, body: Body, headers: Mapping[str, str], timeout_seconds: Optional[float]
    ) -> http.client.HTTPResponse:
        connection = self._open()
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        if connection.sock is not None:
            connection.sock.settimeout(seconds)
        connection.request(method, self._prefix + path, body, dict(headers))
        return connection.getresponse()

    def _open(self) -> http.client.HTTPConnection:
        if self._http is None:
            if self._tls is not None:
                self._http = http.client.HTTPSConnection(
                    self._host, self._port, timeout=self._timeout_seconds, context=self._tls
                )
            else:
                self._http = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_seconds)
            self._http.connect()
            self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._http

    def _read_all(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ServerUnreachable(f"answer broke off: {error!r}") from error

    def _refusal(self, answer: http.client.HTTPResponse) -> Exception:
        data = self._read_all(answer)
        try:
            problem = json.loads(data)
        except ValueError:
            problem = {}
        if not isinstance(problem, dict):
            problem = {}
        words = [str(problem[key]) for key in ("title", "detail", "hint") if problem.get(key)]
        message = "; ".join(words) or data[:200].decode("utf-8", "replace")
        if answer.status in (429, 502, 503, 504):
            return ServerUnreachable(f"{answer.status}: {message}")
        return ServerRefused(answer.status, str(problem.get("code", "HTTP")), message, problem)


def _was_stale(error: Exception) -> bool:
    return isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError))
