"""YAML text read into plain values that remember where they stood.

ruamel's parser gives events; building from them ourselves bounds depth and alias growth, tells every
duplicate key at once, and keeps a number that would not print back as written (007, 1.10) as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

MAX_DEPTH = 40
MAX_NODES = 50_000
"""Values in one document after its aliases are written out."""

_CONSTANTS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")
_FLOAT = re.compile(r"-?\d+\.\d+|-?\d+(\.\d+)?[eE][-+]?\d+")
_TEXT_TAGS = (None, "!", "tag:yaml.org,2002:str")

Path = tuple[str | int, ...]
Substitute = Callable[[str, Path], str]
"""What a text value at a path stands for; ValueError where it can't be told."""


class Flaw(Exception):
    """A mistake in the text at a place (line and column from 1)."""

    def __init__(self, message: str, line: int, column: int, path: Path = ()) -> None:
        super().__init__(message)
        self.message, self.line, self.column, self.path = message, line, column, path


@dataclass
class Node:
    """A value and the place it starts at; `weight` counts the values in it, aliases written out."""

    value: Any
    line: int
    column: int
    weight: int = 1
    key_places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value as dicts, lists, text, numbers, bools and None."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def place_of(self, path: Path) -> tuple[int, int]:
        """Line and column of the key or list item at `path`; of the nearest one above where there is none."""
        node, place = self, (self.line, self.column)
        for part in path:
            if isinstance(node.value, dict) and part in node.value:
                place, node = node.key_places[str(part)], node.value[part]
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                place = (node.line, node.column)
            else:
                break
        return place


def read_document(text: str, substitute: Substitute) -> tuple[Node, list[Flaw]]:
    """The tree of the only document in `text`, and the flaws that did not stop the reading.

    `substitute(text, path)` gives what a text value stands for; ValueError from it is a flaw at its place.
    Raises Flaw for text that is not YAML, is empty, too deep or too large.
    """
    return _Builder(text, substitute).build()


