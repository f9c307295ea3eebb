"""Text that people write for quantities, read into plain numbers and printed back.

Durations are seconds (float), sizes are bytes (int), shares are fractions (0.25 for ``25%``), money is US
dollars (float), ranges are `Range`. Every reader raises ValueError with a sentence that says what to write.
Every printer gives text that its reader turns into the same value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

SECONDS_PER_UNIT = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
BYTES_PER_UNIT = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
MAX_DURATION_SECONDS = 10 * 366 * 86_400.0
"""Ten years: longer is a slip of the keyboard, not a plan."""
MAX_SIZE_BYTES = 2**60
MAX_QUANTITY_CHARACTERS = 64

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B|B)", re.IGNORECASE)
_RANGE = re.compile(r"(\d+)\s*(?:(\.\.)\s*(\d+)?)?")
_DURATION_HINT = "write a number with a unit, such as 30s, 5m, 2h, 1d or 1h30m"
_SIZE_HINT = "write a number with a unit, such as 200GB or 32GiB"
_RANGE_HINT = "write 1..4, 4.. or a whole number"


@dataclass(frozen=True)
class Range:
    """Whole numbers from `min` to `max`, both included; `max` None means no upper end."""

    min: int
    max: int | None = None

    def __post_init__(self) -> None:
        if self.min < 0:
            raise ValueError(f"{self.min} is below 0")
        if self.max is not None and self.max < self.min:
            raise ValueError(f"the range {self.min}..{self.max} is empty: its end is below its start")

    def __contains__(self, number: float) -> bool:
        return self.min <= number and (self.max is None or number <= self.max)

    def __str__(self) -> str:
        return print_range(self)


def _short_text(value: object, hint: str) -> str:
    """The stripped text of `value`, or a ValueError: a long text would cost time and prove nothing."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text; {hint}")
    if len(value) > MAX_QUANTITY_CHARACTERS:
        raise ValueError(f"longer than {MAX_QUANTITY_CHARACTERS} characters; {hint}")
    return value.strip()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_duration(value: object) -> float:
    """Seconds (float, >= 0) for text such as ``10s``, ``1h30m``, ``200ms``; the plain number 0 is allowed.

    Raises ValueError for a number without a unit, an unknown unit, or more than ten years.
    """
    if _is_number(value) and value == 0:
        return 0.0
    if _is_number(value):
        raise ValueError(f"{value} has no unit; write {value}s for seconds, {value}m for minutes")
    text = _short_text(value, _DURATION_HINT)
    if text == "0":
        return 0.0
    if re.fullmatch(r"\d+(\.\d+)?", text):
        raise ValueError(f"'{text}' has no unit; write {text}s for seconds, {text}m for minutes")
    return _duration_of_parts(text)


def _duration_of_parts(text: str) -> float:
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"'{text}' is not a duration; {_DURATION_HINT}")
    units = [unit for _, unit in parts]
    if units != sorted(set(units), key=list(SECONDS_PER_UNIT).index):
        raise ValueError(f"'{text}' is not a duration; write each unit once, the largest first, as in 1h30m")
    seconds = float(sum(Fraction(number) * Fraction(str(SECONDS_PER_UNIT[unit])) for number, unit in parts))
    if seconds > MAX_DURATION_SECONDS:
        raise ValueError(f"'{text}' is longer than ten years")
    return seconds


def print_duration(seconds: float) -> str:
    """The shortest text `parse_duration` reads back as `seconds` (>= 0)."""
    if seconds == 0:
        return "0s"
    if seconds < 1 and float(f"{seconds * 1000:.12g}") == int(seconds * 1000 + 0.5):
        return f"{int(seconds * 1000 + 0.5)}ms"
    if seconds != int(seconds):
        return f"{Decimal(repr(seconds)):f}s"
    text, rest = "", int(seconds)
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, int(SECONDS_PER_UNIT[unit]))
        text += f"{count}{unit}" if count else ""
    return text


