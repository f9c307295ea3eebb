"""HTTP to the control plane: keep-alive connections, a pinned certificate authority, typed errors, bounded retries."""

from __future__ import annotations

import http.client
import json
import random
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Union
from urllib.parse import urlsplit

RETRY_SECONDS_BASE = 0.5
RETRY_SECONDS_MAX = 60.0
RETRY_DOUBLINGS_MAX = 16
IDLE_CONNECTIONS_MAX = 8
REPLY_BYTES_MAX = 16 * 1024**2
BLOCK_BYTES = 256 * 1024
TIMEOUT_SECONDS = 30.0

Body = Union[bytes, IO[bytes], None]


class CallFailed(Exception):
    """The server did not do what it was asked. `status` 0: it was not reached."""

    status = 0

    def __init__(self, message: str, *, status: int = 0, code: str = "", problem: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.problem: dict[str, Any] = problem if isinstance(problem, dict) else {}


class Unreachable(CallFailed):
    """No answer came: refused, reset, timed out. It may have been done all the same."""


class Overloaded(CallFailed):
    """429 or 5xx: the server asks for patience. `retry_after_seconds` where it says how much."""

    retry_after_seconds = 0.0


class Unauthorized(CallFailed):
    """401: the credential is not known (any more)."""


class Conflict(CallFailed):
    """409: for a task's routes, somebody else holds it now unless `code` says otherwise."""


class Refused(CallFailed):
    """Any other 4xx: the same request can never succeed."""


RETRYABLE = (Unreachable, Overloaded)
_LOST = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, http.client.CannotSendRequest)


class Reply(NamedTuple):
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


def backoff_seconds(attempt: int, rng: random.Random, most: float = RETRY_SECONDS_MAX) -> float:
    """Full jitter: anywhere between nothing and a ceiling that doubles with each attempt (0-based)."""
    ceiling = RETRY_SECONDS_BASE * 2.0 ** min(attempt, RETRY_DOUBLINGS_MAX)
    return rng.uniform(0.0, min(most, RETRY_SECONDS_MAX, ceiling))


class Client:
    """Safe between threads. `credential` is asked at each request, since it renews itself."""

    def __init__(
        self,
        url: str,
        credential: Callable[[], str],
        *,
        ca_file: str | None = None,
        rng: random.Random | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{url}' is not the URL of a server; write http://host:port or https://host")
        self.url = url.rstrip("/")
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._credential = credential
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        body: Body = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        token: str | None = None,
        into: Path | None = None,
        limit_bytes: int = REPLY_BYTES_MAX,
    ) -> Reply:
        """One try; `into` receives a large answer as a file. Raises CallFailed."""
        sent = {"Authorization": f"Bearer {token or self._credential()}", **(headers or {})}
        connection, used = self._take()
        try:
            try:
                response = self._send(connection, method, path, body, sent, timeout_seconds)
            except _LOST:
                connection.close()
                if not used:
                    raise
                connection = (
                    self._connect()
                )  # the server closed an idle connection: says nothing of its health
                response = self._send(connection, method, path, body, sent, timeout_seconds)
            reply = self._receive(response, into, limit_bytes)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unreachable(
                f"{method} {path.partition('?')[0]}: {type(error).__name__}: {error}"
            ) from error
        except BaseException:
            connection.close()
            raise
        self._give_back(connection, response)
        if reply.status >= 400:
            raise _error_of(method, path, reply, response)
        return reply

    def post(
        self, path: str, message: Any, *, timeout_seconds: float = TIMEOUT_SECONDS, token: str | None = None
    ) -> Any:
        """POST a JSON message, give its JSON answer. Raises CallFailed."""
        headers = {"Content-Type": "application/json"}
        body = json.dumps(message).encode()
        reply = self.request(
            "POST", path, body, headers=headers, timeout_seconds=timeout_seconds, token=token
        )
        try:
            return reply.json()
        except ValueError as error:
            raise Overloaded(f"POST {path}: the answer is not JSON", status=reply.status) from error

    def persistently(self, call: Callable[[], Any], give_up: Callable[[float], bool]) -> Any:
        """`call()` until it succeeds, with full-jitter pauses; `give_up(seconds)` waits, True ends it.

        Raises what is not retryable at once, and the last error when it gave up.
        """
        attempt = 0
        while True:
            try:
                return call()
            except RETRYABLE as error:
                pause = self.pause_after(error, attempt)
                attempt += 1
                if give_up(pause):
                    raise

    def pause_after(self, error: CallFailed, attempt: int, most: float = RETRY_SECONDS_MAX) -> float:
        """Seconds to wait before trying again; what the server asked for counts as the least."""
        asked = min(getattr(error, "retry_after_seconds", 0.0), most)
        return max(asked, backoff_seconds(attempt, self._rng, most))

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, blocksize=BLOCK_BYTES)
        return http.client.HTTPSConnection(self._host, self._port, context=self._tls, blocksize=BLOCK_BYTES)

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        return self._connect(), False

    def _give_back(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        with self._lock:
            if not response.will_close and len(self._idle) < IDLE_CONNECTIONS_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Body,
        headers: Mapping[str, str],
        timeout_seconds: float,
    ) -> http.client.HTTPResponse:
        connection.timeout = timeout_seconds
        if connection.sock is not None:
            connection.sock.settimeout(timeout_seconds)
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        connection.request(method, self._prefix + path, body, dict(headers))
        return connection.getresponse()

    def _receive(self, response: http.client.HTTPResponse, into: Path | None, limit_bytes: int) -> Reply:
        if into is None or response.status >= 400:
            body = response.read(limit_bytes + 1)
            if len(body) > limit_bytes:
                raise Refused(f"the answer is over {limit_bytes} bytes", status=response.status)
            return Reply(response.status, body)
        received = 0
        with into.open("wb") as file:
            while True:
                block = response.read(BLOCK_BYTES)
                if not block:
                    return Reply(response.status, b"")
                received += len(block)
                if received > limit_bytes:
                    raise Refused(f"the answer is over {limit_bytes} bytes", status=response.status)
                file.write(block)


def _error_of(method: str, path: str, reply: Reply, response: http.client.HTTPResponse) -> CallFailed:
    try:
        problem = json.loads(reply.body)
    except ValueError:
        problem = {}
    problem = problem if isinstance(problem, dict) else {}
    detail = problem.get("detail") or problem.get("title") or response.reason
    message = f"{method} {path.partition('?')[0]}: {reply.status} {detail}"
    kinds: dict[int, type[CallFailed]] = {401: Unauthorized, 409: Conflict, 408: Overloaded, 429: Overloaded}
    kind = kinds.get(reply.status, Overloaded if reply.status >= 500 else Refused)
    error = kind(message, status=reply.status, code=str(problem.get("code", "")), problem=problem)
    if isinstance(error, Overloaded):
        asked = response.headers.get("Retry-After", "")
        error.retry_after_seconds = float(asked) if asked.isdigit() else 0.0
    return error
