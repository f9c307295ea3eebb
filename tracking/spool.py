"""Files on their way to the server: copied in whole, named by their content, removed once the server has them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import tempfile
from typing import BinaryIO, Callable, Tuple

CHUNK_BYTES = 1024 * 1024


class _Hashing:
    """A file that is written and hashed at once; `tarfile` can write to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def add(folder: str, path: str) -> Tuple[str, int]:
    """Copy a file, or a folder as one tar, into the spool; returns (sha256 hex, bytes). Durable when it returns."""
    if os.path.isdir(path):
        return _add(folder, lambda out: _tar(path, out))
    return _add(folder, lambda out: _copy(path, out))


def add_bytes(folder: str, data: bytes) -> Tuple[str, int]:
    """Put bytes into the spool; returns (sha256 hex, bytes)."""
    return _add(folder, lambda out: out.write(data))


def path_of(folder: str, digest: str) -> str:
    return os.path.join(folder, digest)


def remove(folder: str, digest: str) -> None:
    """Forget a file; that it is gone already is as well."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path_of(folder, digest))


def digest_of(path: str) -> str:
    """sha256 hex of a file's bytes."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def unpack(archive: str, target: str) -> None:
    """Unpack a tar made by `add` into the new folder `target`; refuses members that would leave it."""
    root = os.path.realpath(target)
    os.makedirs(target, exist_ok=True)
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            if not (member.isfile() or member.isdir()) or not _inside(root, member.name):
                raise tarfile.TarError(f"unexpected member {member.name!r}")
            tar.extract(member, root, set_attrs=False)


def _inside(root: str, name: str) -> bool:
    full = os.path.realpath(os.path.join(root, name))
    return full == root or full.startswith(root + os.sep)


def _add(folder: str, fill: Callable[[_Hashing], object]) -> Tuple[str, int]:
    os.makedirs(folder, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".adding-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            out = _Hashing(file)
            fill(out)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path_of(folder, out.digest))
    except BaseException:
        os.unlink(name)
        raise
    return out.digest, out.size


def _copy(path: str, out: _Hashing) -> None:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            out.write(chunk)


def _tar(path: str, out: _Hashing) -> None:
    """Names sorted and times left out, so that the same content has the same digest."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for base, folders, files in os.walk(path):
            folders.sort()
            for name in sorted([*folders, *files]):
                full = os.path.join(base, name)
                if os.path.islink(full) and os.path.isdir(full):
                    continue
                member = tar.gettarinfo(os.path.realpath(full), os.path.relpath(full, path))
                member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
                if member.isfile():
                    with open(full, "rb") as file:
                        tar.addfile(member, file)
                elif member.isdir():
                    tar.addfile(member)
