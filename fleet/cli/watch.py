"""The same view again and again: in place on a terminal, one below the other elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from .failures import ExitCode, Failure
from .output import console, note, on_terminal

if TYPE_CHECKING:
    from rich.console import RenderableType


def watch(
    draw: Callable[[], RenderableType], print_plain: Callable[[], None], interval_seconds: float
) -> None:
    """Until Ctrl-C. A daemon that doesn't answer for a while is told, not the end of it. Raises Failure."""
    try:
        if on_terminal():
            _live(draw, interval_seconds)
        else:
            _plain(print_plain, interval_seconds)
    except KeyboardInterrupt:
        return


def _plain(print_plain: Callable[[], None], interval_seconds: float) -> None:
    while True:
        try:
            print_plain()
            typer.echo()
        except Failure as failure:
            _bear(failure)
            note(f"{failure.title}; trying again")
        time.sleep(interval_seconds)


def _live(draw: Callable[[], RenderableType], interval_seconds: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    shown: RenderableType = draw()
    with Live(shown, console=console(), screen=False, auto_refresh=False, transient=False) as live:
        while True:
            time.sleep(interval_seconds)
            try:
                shown = draw()
                live.update(shown, refresh=True)
            except Failure as failure:
                _bear(failure)
                told = Text(f"{time.strftime('%H:%M:%S')} {failure.title}; trying again", style="red")
                live.update(Group(shown, told), refresh=True)


def _bear(failure: Failure) -> None:
    if failure.exit_code is not ExitCode.UNREACHABLE:
        raise failure
