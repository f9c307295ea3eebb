"""What stops a daemon from starting, in words for the person who started it."""

from __future__ import annotations


class StartError(Exception):
    """The daemon can't start; the message says why and what to do."""