def parse_size(value: object) -> int:
    """Bytes for text such as ``200GB`` (10^9) or ``32GiB`` (2^30); the plain number 0 is allowed.

    Raises ValueError for a number without a unit, an unknown unit, or more than 2^60 bytes.
    """
    if _is_number(value) and value == 0:
        return 0
    if _is_number(value):
        raise ValueError(f"{value} has no unit; write {value}GB or {value}GiB")
    text = _short_text(value, _SIZE_HINT)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a size; {_SIZE_HINT}")
    size_bytes = Fraction(match[1]) * BYTES_PER_UNIT[match[2].upper()]
    if size_bytes > MAX_SIZE_BYTES:
        raise ValueError(f"'{text}' is larger than 1024 PiB")
    if size_bytes.denominator != 1:
        raise ValueError(f"'{text}' is not a whole number of bytes")
    return int(size_bytes)


def print_size(size_bytes: int) -> str:
    """Text in the largest unit that divides `size_bytes`; `parse_size` reads it back unchanged."""
    names = {"KIB": "KiB", "MIB": "MiB", "GIB": "GiB", "TIB": "TiB"}
    fitting = [unit for unit, size in BYTES_PER_UNIT.items() if size_bytes and size_bytes % size == 0]
    unit = max(fitting, key=lambda name: BYTES_PER_UNIT[name], default="B")
    return f"{size_bytes // BYTES_PER_UNIT[unit]}{names.get(unit, unit)}"


def parse_range(value: object) -> Range:
    """A `Range` for ``1..4``, ``4..``, or a whole number n (n..n). Raises ValueError for anything else."""
    if isinstance(value, Range):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Range(value, value)
    text = _short_text(value, _RANGE_HINT)
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a range; {_RANGE_HINT}")
    low, dots, high = match.groups()
    if dots is None:
        return Range(int(low), int(low))
    return Range(int(low), int(high) if high is not None else None)


def print_range(numbers: Range) -> str:
    """``1..4``, ``4..`` or ``4``."""
    if numbers.max is None:
        return f"{numbers.min}.."
    return str(numbers.min) if numbers.min == numbers.max else f"{numbers.min}..{numbers.max}"


def print_open_range(numbers: Range) -> str:
    """``4..4`` where `print_range` says ``4``: for readers to whom a plain n means n or more."""
    return f"{numbers.min}..{'' if numbers.max is None else numbers.max}"


def parse_size_range(value: object) -> Range:
    """A `Range` of bytes for ``32GB..``, ``32GB..64GB`` or ``32GB`` (which means at least that much)."""
    if isinstance(value, Range):
        return value
    text = _short_text(value, "write 32GB.., 32GB..64GB or 32GB")
    low, dots, high = text.partition("..")
    return Range(parse_size(low), parse_size(high) if dots and high.strip() else None)


def print_size_range(sizes: Range) -> str:
    """``32GB..`` or ``32GB..64GB``."""
    return f"{print_size(sizes.min)}..{'' if sizes.max is None else print_size(sizes.max)}"


def parse_share(value: object) -> float:
    """A fraction in 0..1 for ``25%`` or ``0.25``. Raises ValueError outside it or for other text."""
    hint = "write a share such as 25% or 0.25"
    if _is_number(value):
        share = float(value)  # type: ignore[arg-type]  # _is_number has looked
    else:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", _short_text(value, hint))
        if match is None:
            raise ValueError(f"'{value}' is not a share; {hint}")
        share = float(Fraction(match[1]) / (100 if match[2] else 1))
    if not 0 <= share <= 1:
        raise ValueError(f"{value} is outside 0%..100%; {hint}")
    return share


def print_share(share: float) -> str:
    """``25%``; the text reads back as the same float."""
    percent = Fraction(repr(share)) * 100
    return f"{Decimal(percent.numerator) / Decimal(percent.denominator):f}%"


def parse_money(value: object) -> float:
    """US dollars (>= 0) for ``120``, ``1.5``, ``"$120"`` or ``"120 USD"``. Raises ValueError otherwise."""
    hint = "write US dollars, such as 120 or 0.35"
    if _is_number(value):
        dollars = float(value)  # type: ignore[arg-type]  # _is_number has looked
    else:
        match = re.fullmatch(r"\$?\s*(\d+(?:\.\d+)?)\s*(?:USD)?", _short_text(value, hint))
        if match is None:
            raise ValueError(f"'{value}' is not an amount of money; {hint}")
        dollars = float(match[1])
    if not 0 <= dollars < float("inf"):
        raise ValueError(f"{value} is not an amount of money; {hint}")
    return dollars


def print_money(dollars: float) -> str:
    """``$120`` or ``$0.35``; the text reads back as the same float."""
    return f"${Decimal(repr(dollars)).normalize():f}"
