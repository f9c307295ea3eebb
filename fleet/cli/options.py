"""Options and arguments that many commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from .failures import usage
from .output import Format, chosen


def _remember(form: Format) -> Format:
    chosen.set(form)
    return form


Output = Annotated[
    Format,
    typer.Option("--output", "-o", help="How to print.", callback=_remember, show_default=True),
]
TaskId = Annotated[int, typer.Argument(help="The task's id.", min=1, metavar="TASK")]
TaskIds = Annotated[list[int], typer.Argument(help="Ids of tasks.", min=1, metavar="TASK...")]
InstanceId = Annotated[str, typer.Argument(help="The instance's id.", metavar="INSTANCE")]
InstanceIds = Annotated[list[str], typer.Argument(help="Ids of instances.", metavar="INSTANCE...")]
Limit = Annotated[int, typer.Option("--limit", "-n", help="At most so many; 0 is all.", min=0)]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again until Ctrl-C.")]
Interval = Annotated[str, typer.Option(help="With --watch: how often.", metavar="DURATION")]
WaitTimeout = Annotated[
    str | None,
    typer.Option(help="Wait no longer than this; exit code 8.", metavar="DURATION", show_default=False),
]


def seconds_of(text: str | None, option: str) -> float | None:
    """Seconds of a duration such as ``30s``. Raises Failure (usage) that names the option."""
    if text is None:
        return None
    from ...config.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise usage(f"{option}: {error}") from None
