"""The body of a submit: a task as task.yaml says it, and what identifies it."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, select

from ...config import ConfigError, TaskSpec
from ...tracking.server.database.schema import blobs
from ...tracking.server.problems import Problem
from .idempotency import uid_of_key

UID_CHARACTERS_MAX: Final = 64
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TagText = Annotated[str, Field(min_length=1, max_length=128)]


class Submit(BaseModel):
    """`spec` has the keys of task.yaml. The same `uid` again answers the task that is there already."""

    model_config = ConfigDict(extra="forbid")

    spec: dict[str, Any] = Field(description="the keys of task.yaml")
    uid: str | None = Field(
        default=None,
        min_length=1,
        max_length=UID_CHARACTERS_MAX,
        pattern=r"^[A-Za-z0-9._:-]+$",
        description="made by the client; default: derived from the Idempotency-Key, else random",
    )
    code_digest: Digest | None = Field(
        default=None,
        description="sha256 of the code snapshot (tar.gz), sent before to PUT /api/v1/blobs/{digest}",
    )

    def task(self) -> TaskSpec:
        """The validated task. Raises Problem 422 with every mistake."""
        try:
            return TaskSpec.from_dict(self.spec, "spec")
        except ConfigError as error:
            raise invalid_task(error) from None

    def uid_for(self, workspace: str, idempotency_key: str | None) -> str:
        if self.uid is not None:
            return self.uid
        if idempotency_key:
            return uid_of_key(workspace, idempotency_key)
        return secrets.token_hex(16)


class Change(BaseModel):
    """What may be changed of a task at any time; left out = as it is."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=256)
    tags: list[TagText] | None = Field(default=None, max_length=100)


def invalid_task(error: ConfigError) -> Problem:
    """422 with each mistake under `errors`."""
    errors = [
        {"at": ".".join(["spec", *map(str, one.path)]), "message": one.message} for one in error.problems
    ]
    first = str(error.problems[0]) if error.problems else "it can't be read"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(
        422,
        "INVALID_TASK",
        "The task is not valid; nothing was queued",
        detail=first + more,
        hint="mend the places under `errors` and send it again",
        errors=errors,
    )


def require_code(conn: Connection, digest: str | None) -> None:
    """Raises Problem 422 when the code snapshot has not been uploaded."""
    if digest is None or conn.execute(select(blobs.c.digest).where(blobs.c.digest == digest)).first():
        return
    raise Problem(
        422,
        "CODE_MISSING",
        "The code snapshot is not here",
        detail=f"no blob {digest}",
        hint=f"send it first: PUT /api/v1/blobs/{digest}",
    )
