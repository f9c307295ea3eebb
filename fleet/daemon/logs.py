"""Logging of the daemon: structlog, one line an event, JSON where no person is looking."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

QUIET = (
    "alembic",
    "uvicorn",
    "apscheduler",
    "sse_starlette",
    "botocore",
    "urllib3",
    "paramiko",
    "httpx",
    "httpcore",
)
"""Libraries that tell of every call at INFO."""


def set_up(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's records through one formatter to `stream` (stderr)."""
    out = sys.stderr if stream is None else stream
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter(shared, is_terminal=out.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _formatter(
    shared: list[structlog.typing.Processor], *, is_terminal: bool
) -> structlog.stdlib.ProcessorFormatter:
    tail: list[structlog.typing.Processor]
    if is_terminal:
        tail = [structlog.dev.ConsoleRenderer(colors=True)]
    else:
        tail = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, *tail])
