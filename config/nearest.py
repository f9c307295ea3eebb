"""The nearest known word to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean 'spot'?`` for a near miss, else the empty string. Case doesn't count."""
    by_lower = {candidate.lower(): candidate for candidate in sorted(known)}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean '{by_lower[near[0]]}'?" if near else ""


def one_of(word: str, known: Iterable[str]) -> str:
    """``'spto' is not one of a, b (did you mean 'a'?)``."""
    names = list(known)
    hint = did_you_mean(word, names)
    return f"'{word}' is not one of {', '.join(names) or '(nothing)'}" + (f" ({hint})" if hint else "")
