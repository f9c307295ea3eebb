"""task.yaml, and the body of a submit: what to run, on what, and what may go wrong."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, model_validator

from . import unsupported
from .environments import Environment
from .fields import (
    MAX_NAME_CHARACTERS,
    NOT_A_BOOL,
    AtLeast,
    Duration,
    Gpus,
    Name,
    Positive,
    Settings,
    Size,
    SizeRange,
    Text,
    VariableName,
    Word,
    as_list,
    either,
    no_duplicates,
)
from .markets import Market
from .queues import Priority
from .root import Document
from .units import Range

MAX_COMMAND_CHARACTERS = 128 * 1024
"""What Linux takes as one argument (MAX_ARG_STRLEN)."""
MAX_COMMAND_WORDS = 4_096
MAX_ENVIRON = 500
MAX_TAGS = 50
MAX_RETRIES = 1_000
SHELL = ("sh", "-c")


def _as_command(value: object) -> object:
    """One text is a line of shell."""
    if isinstance(value, str):
        return (*SHELL, value)
    return value


def _check_command(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0].strip() or (words[:2] == SHELL and not "".join(words[2:]).strip()):
        raise ValueError("is empty; write a command, such as [python, train.py] or a line of shell")
    if any("\0" in word for word in words):
        raise ValueError("has a NUL character, which no command can carry")
    if sum(map(len, words)) > MAX_COMMAND_CHARACTERS:
        raise ValueError(f"is longer than {MAX_COMMAND_CHARACTERS} characters; put it in a script")
    return words


def _check_glob(text: str) -> str:
    if PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts:
        raise ValueError(f"'{text}' leaves the folder of the code; write a path inside it")
    return text


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL character, which no variable can carry")
    return text


def _name_of_command(data: dict[str, Any]) -> str:
    """The script's name without its ending (``train`` for ``python train.py``), else the program's."""
    run: tuple[str, ...] = data.get("run") or ("task",)
    words = " ".join(run[2:]).split() if tuple(run[:2]) == SHELL else list(run)
    script = next((word for word in words if re.search(r"\.\w{1,4}$", word)), words[0] if words else "task")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", PurePosixPath(script).stem).strip("-_")
    return stem[:MAX_NAME_CHARACTERS].rstrip("-_") or "task"


Command = Annotated[
    tuple[Word, ...],
    BeforeValidator(_as_command),
    AfterValidator(_check_command),
    Field(max_length=MAX_COMMAND_WORDS),
    either(
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1},
    ),
]
Environ = Annotated[
    dict[VariableName, Annotated[Word, AfterValidator(_no_nul), Field(max_length=MAX_COMMAND_CHARACTERS)]],
    Field(max_length=MAX_ENVIRON),
]
Tags = Annotated[
    tuple[Text, ...], Field(max_length=MAX_TAGS), BeforeValidator(as_list), AfterValidator(no_duplicates)
]
Uri = Annotated[Text, Field(pattern=r"^[a-z][a-z0-9+.-]*://\S+$")]
Retries = Annotated[int, Field(ge=0, le=MAX_RETRIES), NOT_A_BOOL]


class Code(Settings):
    """What is sent along: files git knows under `git`, and what `include` (globs inside it) adds to them."""

    git: Text = "."
    include: tuple[Annotated[Text, AfterValidator(_check_glob)], ...] = ()


class Resources(Settings):
    """What one attempt needs. `gpu` lists alternatives; a plain `cpus` or `memory` means at least that."""

    gpu: Gpus = ()
    cpus: AtLeast = Range(1)
    memory: SizeRange = Range(0)
    disk: Size = 0


class Retry(Settings):
    """How many times more a task is tried, by what went wrong: reclaimed, machine failed, command failed."""

    preempted: Retries = 20
    infra: Retries = 5
    error: Retries = 1


class Timeout(Settings):
    """Seconds of one attempt, and of waiting in the queue; None is no limit."""

    run: Duration | None = None
    queue: Duration | None = None

    @model_validator(mode="after")
    def _leaves_time(self) -> Timeout:
        if self.run == 0 or self.queue == 0:
            raise ValueError("0 leaves no time at all; leave it out for no limit")
        return self


class Preempt(Settings):
    """`grace`: seconds between the request to stop and the end by force."""

    grace: Duration = 90.0


class TaskSpec(Document):
    """One task as submitted, by YAML, by REST, or from the database: the same names everywhere.

    `run` is the command's words; a text is one line of shell. `environ` are variables added to its
    environment. Without `name` the script's own is taken.
    """

    refused = unsupported.TASK

    run: Command
    name: Name = Field(default_factory=_name_of_command)
    project: Name = "default"
    queue: Name = "default"
    code: Code | None = None
    environ: Environ = Field(default_factory=dict)
    resources: Resources = Resources()
    retry: Retry = Retry()
    timeout: Timeout = Timeout()
    preempt: Preempt = Preempt()
    priority: Priority | None = None
    market: Market | None = None
    tags: Tags = ()
    nodes: Positive = 1
    env: Environment | None = None
    inputs: dict[VariableName, Uri] = Field(default_factory=dict)
    secrets: Annotated[tuple[VariableName, ...], BeforeValidator(as_list)] = ()
    deadline: AwareDatetime | None = None
