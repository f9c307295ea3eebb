"""`identity:` of a cloud's section - whether a machine must prove at its join that it is the one we launched."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .fields import Settings

IdentityRule = Literal["required", "if_present", "off"]


class WithIdentity(Settings):
    """`identity`: the cloud's signed identity is ``required``, checked ``if_present``, or ``off``.

    `identity_trust` is a file with what it is checked against instead of what comes with the release: certificates of
    AWS or of Azure's authorities (PEM), or Google's keys (a JSON Web Key Set).
    """

    identity: IdentityRule | None = None
    identity_trust: Path | None = None

    @property
    def identity_rule(self) -> IdentityRule:
        """What is in force: a cloud whose machines can always prove themselves must have them do so."""
        return self.identity or ("required" if self.can_always_prove() else "if_present")

    def can_always_prove(self) -> bool:
        """Whether every machine that this section launches has a signed identity which we can check."""
        return True
