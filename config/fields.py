"""Field types shared by the models: how each is read, printed back, and described in JSON Schema."""

from __future__ import annotations

import re
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from . import units
from .gpus import GpuWish, parse_gpus, print_gpus
from .nearest import did_you_mean

MAX_TEXT_CHARACTERS = 4_096
MAX_NAME_CHARACTERS = 63
MAX_LIST_ITEMS = 1_000
MAX_WHOLE = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Settings(BaseModel):
    """Base of every model: unknown keys are refused, values can't change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values under the same names as in YAML; `model_validate` reads them back equal."""
        return self.model_dump(mode="json", exclude_none=True)


def number_to_text(value: object) -> object:
    """Numbers pass as their text (``--epochs 3``); true and false must be quoted to be text."""
    if isinstance(value, bool):
        quoted = str(value).lower()
        raise ValueError(f"{quoted} must be in quotes to be text: '{quoted}'")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("has half a character (a lone surrogate), which no file or database can hold")
    return repr(value) if isinstance(value, int | float) else value


def _check_name(text: str) -> str:
    if len(text) > MAX_NAME_CHARACTERS:
        raise ValueError(f"'{text[:20]}...' is longer than {MAX_NAME_CHARACTERS} characters")
    if not _NAME.fullmatch(text):
        raise ValueError(f"'{text}' is not a name; use letters, digits, '-', '_' and '.' inside")
    return text


def _check_variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise ValueError(f"'{text}' is not a variable name; use letters, digits and '_'")
    return text


def _check_timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        hint = did_you_mean(text, available_timezones()) or "use a name such as Europe/Berlin or UTC"
        raise ValueError(f"'{text}' is not a time zone ({hint})") from None
    return text


def _text_schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def either(*schemas: dict[str, Any]) -> WithJsonSchema:
    """The JSON Schema of a field that may be written in several ways."""
    return WithJsonSchema({"anyOf": list(schemas)})


_ZERO = {"const": 0}
_DURATION = {
    "type": "string",
    "pattern": r"^(0|(\d+(\.\d+)?d)?(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?(\d+(\.\d+)?ms)?)$",
    "minLength": 1,
    "examples": ["30s", "1h30m"],
}
_SIZE = r"\d+(\.\d+)?\s*([KMGTkmgt][Ii]?)?[Bb]"
_WHOLE = {"type": "integer", "minimum": 0}


def _not_a_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a number")
    return value


def _at_least(value: object) -> units.Range:
    """For what a task needs, a plain number is the least that will do, not the exact figure."""
    numbers = units.parse_range(value)
    open_ended = isinstance(value, int) or (isinstance(value, str) and ".." not in value)
    return units.Range(numbers.min) if open_ended else numbers


# Bounds stand before the function in each of these: after it pydantic would leave them out of the JSON Schema.
NOT_A_BOOL = BeforeValidator(_not_a_bool)
Whole = Annotated[int, Field(ge=0, le=MAX_WHOLE), NOT_A_BOOL]
Positive = Annotated[int, Field(ge=1, le=MAX_WHOLE), NOT_A_BOOL]
Text = Annotated[str, BeforeValidator(number_to_text), Field(max_length=MAX_TEXT_CHARACTERS)]
Name = Annotated[
    str,
    BeforeValidator(number_to_text),
    AfterValidator(_check_name),
    WithJsonSchema(
        {"type": ["string", "number"], "pattern": f"^{_NAME.pattern}$", "maxLength": MAX_NAME_CHARACTERS}
    ),
]
Word = Annotated[str, BeforeValidator(number_to_text), WithJsonSchema({"type": ["string", "number"]})]
"""Text of any length; its user bounds it."""
VariableName = Annotated[
    str,
    AfterValidator(_check_variable),
    WithJsonSchema({"type": "string", "pattern": f"^{_VARIABLE.pattern}$"}),
]
TimeZone = Annotated[str, AfterValidator(_check_timezone)]
Duration = Annotated[
    float,
    PlainValidator(units.parse_duration),
    PlainSerializer(units.print_duration, return_type=str),
    either(_DURATION, _ZERO),
]
"""Seconds."""
Size = Annotated[
    int,
    PlainValidator(units.parse_size),
    PlainSerializer(units.print_size, return_type=str),
    either({"type": "string", "pattern": f"^{_SIZE}$", "examples": ["200GB", "32GiB"]}, _ZERO),
]
"""Bytes."""
Count = Annotated[
    units.Range,
    PlainValidator(units.parse_range),
    PlainSerializer(units.print_range, return_type=str),
    either({"type": "string", "pattern": r"^\d+\s*(\.\.\s*(\d+)?)?$", "examples": ["1..4", "4.."]}, _WHOLE),
]
"""A range of whole numbers."""
AtLeast = Annotated[
    units.Range,
    PlainValidator(_at_least),
    PlainSerializer(units.print_open_range, return_type=str),
    either({"type": "string", "pattern": r"^\d+\s*(\.\.\s*(\d+)?)?$", "examples": ["4..", "4"]}, _WHOLE),
]
"""A range of whole numbers in which a plain n means n or more."""
SizeRange = Annotated[
    units.Range,
    PlainValidator(units.parse_size_range),
    PlainSerializer(units.print_size_range, return_type=str),
    _text_schema(rf"^{_SIZE}\s*(\.\.\s*({_SIZE})?)?$", "32GB..", "32GB..64GB"),
]
"""A range of bytes."""
Share = Annotated[
    float,
    PlainValidator(units.parse_share),
    PlainSerializer(units.print_share, return_type=str),
    either(
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "string", "pattern": r"^\d+(\.\d+)?\s*%?$", "examples": ["25%"]},
    ),
]
"""A fraction in 0..1."""
Money = Annotated[
    float,
    PlainValidator(units.parse_money),
    either(
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\$?\s*\d+(\.\d+)?\s*(USD)?$", "examples": ["$120"]},
    ),
]
"""US dollars."""
Gpus = Annotated[
    tuple[GpuWish, ...],
    PlainValidator(parse_gpus),
    PlainSerializer(print_gpus, return_type=str),
    _text_schema(r"^\s*[A-Za-z0-9]", "A10G:1|L4:1", "A10G:0.5", "none"),
]
"""Alternatives, any one of which will do; empty means no GPU."""
GpusOrAny = Annotated[
    tuple[GpuWish, ...] | None,
    PlainValidator(lambda value: None if value is None else parse_gpus(value)),
    PlainSerializer(lambda gpus: None if gpus is None else print_gpus(gpus), return_type=str | None),
    _text_schema(r"^\s*[A-Za-z0-9]", "A10G|L4", "none"),
]
"""None takes machines with any GPU or none, empty those without one."""


def as_list(value: object) -> object:
    """A single text stands for a list of one, where a list is expected."""
    return [value] if isinstance(value, str) else value


def no_duplicates(items: tuple[str, ...]) -> tuple[str, ...]:
    """`items` unchanged; ValueError if one is there twice."""
    twice = next((item for item in items if items.count(item) > 1), None)
    if twice is not None:
        raise ValueError(f"'{twice}' is listed twice")
    return items


Names = Annotated[
    tuple[Name, ...], Field(min_length=1, max_length=MAX_LIST_ITEMS), AfterValidator(no_duplicates)
]
"""At least one, each once."""
Texts = Annotated[tuple[Text, ...], Field(max_length=MAX_LIST_ITEMS), BeforeValidator(as_list)]
