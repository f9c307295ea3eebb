"""A task's own files: blobs up and down, artifacts, the newest checkpoint, the code it was submitted with."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from sqlalchemy import Connection

from ... import wire
from .. import artifacts, blobs, intake
from ..access.bearer import Caller
from ..fence import Holding, hold
from ..problems import Problem, not_found
from . import body
from .download import blob_file

METADATA_BYTES_MAX = 64 * 1024
KEEP_MAX = 10_000

router = APIRouter(tags=["record"])


class NewArtifact(BaseModel):
    """`wire.ArtifactRecord` as it is sent: `version` and `attempt` are the server's to say and are not read."""

    model_config = ConfigDict(extra="ignore")
    name: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    type: Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=r"^[a-z0-9_.-]+$")] = "file"
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, le=wire.BLOB_BYTES_MAX)] | None = None
    step: Annotated[int, Field(ge=-intake.STEP_MAX, le=intake.STEP_MAX)] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    keep: Annotated[int, Field(ge=1, le=KEEP_MAX)] | None = None

    @field_validator("name")
    @classmethod
    def _is_a_path_below(cls, name: str) -> str:
        # Clients write downloads under their names: none may lead out of the folder they chose.
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts) or not name.isprintable() or "\\" in name:
            raise ValueError(
                "a name is a relative path: no empty part, no '.', '..' or '\\', no control characters"
            )
        return name

    @field_validator("metadata", mode="after")
    @classmethod
    def _is_small(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(metadata)) > METADATA_BYTES_MAX:
            raise ValueError(f"metadata is over {METADATA_BYTES_MAX} bytes; put it into the artifact")
        return metadata


@router.head(wire.BLOB)
async def has_blob(
    request: Request, caller: Caller, task_id: body.TaskId, generation: body.Generation, digest: str
) -> Response:
    """200 where the blob is there, and stays a while for an artifact to be told; 404 otherwise."""
    blobs.check_digest(digest)
    now = request.app.state.clock()

    def touch(conn: Connection) -> int | None:
        hold(conn, caller, "record:write", task_id, generation)
        return blobs.touch(conn, digest, now)

    size = await request.app.state.database.write_async(touch)
    if size is None:
        raise not_found("blob")
    return Response(headers={"X-Hostler-Size": str(size)})


@router.put(wire.BLOB, openapi_extra=body.documented())
async def put_blob(
    request: Request, caller: Caller, task_id: body.TaskId, generation: body.Generation, digest: str
) -> dict[str, Any]:
    """Bytes with their Content-Length, verified against the digest in the path."""
    await _holding(request, caller, task_id, generation, "record:write")
    return await receive(request, digest, wire.BLOB_BYTES_MAX)


@router.get(wire.BLOB)
async def get_blob(
    request: Request, caller: Caller, task_id: body.TaskId, generation: body.Generation, digest: str
) -> FileResponse:
    """The bytes of a blob that an artifact or the code of this workspace refers to."""
    blobs.check_digest(digest)

    def look(conn: Connection) -> bool:
        task = hold(conn, caller, "record:read", task_id, generation)
        return artifacts.refers(conn, task.workspace, digest)

    if not await request.app.state.database.read_async(look):
        raise not_found("blob")
    return blob_file(request, digest)


@router.post(wire.ARTIFACT, openapi_extra=body.documented(NewArtifact))
async def record_artifact(
    request: Request, caller: Caller, task_id: body.TaskId, generation: body.Generation
) -> dict[str, int]:
    """Point a name to a blob. The same record again answers the same version."""
    made = await body.read_json(request, NewArtifact)
    now = request.app.state.clock()

    def record(conn: Connection) -> int:
        task = hold(conn, caller, "record:write", task_id, generation)
        size = blobs.size_of(conn, made.digest)
        if size is not None and made.size is not None and made.size != size:
            raise Problem(
                422,
                "SIZE_MISMATCH",
                "the size is not the blob's",
                f"{made.size} was told, the blob has {size}",
            )
        return artifacts.record(
            conn,
            task,
            name=intake.plain_text(made.name, 512),
            type_=made.type,
            digest=made.digest,
            step=made.step,
            metadata=intake.plain_json(made.metadata),
            keep=made.keep,
            now=now,
        )

    return {"version": await request.app.state.database.write_async(record)}


@router.get(wire.CHECKPOINT)
async def newest_checkpoint(
    request: Request, caller: Caller, task_id: body.TaskId, generation: body.Generation
) -> dict[str, Any]:
    """The newest complete checkpoint of any attempt of this task; 404 before the first."""

    def look(conn: Connection) -> dict[str, Any] | None:
        task = hold(conn, caller, "record:read", task_id, generation)
        return artifacts.newest_checkpoint(conn, task.workspace, task_id)

    found: dict[str, Any] | None = await request.app.state.database.read_async(look)
    if found is None:
        raise not_found("checkpoint")
    return found


@router.get(wire.CODE)
async def code(
    request: Request, caller: Caller, task_id: body.TaskId, generation: body.Generation
) -> FileResponse:
    """The snapshot of the code as tar.gz; 404 where the task was submitted without one."""
    task = await _holding(request, caller, task_id, generation, "record:read")
    if task.code_digest is None:
        raise not_found("code snapshot")
    return blob_file(request, task.code_digest, media_type="application/gzip")


async def receive(request: Request, digest: str, limit_bytes: int) -> dict[str, Any]:
    """Store the body as the blob of `digest`. Raises Problem 411, 413, 422; StorageFull."""
    blobs.check_digest(digest)
    if body.declared_length(request) is None:
        raise Problem(411, "LENGTH_REQUIRED", "a blob comes with its Content-Length")
    stream = body.limited(request, "the blob", limit_bytes)
    size = await request.app.state.blobs.put(digest, stream, limit_bytes=limit_bytes)
    return {"digest": digest, "size": size}


async def _holding(request: Request, caller: Caller, task_id: int, generation: int, action: str) -> Holding:
    held: Holding = await request.app.state.database.read_async(
        lambda conn: hold(conn, caller, action, task_id, generation)
    )
    return held
