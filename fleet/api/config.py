"""The configuration in force: read it, or swap a new one in."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request

from ...config import ConfigError
from ...config.daemon import without_password
from ...tracking.server import events
from ...tracking.server.access import authorise
from ...tracking.server.problems import Problem
from .parts import IdempotencyKey, State, Who

router = APIRouter(prefix="/api/v1/config", tags=["config"])
RESTART_KEYS: Final = ("daemon.state", "daemon.listen", "daemon.data_dir", "daemon.tls", "daemon.url")
"""Settled when the process starts; a change is told but does nothing before the next start."""
_BODY: Final[dict[str, Any]] = {
    "requestBody": {"content": {"text/yaml": {"schema": {"type": "string"}}}, "required": True}
}


@router.get("")
async def read(state: State, who: Who) -> dict[str, Any]:
    """The configuration in force as JSON, with defaults filled in, and where it came from."""
    authorise(who, "fleet:read")
    config = state.config
    shown = config.fleet.to_dict()
    shown["daemon"]["state"] = without_password(config.fleet.daemon.state)
    return {"source": config.source, "loaded_at": config.loaded_at, "config": shown}


@router.post("", openapi_extra=_BODY)
async def apply(
    request: Request, state: State, who: Who, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Put a fleet.yaml (the body, YAML text) in force at once, or refuse it with every problem and keep the old one.

    It stays in force until the daemon restarts or gets SIGHUP: then the file it was started with rules again.
    `differences` has one line a change; those that wait for a restart are under `needs_restart` too.
    """
    authorise(who, "config:write")
    text = _decoded(await request.body())
    try:
        changes = await asyncio.to_thread(state.config.apply, text, f"applied by {who.actor}")
    except ConfigError as error:
        raise invalid(error) from None
    if changes:
        await _tell(state, who, changes)
        state.wake_loop()
    return {"differences": list(changes), "needs_restart": needs_restart(changes)}


async def _tell(state: State, who: Who, changes: Sequence[str]) -> None:
    now = state.clock()
    await state.database.write_async(
        lambda conn: events.emit(
            conn,
            workspace=who.workspace,
            kind="config.applied",
            now=now,
            actor=who.actor,
            message=f"a new configuration with {len(changes)} changes",
            data={"differences": list(changes)},
        )
    )


def needs_restart(changes: Sequence[str]) -> list[str]:
    """Those of `changes` (lines of `hostler.config.differences`) that a running daemon can't follow."""
    return [line for line in changes if line[2:].split(":")[0].startswith(RESTART_KEYS)]


def invalid(error: ConfigError) -> Problem:
    """422 with each problem's place."""
    problems = [dataclasses.asdict(problem) | {"text": str(problem)} for problem in error.problems]
    first = str(error.problems[0]) if error.problems else "it can't be read"
    return Problem(
        422,
        "INVALID_CONFIG",
        "The configuration was refused; the old one stays in force",
        detail=first if len(problems) <= 1 else f"{first} (and {len(problems) - 1} more)",
        hint="mend the places under `problems` and apply it again",
        problems=problems,
    )


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem(
            422,
            "NOT_UTF8",
            "The configuration is not UTF-8 text",
            detail=f"byte {error.start} can't be read",
            hint="save the file as UTF-8 and send its bytes as they are",
        ) from None
