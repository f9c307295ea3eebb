"""The agent as one file: a zipapp that any Python 3.9 runs, with bytes that depend on nothing but the source."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from .. import __version__

ROOT = Path(__file__).resolve().parents[1]
INTERPRETER = b"#!/usr/bin/env python3\n"
MAIN = b"import sys\n\nfrom hostler.agent_bootstrap.agent.__main__ import main\n\nsys.exit(main())\n"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can tell."""
UNIX, FILE_MODE = 3, 0o100644
SHARED = ("__init__.py", "challenge.py", "wire.py")
PARTS = ("__init__.py", "tracking/*.py", *(f"agent_bootstrap/{name}" for name in SHARED))
AGENT = "agent_bootstrap/agent/**/*.py"


@lru_cache(maxsize=1)
def build_zipapp() -> bytes:
    """The zipapp's bytes: the agent, and the SDK for the tasks it runs. Read once; a daemon serves one version."""
    buffer = io.BytesIO(INTERPRETER)
    buffer.seek(0, io.SEEK_END)
    # Stored, not deflated: the same bytes whatever zlib made them, and faster to import.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(_members()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = UNIX, FILE_MODE << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def sha256() -> str:
    """Hex digest of `build_zipapp()`: what user-data pins and the agent's machine checks."""
    return hashlib.sha256(build_zipapp()).hexdigest()


def version() -> str:
    return __version__


def _members() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", MAIN
    for pattern in (*PARTS, AGENT):
        for path in ROOT.glob(pattern):
            yield f"hostler/{path.relative_to(ROOT).as_posix()}", path.read_bytes()
