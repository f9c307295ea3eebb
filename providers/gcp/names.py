"""Names, request ids and refs: made of the launch token and the server's id alone; a restart makes the same."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import NamedTuple

from ..base import InstanceNotFound, LaunchRequest

MAX_NAME_CHARACTERS = 63
HASH_CHARACTERS = 16
FINGERPRINT_BYTES = 6
"""How much of a deletion's request id says whose it is; the rest tells one attempt from another."""
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "gcp.hostler")
_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_REF = re.compile(rf"(?P<zone>[a-z]+(?:-[a-z]+)*\d+-[a-z0-9]+)/(?P<name>{_NAME.pattern})")


class Ref(NamedTuple):
    """An instance by its zone and name; as text ``ZONE/NAME``."""

    zone: str
    name: str

    def __str__(self) -> str:
        return f"{self.zone}/{self.name}"


def parse_ref(text: str) -> Ref:
    """Raises InstanceNotFound when `text` is no ref."""
    found = _REF.fullmatch(text)
    if found is None:
        raise InstanceNotFound(f"{text!r} is not ZONE/NAME of an instance")
    return Ref(found["zone"], found["name"])


def ref_of_link(link: str) -> Ref | None:
    """The instance that a URL (``.../zones/Z/instances/N``) points to, None if it points to something else."""
    found = re.search(r"/zones/([^/]+)/instances/([^/]+)$", link)
    return Ref(*found.groups()) if found else None


def last(link: str) -> str:
    """The last part of a resource's URL: its name."""
    return link.rpartition("/")[2]


def region_of(zone: str) -> str:
    """``us-central1`` for ``us-central1-a``."""
    return zone.rpartition("-")[0]


def instance_names(request: LaunchRequest) -> tuple[str, ...]:
    """One name an instance. Compute Engine keeps names unique in a zone: the second line of defence after the id."""
    if request.count == 1:
        return (_fitting(request.token),)
    return tuple(_fitting(f"{request.token}-{number}") for number in range(1, request.count + 1))


def insert_id(server: str, ref: Ref) -> str:
    """The request id of an instance's creation."""
    return str(uuid.uuid5(_NAMESPACE, f"insert/{server}/{ref}"))


def delete_id(server: str, ref: Ref, nonce: int) -> str:
    """A request id for one attempt at a deletion, by which `is_our_delete` knows it again.

    Not always the same: a deletion that failed would be answered with its old failure.
    """
    rest = nonce.to_bytes(16, "big")[FINGERPRINT_BYTES:]
    return str(uuid.UUID(bytes=_fingerprint(server, ref) + rest, version=4))


def is_our_delete(request_id: str, server: str, ref: Ref) -> bool:
    """Whether `delete_id` of this server and instance made `request_id`."""
    try:
        return uuid.UUID(request_id).bytes[:FINGERPRINT_BYTES] == _fingerprint(server, ref)
    except ValueError:
        return False


def _fingerprint(server: str, ref: Ref) -> bytes:
    return hashlib.sha256(f"delete/{server}/{ref}".encode()).digest()[:FINGERPRINT_BYTES]


def _fitting(name: str) -> str:
    if _NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:HASH_CHARACTERS]
    head = re.sub(r"[^a-z0-9-]", "-", name.lower())[: MAX_NAME_CHARACTERS - HASH_CHARACTERS - 3]
    return f"h-{head}-{digest}" if not head[:1].isalpha() else f"{head}-{digest}"
