"""The record over HTTP: what agents and the SDK write, and what people read back.

`router` needs `app.state.database`, `app.state.blobs` and `app.state.clock`, and `problems.install(app)`.
"""

from __future__ import annotations

from fastapi import APIRouter

from . import blobs, files, ingest, logs, reads

router = APIRouter()
for part in (ingest, files, blobs, reads, logs):
    router.include_router(part.router)

__all__ = ["router"]
