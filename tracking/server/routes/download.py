"""Blobs as answers: ranges, an ETag that is the digest, and nothing a browser would run."""

from __future__ import annotations

import logging

from fastapi import Request
from fastapi.responses import FileResponse

from ..problems import Problem

_log = logging.getLogger(__name__)


def blob_file(
    request: Request,
    digest: str,
    *,
    filename: str | None = None,
    media_type: str = "application/octet-stream",
) -> FileResponse:
    """The bytes of a blob whose row is there. Raises Problem 500 `BLOB_LOST` where its file isn't."""
    path = request.app.state.blobs.path(digest)
    if not path.is_file():
        _log.error("blob %s has a row but no file", digest)
        raise Problem(
            500,
            "BLOB_LOST",
            "the blob's file is missing on the server",
            f"blob {digest}",
            "restore the blobs folder from the same backup as the state",
        )
    headers = {
        "ETag": f'"{digest}"',
        "X-Hostler-Sha256": digest,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, immutable, max-age=31536000",
    }
    return FileResponse(path, media_type=media_type, filename=filename, headers=headers)
