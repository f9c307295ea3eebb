"""Server-sent events read for as long as it takes: a stream that breaks off is taken up where it was."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import httpx

from .client import Client, Params
from .failures import ExitCode, Failure, unreachable

QUIET_SECONDS_MAX: Final = 45.0
"""The server says something every 15 s; after this much silence the connection is dead."""
PATIENCE_SECONDS: Final = 120.0
"""How long a daemon may be away (a restart) before following gives up."""
RETRY_SECONDS_MAX: Final = 2.0


@dataclass(frozen=True, slots=True)
class Event:
    """One event; a comment that only keeps the connection open has no kind."""

    kind: str = ""
    data: str = ""
    id: str = ""


class OutOfTime(Exception):
    """The deadline that was handed in has passed."""


def follow(
    client: Client,
    path: str,
    params: Params | None = None,
    *,
    last_event_id: str | None = None,
    deadline: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Event]:
    """Events without end, over reconnections; the caller stops reading. Raises Failure, OutOfTime.

    `deadline` is on `clock`.
    """
    heard_at = clock()
    while True:
        try:
            for event in _once(client, path, params, last_event_id, _quiet_for(deadline, clock())):
                heard_at = clock()
                _check(deadline, heard_at)
                last_event_id = event.id or last_event_id
                if event.kind:
                    yield event
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
        except Failure as failure:
            if failure.exit_code is not ExitCode.UNREACHABLE and not _is_busy(failure):
                raise
            why = failure.title
        else:
            why = "it ended the stream"
        _check(deadline, clock())
        if clock() - heard_at > PATIENCE_SECONDS:
            raise unreachable(client.url, f"following broke off: {why}")
        sleep(random.uniform(0.05, RETRY_SECONDS_MAX))  # noqa: S311  jitter, not a secret


def _once(
    client: Client, path: str, params: Params | None, last_event_id: str | None, quiet_seconds: float
) -> Iterator[Event]:
    answer = client.open_stream(path, params, last_event_id, quiet_seconds)
    try:
        yield from parse(answer.iter_bytes())
    finally:
        answer.close()


def parse(chunks: Iterator[bytes]) -> Iterator[Event]:
    """The events of a byte stream, and an empty one for each comment.

    Lines end at line feeds only: JSON may hold other characters that `str.splitlines` takes for line ends.
    """
    fields: dict[str, list[str]] = {}
    for line in _lines(chunks):
        if not line:
            if fields:
                yield Event(*("\n".join(fields.get(name, [])) for name in ("event", "data", "id")))
            fields = {}
        elif line.startswith(b":"):
            yield Event()
        else:
            name, _, value = line.decode("utf-8", "replace").partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")


def _quiet_for(deadline: float | None, now: float) -> float:
    return QUIET_SECONDS_MAX if deadline is None else max(0.01, min(QUIET_SECONDS_MAX, deadline - now))


def _check(deadline: float | None, now: float) -> None:
    if deadline is not None and now >= deadline:
        raise OutOfTime


def _is_busy(failure: Failure) -> bool:
    return bool(failure.problem and failure.problem.get("status") == httpx.codes.SERVICE_UNAVAILABLE)
