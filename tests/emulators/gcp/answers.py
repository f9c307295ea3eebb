"""Answers in Google's form."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `drop`: the connection is closed instead of answering."""

    status: int
    body: bytes
    drop: bool = False


class Refused(Exception):
    """The emulated cloud's no."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.answer = error(status, reason, message)


def ok(found: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(found).encode())


def error(status: int, reason: str, message: str = "") -> Answer:
    words = message or reason
    one = {"message": words, "domain": "global", "reason": reason}
    return Answer(status, json.dumps({"error": {"code": status, "message": words, "errors": [one]}}).encode())


def timestamp(seconds: float) -> str:
    """As Compute Engine writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def matches(filter_text: str, one: dict[str, Any]) -> bool:
    """Whether `one` passes a filter of the few forms that are needed; any other form is refused."""
    if not filter_text:
        return True
    for part in re.sub(r"[()]", "", filter_text).split(" OR "):
        found = re.fullmatch(r'\s*([\w.-]+)\s*=\s*"([^"]*)"\s*', part)
        if found is None:
            raise Refused(400, "invalid", f"Invalid value for field 'filter': '{filter_text}'.")
        key, _, label = found[1].partition(".")
        value = one.get(key, {}).get(label) if label else one.get(key)
        if value == found[2]:
            return True
    return False
