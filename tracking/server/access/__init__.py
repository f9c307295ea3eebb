"""Who may do what: tokens (kept as hashes), the one authorisation function, and how a request shows who it is."""

from __future__ import annotations

from .bearer import PrincipalCache, principal
from .bootstrap import DEFAULT_WORKSPACE, admin_token_file
from .rules import Forbidden, Principal, authorise

__all__ = [
    "DEFAULT_WORKSPACE",
    "Forbidden",
    "Principal",
    "PrincipalCache",
    "admin_token_file",
    "authorise",
    "principal",
]
