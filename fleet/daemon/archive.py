"""A backup as one file: what it is, a copy of the database, the server's key, and on request the blobs.

It holds secrets (the key, hashes of tokens): mode 0600. A plain tar, as logs are compressed already and blobs often.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ...tracking.server.database.copies import CopyFailed
from .private_file import PRIVATE_FILE_MODE

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
DATABASE: Final = "database"
KEY: Final = "server.key"
BLOBS: Final = "blobs/"
_BLOB: Final = re.compile(r"blobs/([0-9a-f]{2})/(\1[0-9a-f]{62})")
MANIFEST_BYTES_MAX: Final = 64 * 1024
PIECE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """`engine` is sqlite or postgresql; `created_at` epoch seconds."""

    engine: str
    revision: str
    created_at: float
    version: str
    server_id: str
    blobs: bool
    format: int = FORMAT


@contextmanager
def writing(target: Path) -> Iterator[tarfile.TarFile]:
    """An archive that is at `target` when the block ends well, whole and synced; otherwise nothing is left."""
    part = target.with_name(f".{target.name}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE_MODE)
        with os.fdopen(handle, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def add_manifest(archive: tarfile.TarFile, manifest: Manifest) -> None:
    add_bytes(archive, MANIFEST, json.dumps(asdict(manifest), indent=2).encode() + b"\n")


def add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), PRIVATE_FILE_MODE
    archive.addfile(entry, io.BytesIO(data))


def add_blobs(archive: tarfile.TarFile, folder: Path) -> int:
    """Every blob there is; returns how many. Those of the database's copy were there before it."""
    number = 0
    for path in sorted(folder.glob("??/*")):
        name = f"{BLOBS}{path.parent.name}/{path.name}"
        if _BLOB.fullmatch(name) and path.is_file():
            archive.add(path, name, recursive=False)
            number += 1
    return number


@contextmanager
def reading(source: Path) -> Iterator[tuple[Manifest, tarfile.TarFile]]:
    """Raises CopyFailed for a file that is no backup of ours, or of a later kind."""
    try:
        with tarfile.open(source, "r:") as archive:
            yield _manifest(archive), archive
    except (tarfile.TarError, OSError) as error:
        raise CopyFailed(f"{source} can't be read as a backup: {error}") from error


def extract(archive: tarfile.TarFile, name: str, target: Path) -> None:
    """Write one entry to a file of mode 0600. Raises CopyFailed where the archive lacks it."""
    member = _member(archive, name)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE_MODE), "wb") as file:
        for piece in _pieces(archive, member):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def extract_blobs(archive: tarfile.TarFile, folder: Path) -> int:
    """Put every blob in its place, each checked against its own name; returns how many. Raises CopyFailed."""
    number = 0
    for member in archive:
        found = _BLOB.fullmatch(member.name)
        if found is None or not member.isfile():
            continue
        final = folder / found[1] / found[2]
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(f".{final.name}.part")
        digest = hashlib.sha256()
        with part.open("wb") as file:
            for piece in _pieces(archive, member):
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != found[2]:
            part.unlink()
            raise CopyFailed(f"the backup is damaged: blob {found[2]} is not what its name says")
        part.replace(final)
        number += 1
    return number


def _manifest(archive: tarfile.TarFile) -> Manifest:
    try:
        member = _member(archive, MANIFEST)
        if member.size > MANIFEST_BYTES_MAX:
            raise CopyFailed("it is no backup of hostler: its manifest is too long")
        values = json.loads(b"".join(_pieces(archive, member)))
        found = int(values.get("format", 0))
        if found != FORMAT:
            raise CopyFailed(f"this backup has format {found}, this program reads {FORMAT}: upgrade hostler")
        return Manifest(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise CopyFailed(f"it is no backup of hostler: {error}") from error


def _member(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    try:
        member = archive.getmember(name)
    except KeyError:
        raise CopyFailed(f"it is no whole backup of hostler: it has no {name}") from None
    if not member.isfile():
        raise CopyFailed(f"it is no backup of hostler: {name} is no file in it")
    return member


def _pieces(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    file = archive.extractfile(member)
    assert file is not None
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece
