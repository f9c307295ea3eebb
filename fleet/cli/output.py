"""What commands print: tables for people, JSON and YAML for programs, all from the same values."""

from __future__ import annotations

import contextvars
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = Mapping[str, Any]
GAP: Final = "  "
STYLES: Final = {
    **dict.fromkeys(("completed", "ready", "ok", "armed"), "green"),
    **dict.fromkeys(("running", "leased", "launching", "booting", "intended"), "cyan"),
    **dict.fromkeys(("stopping", "draining", "terminating", "queued"), "yellow"),
    **dict.fromkeys(("failed", "dead", "lost", "bad", "protected"), "red"),
    **dict.fromkeys(("stopped", "terminated", "draft"), "dim"),
}
"""Colour by a cell's first word, on terminals."""


class Format(str, Enum):
    """What `-o` takes."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"

    @property
    def is_table(self) -> bool:
        return self in (Format.TABLE, Format.WIDE)


chosen: contextvars.ContextVar[Format] = contextvars.ContextVar("chosen", default=Format.TABLE)
"""The format of the command under way; an error is printed in it too."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. `wide` ones are shown with `-o wide` only."""

    title: str
    text: Callable[[Row], str]
    wide: bool = False
    right: bool = False


def rows(items: Sequence[Row], columns: Sequence[Column], form: Format, *, empty: str) -> None:
    """Print a list. An empty one is told on stderr: a table without rows looks like a mistake."""
    if not form.is_table:
        data(items, form)
    elif not items:
        note(empty)
    else:
        print_table(items, columns, form)


def data(value: Any, form: Format) -> None:
    """Print values for programs. `jsonl` puts each item of a list on its line."""
    if form is Format.YAML:
        _print_yaml(value)
    elif form is Format.JSONL:
        for item in value if isinstance(value, list | tuple) else [value]:
            typer.echo(json.dumps(item, ensure_ascii=False, separators=(",", ":")))
    else:
        typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def one(value: Any, form: Format, as_table: Callable[[], None]) -> None:
    """Print one thing: `as_table` for people, `value` for programs."""
    if form.is_table:
        as_table()
    else:
        data(value, form)


def print_table(items: Iterable[Row], columns: Sequence[Column], form: Format) -> None:
    shown, cells = grid(items, columns, form)
    if on_terminal():
        console().print(rich_table(shown, cells))
        return
    for line in plain_lines(shown, cells):
        typer.echo(line)


def grid(
    items: Iterable[Row], columns: Sequence[Column], form: Format
) -> tuple[Sequence[Column], list[list[str]]]:
    """The columns shown in `form`, and each row's cells on one line."""
    shown = [column for column in columns if form is Format.WIDE or not column.wide]
    return shown, [[on_one_line(column.text(item)) for column in shown] for item in items]


def plain_lines(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[str]:
    """Aligned text without colours and without anything cut off: what a pipe gets."""
    table = [[column.title for column in columns], *cells]
    widths = [max(len(row[place]) for row in table) for place in range(len(columns))]
    lines = []
    for row in table:
        padded = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append(GAP.join(padded).rstrip())
    return lines


def rich_table(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> Table:
    """For terminals: coloured states, and long cells cut to fit."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis"
        )
    for row in cells:
        table.add_row(*(Text(text, STYLES.get(text.partition(" ")[0], "")) for text in row))
    return table


def on_one_line(text: str) -> str:
    """Names and messages are other people's text: no line ends, nothing that moves the cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def on_terminal() -> bool:
    return sys.stdout.isatty()


def console() -> Console:
    """stdout; colours only on a terminal."""
    from rich.console import Console

    return Console(highlight=False)


def note(text: str) -> None:
    """A word to the person, on stderr: it never mixes with data."""
    typer.echo(text, err=True)


def _print_yaml(value: Any) -> None:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # keys in the server's order
    yaml.dump(value, sys.stdout)
