"""The options that say what a task is, and the task.yaml under them."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from .failures import Failure, usage

if TYPE_CHECKING:
    from ...config import TaskSpec

YAML_ENDINGS = (".yaml", ".yml")


def _option(help_text: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help_text, metavar=metavar, show_default=False)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What was said on the command line; None and empty = not said. Each rules over the file."""

    command: Annotated[
        list[str] | None, typer.Argument(help="What to run; put -- before it.", metavar="[--] COMMAND...")
    ] = None
    file: Annotated[Path | None, _option("task.yaml to begin with.", "--file", "-f", metavar="FILE")] = None
    name: Annotated[str | None, _option("Default: the script's.", "--name")] = None
    project: Annotated[str | None, _option("Project it belongs to.", "--project", "-p")] = None
    queue: Annotated[str | None, _option("Queue it waits in.", "--queue", "-q")] = None
    gpu: Annotated[str | None, _option("Such as A10G:1 or 'A10G:1|L4:1'.", "--gpu", metavar="GPUS")] = None
    cpus: Annotated[str | None, _option("At least so many.", "--cpus", metavar="N")] = None
    memory: Annotated[str | None, _option("At least, such as 32GB.", "--memory", metavar="SIZE")] = None
    disk: Annotated[str | None, _option("At least, such as 100GB.", "--disk", metavar="SIZE")] = None
    market: Annotated[str | None, _option("spot, on_demand or spot_first.", "--market")] = None
    priority: Annotated[int | None, _option("Instead of its queue's.", "--priority")] = None
    tag: Annotated[list[str] | None, _option("Added to the file's; may be repeated.", "--tag", "-t")] = None
    env: Annotated[
        list[str] | None,
        _option("Variable; without a value it is taken from here.", "--env", "-e", metavar="NAME[=VALUE]"),
    ] = None
    retry_preempted: Annotated[
        int | None, _option("Retries after the machine was reclaimed.", "--retry-preempted", metavar="N")
    ] = None
    retry_infra: Annotated[
        int | None, _option("Retries after the machine failed.", "--retry-infra", metavar="N")
    ] = None
    retry_error: Annotated[
        int | None, _option("Retries after the command failed.", "--retry-error", metavar="N")
    ] = None
    timeout: Annotated[str | None, _option("Longest run of an attempt.", "--timeout", metavar="DURATION")] = (
        None
    )
    queue_timeout: Annotated[
        str | None, _option("Longest wait in the queue.", "--queue-timeout", metavar="DURATION")
    ] = None
    code: Annotated[Path | None, _option("Send the code in this folder along.", "--code", metavar="DIR")] = (
        None
    )
    include: Annotated[
        list[str] | None,
        _option("Files in it that git ignores; may be repeated.", "--include", metavar="GLOB"),
    ] = None
    uid: Annotated[str | None, _option("The same again is the same task.", "--uid")] = None

    @property
    def base(self) -> Path:
        """The folder that paths in the task count from: the file's, or the working directory."""
        return self.file.parent if self.file is not None and self.code is None else Path()


def taking_task_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command(options, **rest)` as typer reads it: with every field of TaskOptions as a parameter."""
    own = get_type_hints(command, include_extras=True)
    hints = get_type_hints(TaskOptions, include_extras=True)
    names = [one.name for one in fields(TaskOptions)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(one.name, keyword, default=one.default, annotation=hints[one.name])
        for one in fields(TaskOptions)
    ]
    rest = list(inspect.signature(command).parameters.values())[1:]
    parameters += [one.replace(kind=keyword, annotation=own[one.name]) for one in rest]

    @functools.wraps(command)
    def taking(**given: Any) -> None:
        options = TaskOptions(**{name: given.pop(name) for name in names})
        command(options, **given)

    taking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    taking.__annotations__ = {one.name: one.annotation for one in parameters}
    return taking


def read_task(options: TaskOptions) -> TaskSpec:
    """The file with the options over it, validated. Raises Failure (usage) with each mistake's place."""
    from ...config import ConfigError, TaskSpec, load_task

    said = _said(options)
    try:
        TaskSpec.from_dict(
            _overlaid({"run": ["true"]}, said), "options"
        )  # a mistake here has no line in the file
        if options.file is None:
            return TaskSpec.from_dict(said, "options")
        return load_task(options.file, amend=lambda data: _overlaid(data, said))
    except ConfigError as error:
        raise _invalid(error, options) from None


def _invalid(error: Exception, options: TaskOptions) -> Failure:
    hint = ""
    if options.file is None and not options.command:
        hint = "say what to run: hostler run -- python train.py, or give a file: -f task.yaml"
    return usage("the task is not valid; nothing was queued", str(error), hint)


def _said(options: TaskOptions) -> dict[str, Any]:
    """The options under the keys of task.yaml."""
    said: dict[str, Any] = {
        "run": _command(options),
        "name": options.name,
        "project": options.project,
        "queue": options.queue,
        "market": options.market,
        "priority": options.priority,
        "tags": list(options.tag or ()),
        "environ": dict(map(_variable, options.env or ())),
        "resources": {name: getattr(options, name) for name in ("gpu", "cpus", "memory", "disk")},
        "retry": {
            "preempted": options.retry_preempted,
            "infra": options.retry_infra,
            "error": options.retry_error,
        },
        "timeout": {"run": options.timeout, "queue": options.queue_timeout},
        "code": {"git": str(options.code) if options.code else None, "include": list(options.include or ())},
    }
    found = _filled(said)
    assert isinstance(found, dict)
    return found


def _command(options: TaskOptions) -> Any:
    words = options.command or []
    if len(words) == 1 and words[0].endswith(YAML_ENDINGS) and Path(words[0]).is_file():
        raise usage(f"{words[0]} is a file, not a command", hint=f"-f {words[0]}")
    if len(words) == 1 and any(character.isspace() for character in words[0]):
        return words[0]  # one quoted text is a line of shell, as in task.yaml
    return words


def _variable(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if given:
        return name, value
    if name not in os.environ:
        raise usage(f"--env {name}: there is no such variable here", hint=f"give its value: --env {name}=...")
    return name, os.environ[name]


def _filled(value: Any) -> Any:
    """`value` without what was not said."""
    if not isinstance(value, dict):
        return value
    filled = {key: _filled(one) for key, one in value.items()}
    return {key: one for key, one in filled.items() if one is not None and one not in ([], {})}


def _overlaid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on `under`: mappings key by key, lists of tags and globs added, everything else replaced."""
    result = dict(under)
    for key, value in over.items():
        there = under.get(key)
        if isinstance(value, dict) and isinstance(there, Mapping):
            result[key] = _overlaid(there, value)
        elif key in ("tags", "include") and there:
            known = [there] if isinstance(there, str) else list(there)
            result[key] = known + [one for one in value if one not in known]
        else:
            result[key] = value
    return result
