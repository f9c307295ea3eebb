"""fleet.yaml and task.yaml from a path or a text: one value, or one `ConfigError` with every problem."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from .document import Flaw, Node, read_document
from .fleet import FleetConfig
from .interpolation import fill_in
from .problems import ConfigError, Problem, problems_of
from .root import Document
from .task import TaskSpec

MAX_FILE_BYTES = 512 * 1024
"""Far above any fleet written by hand; parsing takes seconds beyond it."""
LITERAL_TASK_KEYS = frozenset({"run"})
"""Where ``${NAME}`` is the task's own shell's business, on its machine."""

_Document = TypeVar("_Document", bound=Document)
Amend = Callable[[dict[str, Any]], dict[str, Any]]


def load_fleet(path: str | os.PathLike[str], variables: Mapping[str, str] | None = None) -> FleetConfig:
    """Read fleet.yaml. `variables` (default: the environment) fill ``${NAME}``. Raises ConfigError."""
    return parse_fleet(_read(path), os.fspath(path), variables)


def load_task(
    path: str | os.PathLike[str],
    variables: Mapping[str, str] | None = None,
    *,
    amend: Amend | None = None,
) -> TaskSpec:
    """Read task.yaml. ``${NAME}`` is filled in everywhere but in `run`. Raises ConfigError.

    `amend` is given the file's plain values and gives those to validate: options of a command line over it.
    """
    return parse_task(_read(path), os.fspath(path), variables, amend=amend)


def parse_fleet(
    text: str, name: str = "fleet.yaml", variables: Mapping[str, str] | None = None
) -> FleetConfig:
    """`load_fleet` for text at hand; `name` stands before each problem."""
    return _parse(text, name, FleetConfig, os.environ if variables is None else variables, frozenset())


def parse_task(
    text: str,
    name: str = "task.yaml",
    variables: Mapping[str, str] | None = None,
    *,
    amend: Amend | None = None,
) -> TaskSpec:
    """`load_task` for text at hand; `name` stands before each problem."""
    variables = os.environ if variables is None else variables
    return _parse(text, name, TaskSpec, variables, LITERAL_TASK_KEYS, amend)


def _read(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _refuse(name, "no such file; give its path with --config or --file") from None
    except IsADirectoryError:
        raise _refuse(name, "is a folder, not a file") from None
    except OSError as error:
        raise _refuse(name, f"can't be read: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig") if len(content) <= MAX_FILE_BYTES else content.decode("latin-1")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        raise _refuse(name, "is not UTF-8 text; save it as UTF-8", line, column) from None


def _refuse(name: str, message: str, line: int | None = None, column: int | None = None) -> ConfigError:
    return ConfigError([Problem(name, (), message, line, column)])


def _parse(
    text: str,
    name: str,
    model: type[_Document],
    variables: Mapping[str, str],
    literal_keys: frozenset[str],
    amend: Amend | None = None,
) -> _Document:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_FILE_BYTES:
        raise _refuse(name, f"is larger than {MAX_FILE_BYTES // 1024} KiB", 1, 1)

    def substitute(value: str, path: tuple[str | int, ...]) -> str:
        return value if path and path[0] in literal_keys else fill_in(value, variables)

    try:
        tree, flaws = read_document(text, substitute)
    except Flaw as flaw:
        raise ConfigError([_told(flaw, name)]) from None
    if not isinstance(tree.value, dict):
        found = "is empty" if tree.value is None else "is not a mapping"
        first = next(iter(model.model_json_schema()["required"]))
        raise _refuse(name, f"{found}; write keys at its top, such as {first}:", tree.line, tree.column)
    return _validated(tree, flaws, name, model, amend)


def _validated(
    tree: Node, flaws: list[Flaw], name: str, model: type[_Document], amend: Amend | None
) -> _Document:
    problems = [_told(flaw, name) for flaw in flaws]
    flawed = {flaw.path for flaw in flaws}
    data = tree.plain() if amend is None else amend(tree.plain())
    document = None
    try:
        document = model.model_validate(data)
    except ValidationError as error:
        found = problems_of(error, model, data, name)
        problems += [_placed(problem, tree) for problem in found if problem.path not in flawed]
    if document is None or problems:
        raise ConfigError(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))
    return document


def _told(flaw: Flaw, name: str) -> Problem:
    return Problem(name, flaw.path, flaw.message, flaw.line, flaw.column)


def _placed(problem: Problem, tree: Node) -> Problem:
    line, column = tree.place_of(problem.path)
    return Problem(problem.file, problem.path, problem.message, line, column)
