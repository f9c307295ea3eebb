"""Tags as labels and back. Labels hold lower-case letters, digits, ``-`` and ``_`` only, 63 characters at most.

``hostler:pool`` becomes ``hostler-pool``; every other character that a label can't hold becomes ``_`` and its bytes in
two hex digits, and a long value goes on in ``KEY__1``, ``KEY__2`` and so on: what is read back is what was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..base import InvalidConfig

MAX_CHARACTERS = 63
MAX_LABELS = 64
OURS_TAG, OURS_LABEL = "hostler:", "hostler-"
_ESCAPED = re.compile(r"_([0-9a-f]{2})")
_CONTINUED = re.compile(r"(.*)__([1-9]\d?)")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def to_labels(tags: Mapping[str, str]) -> dict[str, str]:
    """Raises InvalidConfig for a key that is too long or does not begin with a letter, and for too many tags."""
    labels = {}
    for tag, value in sorted(tags.items()):
        key, text = _key(tag), _escape(value)
        chunks = [text[at : at + MAX_CHARACTERS] for at in range(0, len(text), MAX_CHARACTERS)] or [""]
        for number, chunk in enumerate(chunks):
            labels[f"{key}__{number}" if number else key] = chunk
    if len(labels) > MAX_LABELS:
        raise InvalidConfig(f"{len(tags)} tags make {len(labels)} labels, Compute Engine takes {MAX_LABELS}")
    long = next((key for key in labels if len(key) > MAX_CHARACTERS), None)
    if long is not None:
        raise InvalidConfig(f"tag {long!r} is longer than the {MAX_CHARACTERS} characters of a label")
    return labels


def to_tags(labels: Mapping[str, str]) -> dict[str, str]:
    """The tags that `to_labels` made labels of; labels of other people come out as they are."""
    joined: dict[str, str] = {}
    for key, value in sorted(labels.items(), key=lambda item: _place(item[0])):
        head, number = _place(key)
        if number and head in joined:
            joined[head] += value
        else:
            joined[key] = value
    return {_tag(key): _unescape(value) for key, value in joined.items()}


def server_filter(tag: str, value: str) -> str:
    """The filter of a list call for what bears `tag`; an exact check must follow, for it sees only the first label."""
    key, first = _key(tag), _escape(value)[:MAX_CHARACTERS]
    return f'labels.{key} = "{first}"'


def _place(key: str) -> tuple[str, int]:
    # No escape has two underscores: an underscore of a tag is one too.
    found = _CONTINUED.fullmatch(key)
    return (found[1], int(found[2])) if found else (key, 0)


def _key(tag: str) -> str:
    if tag.startswith(OURS_TAG):
        return OURS_LABEL + _escape(tag.removeprefix(OURS_TAG))
    # A tag that looks like one of ours already must not become it.
    text = _escape(tag)
    text = text.replace("-", "_2d", 1) if text.startswith(OURS_LABEL) else text
    if not text[:1].isalpha():
        raise InvalidConfig(
            f"tag {tag!r} does not begin with a lower-case letter, as Compute Engine's labels must"
        )
    return text


def _tag(key: str) -> str:
    if key.startswith(OURS_LABEL):
        return OURS_TAG + _unescape(key.removeprefix(OURS_LABEL))
    return _unescape(key)


def _escape(text: str) -> str:
    return "".join(one if one in _PLAIN else "".join(f"_{byte:02x}" for byte in one.encode()) for one in text)


def _unescape(text: str) -> str:
    raw = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    try:
        return raw.encode("latin-1").decode()
    except UnicodeError:
        return text
