"""Journal records made plain: a pure step that runs outside the writer, so that the writer only stores.

What a record says wrongly is left out and counted; it never stops what stands around it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .. import journal

KEY_CHARS_MAX = 512
CONTEXT_CHARS_MAX = 256
TAG_CHARS_MAX = 128
STEP_MAX = 2**62
"""Steps beyond it are counted as broken: no column holds them, and no training counts so far."""
NON_FINITE = {
    "nan": "nan",
    "inf": "inf",
    "-inf": "-inf",
    "NaN": "nan",
    "Infinity": "inf",
    "-Infinity": "-inf",
}
LINE_BYTES_MAX = journal.RECORD_BYTES_MAX + 16


class Point(NamedTuple):
    """One value. `step` None = the next of its metric. `value` None = see `text` (nan, inf or -inf)."""

    key: str
    context: str
    step: int | None
    time: float
    value: float | None
    text: str | None


@dataclass(slots=True)
class Intake:
    """What a batch holds. `length` is how many of its bytes are whole lines and so count as taken in."""

    length: int = 0
    points: list[Point] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    broken: int = 0
    skipped: int = 0


def decode(data: bytes, now: float) -> Intake:
    """Whole lines of a segment as an Intake; `now` stands in for times that are none."""
    length = _whole_lines(data)
    records, broken = journal.parse(data[:length])
    intake = Intake(length=length, broken=broken)
    for record in records:
        try:
            _take(intake, record, now)
        except (ValueError, TypeError, IndexError, AttributeError, OverflowError):
            intake.broken += 1
    return intake


def plain_text(text: str, chars_max: int) -> str:
    """Text that every database takes: no lone surrogates, no NUL; over-long ones end in a hash of the whole."""
    clean = text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    if len(clean) <= chars_max:
        return clean
    return f"{clean[: chars_max - 17]}~{hashlib.sha256(clean.encode()).hexdigest()[:16]}"


def plain_json(value: Any) -> Any:
    """A JSON value whose texts and numbers every database takes: NaN and infinities as text."""
    if isinstance(value, str):
        return plain_text(value, len(value) + 1)
    if isinstance(value, float) and not math.isfinite(value):
        return _text_of(value)
    if isinstance(value, list):
        return [plain_json(item) for item in value]
    if isinstance(value, dict):
        return {plain_text(str(key), KEY_CHARS_MAX): plain_json(item) for key, item in value.items()}
    return value


def context_of(context: Any) -> str:
    """A context as the text it is kept under: '' for none, canonical JSON otherwise."""
    if context is None or context in ({}, ""):
        return ""
    text = json.dumps(plain_json(context), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return plain_text(text, CONTEXT_CHARS_MAX)


def _whole_lines(data: bytes) -> int:
    end = data.rfind(b"\n") + 1
    # More than the longest record without a line end is junk that would never end: count it and go on.
    return len(data) if len(data) - end > LINE_BYTES_MAX else end


def _take(intake: Intake, record: list[Any], now: float) -> None:
    kind = record[0]
    if kind == "m":
        _take_metrics(intake, record, now)
    elif kind == "p":
        for key, value in record[1].items():
            intake.params[plain_text(key, KEY_CHARS_MAX)] = plain_json(value)
    elif kind == "g":
        intake.tags += [plain_text(tag, TAG_CHARS_MAX) for tag in record[1] if isinstance(tag, str) and tag]
    elif kind == "e":
        intake.environment.update(plain_json(dict(record[1])))
    elif kind != "a":  # an artifact is told by whoever uploads its bytes, once they are here
        intake.skipped += 1


def _take_metrics(intake: Intake, record: list[Any], now: float) -> None:
    step = _step(record[1])
    time = record[2]
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not math.isfinite(time):
        time = now
    context = context_of(record[4]) if len(record) > 4 else ""
    wrong = False
    for key, given in record[3].items():
        try:
            value, text = _value(given)
        except (ValueError, TypeError):
            wrong = True
            continue
        intake.points.append(Point(plain_text(key, KEY_CHARS_MAX), context, step, float(time), value, text))
    intake.broken += wrong


def _step(step: Any) -> int | None:
    if step is None:
        return None
    whole = int(step)
    if isinstance(step, str) or abs(whole) > STEP_MAX:
        raise ValueError("no step")
    return whole


def _value(given: Any) -> tuple[float | None, str | None]:
    if type(given) is float and math.isfinite(given):
        return given, None
    if given is None:  # some JSON writers make null of NaN
        return None, "nan"
    if isinstance(given, str):
        text = NON_FINITE.get(given)
        if text is None:
            raise ValueError(given)
        return None, text
    try:
        value = float(given)
    except OverflowError:  # an integer beyond what a float can hold
        return None, "inf" if given > 0 else "-inf"
    return (value, None) if math.isfinite(value) else (None, _text_of(value))


def _text_of(value: float) -> str:
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