class _Builder:
    def __init__(self, text: str, substitute: Substitute) -> None:
        self._events = _events(text)
        self._substitute = substitute
        self._anchors: dict[str, Node] = {}
        self._flaws: list[Flaw] = []
        self._event: Any = None

    def build(self) -> tuple[Node, list[Flaw]]:
        while self._next() not in ("DocumentStartEvent", "StreamEndEvent"):
            pass
        if self._kind() == "StreamEndEvent":
            raise Flaw("is empty", 1, 1)
        self._next()
        root = self._node((), 0)
        self._next()
        if self._next() == "DocumentStartEvent":
            raise self._flaw("a second document starts here ('---'); write one only")
        return root, self._flaws

    def _next(self) -> str:
        self._event = next(self._events)
        return self._kind()

    def _kind(self) -> str:
        return type(self._event).__name__

    def _flaw(self, message: str, path: Path = ()) -> Flaw:
        mark = self._event.start_mark
        return Flaw(message, mark.line + 1, mark.column + 1, path)

    def _node(self, path: Path, depth: int) -> Node:
        """The node that starts at the current event; leaves the current event at the node's last."""
        if depth > MAX_DEPTH:
            raise self._flaw(f"nested deeper than {MAX_DEPTH} levels")
        kind, anchor = self._kind(), self._event.anchor
        if kind == "AliasEvent":
            return self._alias(anchor, path)
        mark = self._event.start_mark
        node = Node(None, mark.line + 1, mark.column + 1)
        if kind == "ScalarEvent":
            node.value = self._scalar(path)
        elif kind == "SequenceStartEvent":
            self._refuse_tag(path)
            self._sequence(node, path, depth)
        else:
            self._refuse_tag(path)
            self._mapping(node, path, depth)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _alias(self, anchor: str, path: Path) -> Node:
        if anchor not in self._anchors:
            raise self._flaw(f"*{anchor} names nothing above it", path)
        return self._anchors[anchor]

    def _refuse_tag(self, path: Path) -> None:
        tag = str(self._event.tag) if getattr(self._event, "tag", None) is not None else None
        if tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise self._flaw(f"the tag {tag} is not used here; remove it", path)

    def _scalar(self, path: Path) -> Any:
        event = self._event
        tag = str(event.tag) if event.tag is not None else None
        if tag not in _TEXT_TAGS:
            raise self._flaw(f"the tag {tag} is not used here; remove it", path)
        is_plain = event.style in (None, "") and tag is None
        if is_plain and event.value in _CONSTANTS:
            return _CONSTANTS[event.value]
        try:
            text = self._substitute(event.value, path)
        except ValueError as error:
            self._flaws.append(self._flaw(str(error), path))
            return event.value
        return _plain_scalar(text) if is_plain else text

    def _grow(self, node: Node, inner: Node, path: Path) -> None:
        node.weight += inner.weight
        if node.weight > MAX_NODES:
            raise self._flaw(f"more than {MAX_NODES} values once its aliases are written out", path)

    def _sequence(self, node: Node, path: Path, depth: int) -> None:
        node.value = []
        while self._next() != "SequenceEndEvent":
            inner = self._node((*path, len(node.value)), depth + 1)
            node.value.append(inner)
            self._grow(node, inner, path)

    def _mapping(self, node: Node, path: Path, depth: int) -> None:
        node.value = {}
        merged: list[Node] = []
        while self._next() != "MappingEndEvent":
            key, place = self._key(path)
            self._next()
            inner = self._node((*path, key), depth + 1)
            self._grow(node, inner, path)
            if key == "<<":
                merged += self._merged(inner, path)
            elif key in node.value:
                first = node.key_places[key][0]
                self._flaws.append(Flaw(f"is there twice (first in line {first})", *place, (*path, key)))
            else:
                node.value[key], node.key_places[key] = inner, place
        for source in merged:
            for key, inner in source.value.items():
                if key not in node.value:
                    node.value[key], node.key_places[key] = inner, source.key_places[key]

    def _key(self, path: Path) -> tuple[str, tuple[int, int]]:
        if self._kind() != "ScalarEvent":
            raise self._flaw("a key must be a word", path)
        mark = self._event.start_mark
        return self._event.value, (mark.line + 1, mark.column + 1)

    def _merged(self, inner: Node, path: Path) -> list[Node]:
        sources = inner.value if isinstance(inner.value, list) else [inner]
        if not all(isinstance(source.value, dict) for source in sources):
            self._flaws.append(Flaw("<< takes a mapping, such as <<: *other", inner.line, inner.column, path))
            return []
        return sources


def _plain_scalar(text: str) -> Any:
    """YAML 1.2's meaning of an unquoted word; a number only if it prints back as it was written."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text


def _events(text: str) -> Iterator[Any]:
    """ruamel's events, its errors as flaws."""
    reader = YAML(typ="safe", pure=True)
    reader.version = "1.2"
    try:
        yield from reader.parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise Flaw(_in_our_words(error, text, line), line, column) from None
    except YAMLError as error:
        position = getattr(error, "position", 0)
        before = text[: position if isinstance(position, int) else 0]
        column = len(before) - (before.rfind("\n") + 1) + 1
        message = "a character that YAML can't hold; remove it, or write it as an escape in double quotes"
        raise Flaw(message, before.count("\n") + 1, column) from None


def _in_our_words(error: MarkedYAMLError, text: str, line: int) -> str:
    lines = text.splitlines()
    around = lines[max(0, line - 2) : line]
    if any(re.match(r" *\t", written) for written in around):
        return "a tab indents this line; YAML wants spaces"
    if any(re.search(r"[{\[].*\$\{", written) for written in around):
        return "not valid YAML: inside {...} and [...] write variables in quotes, as in '${NAME}'"
    problem = (error.problem or "the text is not YAML").rstrip(".")
    context = f" {error.context}" if error.context else ""
    return f"not valid YAML: {problem}{context}"
