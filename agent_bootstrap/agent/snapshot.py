"""Unpacking the code of a task: an archive somebody uploaded is not trusted to stay in its folder."""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath

UNPACKED_BYTES_MAX = 4 * 1024**3
MEMBERS_MAX = 200_000
BLOCK_BYTES = 1024 * 1024
MODE_KEPT = 0o755


class UnsafeArchive(Exception):
    """The code snapshot would write outside its folder or is too large; submit the task again."""


def unpack(
    archive: Path, target: Path, *, bytes_max: int = UNPACKED_BYTES_MAX, members_max: int = MEMBERS_MAX
) -> None:
    """Unpack a tar.gz into the empty folder `target`. Raises UnsafeArchive, OSError."""
    root = target.resolve()
    left = bytes_max
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for count, member in enumerate(tar):
                if count >= members_max:
                    raise UnsafeArchive(f"more than {members_max} files in the code snapshot")
                left -= _unpack_member(tar, member, root, left)
    except FileExistsError as error:
        raise UnsafeArchive(f"{error.filename!r} is in the code snapshot twice") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UnsafeArchive(f"the code snapshot is damaged: {error}") from error


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path, left: int) -> int:
    """Gives the bytes written."""
    path = root / _inside(member.name)
    if path == root:
        return 0
    if root not in (path.resolve(), *path.resolve().parents):  # through a link that an earlier member made
        raise UnsafeArchive(f"{member.name!r} leads out of its folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        path.mkdir(exist_ok=True)
        return 0
    if member.issym():
        path.symlink_to(_link_inside(member, depth=len(path.parent.resolve().relative_to(root).parts)))
        return 0
    if member.islnk():
        os.link(_linked_file(root, member), path, follow_symlinks=False)
        return 0
    if not member.isfile():
        raise UnsafeArchive(f"{member.name!r} is a device or pipe")
    return _write_file(tar, member, path, left)


def _write_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, left: int) -> int:
    if member.size > left:
        raise UnsafeArchive("the code snapshot is too large when unpacked")
    source = tar.extractfile(member)
    assert source is not None
    mode = 0o600 | (member.mode & MODE_KEPT)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with source, os.fdopen(descriptor, "wb") as file:
        for block in iter(lambda: source.read(BLOCK_BYTES), b""):
            file.write(block)
    return member.size


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise UnsafeArchive(f"{name!r} leads out of its folder")
    return path


def _link_inside(member: tarfile.TarInfo, depth: int) -> str:
    """A link's own text may climb only at its beginning and no higher than the root, `depth` folders up.

    Climbing after a name is refused, because that name may later become a link to somewhere less deep.
    """
    target = PurePosixPath(member.linkname)
    climbs = 0
    while climbs < len(target.parts) and target.parts[climbs] == "..":
        climbs += 1
    if target.is_absolute() or ".." in target.parts[climbs:] or climbs > depth:
        raise UnsafeArchive(f"the link {member.name!r} -> {member.linkname!r} leads out of its folder")
    return member.linkname


def _linked_file(root: Path, member: tarfile.TarInfo) -> Path:
    path = (root / _inside(member.linkname)).resolve()
    if root not in path.parents or not path.is_file():
        raise UnsafeArchive(f"the link {member.name!r} -> {member.linkname!r} leads out of its folder")
    return path
