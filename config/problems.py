"""What is wrong with a file: one `Problem` a mistake, all of them in one `ConfigError`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from .keys import keys_allowed_at
from .nearest import did_you_mean, one_of

Path = tuple[str | int, ...]
"""Keys and list indexes from the top of the document."""
MAX_PROBLEMS = 100
MAX_SHOWN_CHARACTERS = 60
_SECRET_KEY = re.compile(r"secret|token|passw|credential|access_key|environ", re.IGNORECASE)
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of keys",
    "mapping": "a mapping of keys",
    "model": "a mapping of keys",
    "path": "a path",
    "datetime": "a time such as 2026-12-01T09:00:00Z",
}


@dataclass(frozen=True)
class Problem:
    """One mistake. `line` and `column` count from 1 and are None where there is no text (a REST body)."""

    file: str
    path: Path
    message: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        dotted = print_path(self.path)
        return _on_one_line(f"{place}: {dotted}: {self.message}" if dotted else f"{place}: {self.message}")


class ConfigError(ValueError):
    """A file or body that can't be used; `problems` has every mistake, str() is one line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _on_one_line(text: str) -> str:
    """`text` with line ends, control characters and lone surrogates as escapes: keys may hold anything."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def print_path(path: Path) -> str:
    """``pools.gpu.offers[0].gpu``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def problems_of(error: ValidationError, model: type[BaseModel], data: object, file: str) -> list[Problem]:
    """Every mistake pydantic found in `data` on its way to `model`, in our words. At most 100."""
    found = error.errors(include_url=False)
    found = [one for one in found if not _is_echo(one)]
    problems = [_problem(one, model, data, file) for one in found[:MAX_PROBLEMS]]
    if len(found) > MAX_PROBLEMS:
        problems.append(Problem(file, (), f"and {len(found) - MAX_PROBLEMS} more problems"))
    return problems


def _is_echo(error: Any) -> bool:
    """Whether it only follows from another: a default of a field at fault, a list short of entries at fault."""
    if error["type"] == "too_short" and hasattr(error["input"], "__len__"):
        return len(error["input"]) >= int(error["ctx"]["min_length"])
    return bool(error["type"] == "default_factory_not_called")


def _problem(error: Any, model: type[BaseModel], data: object, file: str) -> Problem:
    path = _path_in_data(error["loc"], data, absent=error["type"] == "missing")
    if error["type"] == "disagreement":
        path = tuple(error["loc"])
    return Problem(file, path, _message(error, path, model, data))


def _path_in_data(loc: Iterable[str | int], data: object, *, absent: bool) -> Path:
    """`loc` without the names pydantic puts in for union members, which are no keys of the document.

    `absent`: the last one may be a key that should be there and isn't.
    """
    path: list[str | int] = []
    parts = list(loc)
    for position, part in enumerate(parts):
        if _has(data, part):
            data = cast("Any", data)[part]
        elif not (absent and position == len(parts) - 1):
            continue
        path.append(part)
    return tuple(path)


def _has(data: object, part: str | int) -> bool:
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)


def _message(error: Any, path: Path, model: type[BaseModel], data: object) -> str:
    kind, context = str(error["type"]), error.get("ctx", {})
    value = _value_at(data, path)
    if kind == "extra_forbidden":
        return _unknown_key(path, model, data)
    if kind == "disagreement":
        return str(context["sentence"])
    if kind == "missing":
        return "is missing; add it"
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", error["msg"]))
    if kind == "literal_error":
        return one_of(str(value), re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]])
    if kind.startswith("union_tag"):
        return _wrong_tag(kind, context)
    return _wrong_value(kind, context, _shown(path, value)) or f"{error['msg']} ({_shown(path, value)})"


def _wrong_value(kind: str, context: dict[str, Any], shown: str) -> str:
    """Sentences for pydantic's plain checks; empty for a kind that is none of them."""
    simple = {
        "greater_than_equal": "must be at least {ge}, not {shown}",
        "greater_than": "must be above {gt}, not {shown}",
        "less_than_equal": "must be at most {le}, not {shown}",
        "less_than": "must be below {lt}, not {shown}",
        "too_short": "needs at least {min_length} entries",
        "too_long": "has more than {max_length} entries",
        "string_too_long": "is longer than {max_length} characters",
        "string_too_short": "must not be empty",
        "string_pattern_mismatch": "{shown} doesn't have the form {pattern}",
        "timezone_aware": "needs a time zone; put Z (UTC) at its end",
        "finite_number": "must be a finite number",
    }
    if kind in simple:
        return simple[kind].format(shown=shown, **context)
    expected = _KINDS.get(kind.split("_", maxsplit=1)[0])
    return f"must be {expected}, not {shown}" if expected else ""


def _wrong_tag(kind: str, context: dict[str, Any]) -> str:
    if kind == "union_tag_not_found":
        return "type is missing; say what it is, such as type: local"
    known = re.findall(r"'([^']*)'", context["expected_tags"])
    return f"type: {one_of(str(context['tag']), known)}"


def _unknown_key(path: Path, model: type[BaseModel], data: object) -> str:
    known = keys_allowed_at(model, path[:-1], data)
    hint = did_you_mean(str(path[-1]), known) or (f"known keys: {', '.join(known)}" if known else "")
    return "is not a known key" + (f" ({hint})" if hint else "")


def _value_at(data: object, path: Path) -> object:
    """The value at `path`; None where there is none."""
    for part in path:
        if not _has(data, part):
            return None
        data = cast("Any", data)[part]
    return data


def _shown(path: Path, value: object) -> str:
    """`value` as it may be printed: short, and never what might be a secret."""
    if any(_SECRET_KEY.search(str(part)) for part in path):
        return "what is written there"
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."
