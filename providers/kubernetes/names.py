"""What things of ours are called in a cluster: pods, refs, and the labels and annotations that carry our tags.

Annotations hold the truth, since they take any text. Labels are for selecting: at most 63 characters of a small
alphabet, so a value that doesn't fit is replaced by its digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from ..base import TAG_SERVER, InvalidConfig, LaunchRequest

PREFIX = "hostler.dev/"
TAGS = f"{PREFIX}tags"
"""Annotation: all tags as a JSON object, byte for byte what the launch asked for."""
SERVER = f"{PREFIX}server"
SIZE = f"{PREFIX}size"
MARKET = f"{PREFIX}market"
ZONE = f"{PREFIX}zone"
"""Annotation: the offer's zone, empty where the scheduler may choose."""
ENDED = f"{PREFIX}ended"
"""Label of the record of an instance whose pod is gone."""
MAX_LABEL_CHARACTERS = 63
_OUR_TAGS = "hostler:"
_TOKEN = re.compile(r"[a-z][a-z0-9-]{0,63}")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_POD = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
MAX_POD_CHARACTERS = 253


def pods_of(request: LaunchRequest) -> tuple[str, ...]:
    """The pod names of a launch: its token, with a number where it asks for several.

    Raises InvalidConfig when the token can't be part of a name, or nothing is asked for.
    """
    if not _TOKEN.fullmatch(request.token) or request.token.endswith("-"):
        raise InvalidConfig(f"token {request.token!r} can't be the name of a pod")
    if request.count < 1:
        raise InvalidConfig(f"count {request.count}: a launch asks for at least one instance")
    if request.count == 1:
        return (request.token,)
    # A dot can't be in a token, so no other launch's pod has this name.
    return tuple(f"{request.token}.{index}" for index in range(request.count))


def ref_of(namespace: str, pod: str) -> str:
    return f"{namespace}/{pod}"


def pod_of(namespace: str, ref: str) -> str | None:
    """The pod's name in `ref`, None if it isn't a ref into `namespace`."""
    where, slash, pod = ref.partition("/")
    if not slash or where != namespace or len(pod) > MAX_POD_CHARACTERS or not _POD.fullmatch(pod):
        return None
    return pod


def label_value(text: str) -> str:
    """`text`, or its digest where it can't be a label's value."""
    if len(text) <= MAX_LABEL_CHARACTERS and (not text or _LABEL.fullmatch(text)):
        return text
    return f"sha256-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def labels_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Our own tags as labels (``hostler:pool`` as ``hostler.dev/pool``); others are annotations only."""
    return {
        PREFIX + key.removeprefix(_OUR_TAGS): label_value(value)
        for key, value in sorted(tags.items())
        if key.startswith(_OUR_TAGS) and _LABEL.fullmatch(key.removeprefix(_OUR_TAGS))
    }


def write_tags(tags: Mapping[str, str]) -> str:
    return json.dumps(dict(tags), sort_keys=True)


def tags_of(thing: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a pod or a record; none when the annotation is missing or was written by somebody else."""
    written = (thing["metadata"].get("annotations") or {}).get(TAGS)
    try:
        found = json.loads(written or "{}")
    except (ValueError, TypeError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(key): str(value) for key, value in found.items()}


def is_of(thing: Mapping[str, Any], server_id: str) -> bool:
    return tags_of(thing).get(TAG_SERVER) == server_id


def selector(server_id: str) -> str:
    """Label selector of all that is this server's."""
    return f"{SERVER}={label_value(server_id)}"
