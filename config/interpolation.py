"""``${NAME}`` and ``${NAME:-default}`` in text values, filled in from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .nearest import did_you_mean

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_FILLED_CHARACTERS = 64 * 1024


def fill_in(text: str, variables: Mapping[str, str]) -> str:
    """`text` with its references replaced; ``$${`` stands for ``${`` itself.

    Raises ValueError for a variable that is not set and has no default, or a reference that isn't one.
    """
    if "${" not in text:
        return text
    filled = _REFERENCE.sub(lambda match: _one(match, variables), text)
    if len(filled) > MAX_FILLED_CHARACTERS:
        raise ValueError(f"longer than {MAX_FILLED_CHARACTERS} characters after its variables are filled in")
    return filled


def _one(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match[0] == "$${":
        return "${"
    name, dash, default = match[1].partition(":-")
    if not match[2] or not _NAME.fullmatch(name):
        raise ValueError(
            f"'{match[0]}' is not a variable; write ${{NAME}}, ${{NAME:-default}}, or $${{ for a plain ${{"
        )
    if variables.get(name):
        return variables[name]
    if dash:
        return default
    if name in variables:
        return ""
    near = did_you_mean(name, variables)
    raise ValueError(
        f"the environment variable {name} is not set{f' ({near})' if near else ''}; "
        f"set it or write ${{{name}:-default}}"
    )
