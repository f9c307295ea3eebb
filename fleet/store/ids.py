"""Ids of instances: the launch token, the cloud's name for it and the value of TAG_INTENT, all in one."""

from __future__ import annotations

import random
import re
from typing import Final

ID_PREFIX: Final = "h-"
ID_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
ID_RANDOM_CHARACTERS: Final = 12
"""60 bits: two instances in a million get the same id with a probability below one in two million."""
_INSTANCE_ID = re.compile(rf"{ID_PREFIX}[{ID_CHARACTERS}]{{{ID_RANDOM_CHARACTERS}}}")


def new_instance_id(rng: random.Random) -> str:
    """`h-` and 12 characters of [a-z2-7]: valid as an EC2 ClientToken, a GCE name and a Kubernetes name."""
    return ID_PREFIX + "".join(rng.choice(ID_CHARACTERS) for _ in range(ID_RANDOM_CHARACTERS))


def is_instance_id(text: str) -> bool:
    """Whether `text` could have come from `new_instance_id`."""
    return _INSTANCE_ID.fullmatch(text) is not None
