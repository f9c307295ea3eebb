"""Blobs with a person's token: the command line uploads a snapshot of the code before it submits."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from ... import wire
from .. import blobs
from ..access import authorise
from ..access.bearer import Caller
from ..problems import not_found
from . import body
from .files import receive

BLOB = "/api/v1/blobs/{digest}"

router = APIRouter(tags=["blobs"])


@router.head(BLOB)
async def has_blob(request: Request, caller: Caller, digest: str) -> Response:
    """200 where the blob is there, and stays a while for a submit to refer to it; 404 otherwise."""
    authorise(caller, "blobs:write")
    blobs.check_digest(digest)
    now = request.app.state.clock()
    size = await request.app.state.database.write_async(lambda conn: blobs.touch(conn, digest, now))
    if size is None:
        raise not_found("blob")
    return Response(headers={"X-Hostler-Size": str(size)})


@router.put(BLOB, openapi_extra=body.documented())
async def put_blob(request: Request, caller: Caller, digest: str) -> dict[str, Any]:
    """Bytes with their Content-Length, verified against the digest in the path; at most CODE_BYTES_MAX."""
    authorise(caller, "blobs:write")
    return await receive(request, digest, wire.CODE_BYTES_MAX)
