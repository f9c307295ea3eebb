"""Requests to the daemon: retried where a repeat is harmless, and every refusal a `Failure`."""

from __future__ import annotations

import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Final

import httpx
import tenacity

from ...tracking.place import Server
from .failures import Failure, of_problem, unreachable

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 60.0
ATTEMPTS_MAX: Final = 5
BACKOFF_SECONDS: Final = 0.15
BACKOFF_SECONDS_MAX: Final = 2.0
RETRY_AFTER_SECONDS_MAX: Final = 5.0
PAGE_ROWS: Final = 500
CHUNK_BYTES: Final = 1 << 20
BUSY: Final = frozenset({429, 502, 503, 504})
UNDER_WAY: Final = "IDEMPOTENCY_IN_PROGRESS"
"""Our own first try is still being worked on: its answer comes with the next."""

Params = Mapping[str, Any]


class _Again(Exception):
    """Worth another try. `failure` is what to raise when there is none left."""

    def __init__(self, failure: Failure, after_seconds: float = 0.0) -> None:
        super().__init__(failure.title)
        self.failure = failure
        self.after_seconds = after_seconds


class Client:
    """One daemon. Every POST carries an Idempotency-Key, so that all requests may be sent again."""

    def __init__(
        self,
        server: Server,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = server.url
        self._sleep = sleep
        trust: ssl.SSLContext | bool = (
            ssl.create_default_context(cafile=server.ca_file) if server.ca_file else True
        )
        self._http = httpx.Client(
            base_url=server.url,
            headers={"Authorization": f"Bearer {server.token}"},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            trust_env=False,  # as the agent and the SDK: a proxy of the environment rarely knows the daemon
            verify=trust if server.url.startswith("https") else True,
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, params: Params | None = None) -> Any:
        return self.request("GET", path, params=_said(params)).json()

    def pages(self, path: str, params: Params | None = None, *, limit: int) -> tuple[list[Any], bool]:
        """The first `limit` items of a list (0 = all), and whether there are more."""
        found: list[Any] = []
        cursor = None
        while True:
            wanted = PAGE_ROWS if not limit else min(PAGE_ROWS, limit - len(found))
            page = self.get(path, {**(params or {}), "limit": wanted, "cursor": cursor})
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None or (limit and len(found) >= limit):
                return found, cursor is not None

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        return self.request("POST", path, json=body, headers=_key(key)).json()

    def post_text(self, path: str, text: str, media_type: str) -> Any:
        headers = {**_key(None), "Content-Type": media_type}
        return self.request("POST", path, content=text.encode(), headers=headers).json()

    def has(self, path: str) -> bool:
        """HEAD: whether it is there. Raises Failure for anything but 200 and 404."""
        return self.request("HEAD", path, missing_is_fine=True).status_code != httpx.codes.NOT_FOUND

    def put_file(self, path: str, file: BinaryIO, size: int, told: Callable[[int], None]) -> None:
        """Send a file, from its beginning at each try. `told(bytes)` as they go out."""

        def content() -> Iterator[bytes]:
            file.seek(0)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
                told(len(chunk))

        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        self.request("PUT", path, content=content, headers=headers)

    def download(self, path: str, params: Params | None = None) -> httpx.Response:
        """A streamed answer; the caller reads and closes it."""
        request = self._http.build_request("GET", path, params=_said(params))
        try:
            answer = self._http.send(request, stream=True)
        except httpx.TransportError as error:
            raise unreachable(self.url, _why(error)) from None
        if answer.is_error:
            answer.read()
            raise refusal(answer)
        return answer

    def open_stream(
        self, path: str, params: Params | None, last_event_id: str | None, quiet_seconds: float
    ) -> httpx.Response:
        """Server-sent events as they come. Raises httpx.TransportError, Failure."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = httpx.Timeout(quiet_seconds, connect=CONNECT_SECONDS)
        request = self._http.build_request(
            "GET", path, params=_said(params), headers=headers, timeout=timeout
        )
        answer = self._http.send(request, stream=True)
        if answer.is_error:
            answer.read()
            answer.close()
            raise refusal(answer)
        return answer

    def request(
        self,
        method: str,
        path: str,
        *,
        missing_is_fine: bool = False,
        content: bytes | Callable[[], Iterator[bytes]] | None = None,
        **options: Any,
    ) -> httpx.Response:
        """One request, tried up to ATTEMPTS_MAX times. Raises Failure."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            stop=tenacity.stop_after_attempt(ATTEMPTS_MAX),
            wait=_wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, missing_is_fine, content, options)
        except _Again as again:
            raise again.failure from None

    def _once(
        self, method: str, path: str, missing_is_fine: bool, content: Any, options: Mapping[str, Any]
    ) -> httpx.Response:
        body = content() if callable(content) else content
        try:
            answer = self._http.request(method, path, content=body, **options)
        except httpx.TransportError as error:
            raise _Again(unreachable(self.url, _why(error))) from None
        if answer.is_success or (missing_is_fine and answer.status_code == httpx.codes.NOT_FOUND):
            return answer
        failure = refusal(answer)
        if answer.status_code in BUSY or (failure.problem or {}).get("code") == UNDER_WAY:
            raise _Again(failure, _retry_after(answer))
        raise failure


def refusal(answer: httpx.Response) -> Failure:
    """What an answer of 4xx or 5xx says."""
    try:
        problem = answer.json()
    except ValueError:
        problem = {"title": f"the server answered {answer.status_code}", "detail": answer.text[:200]}
    return of_problem(answer.status_code, problem if isinstance(problem, dict) else {})


_JITTER: Final = tenacity.wait_random_exponential(multiplier=BACKOFF_SECONDS, max=BACKOFF_SECONDS_MAX)


def _wait(state: tenacity.RetryCallState) -> float:
    """Full jitter, and at least what the server asked for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after_seconds if isinstance(error, _Again) else 0.0
    return max(float(_JITTER(state)), asked)


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return min(float(text), RETRY_AFTER_SECONDS_MAX) if text.isdigit() else 0.0


def _key(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or uuid.uuid4().hex}


def _said(params: Params | None) -> dict[str, Any]:
    """Query parameters that were given."""
    return {name: value for name, value in (params or {}).items() if value is not None and value != []}


def _why(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectError):
        return "nothing listens there" if "refused" in str(error) else str(error)
    return str(error) or type(error).__name__


def read_json(text: str) -> Any:
    """JSON of a stream's event; {} where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return {}
