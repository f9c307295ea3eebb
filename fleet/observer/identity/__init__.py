"""The clouds' signed identities: proof at the join that a machine is the instance its launch intent bought."""

from .gate import IdentityGate
from .refusal import Expected, IdentityRefused

__all__ = ["Expected", "IdentityGate", "IdentityRefused"]
