"""The catalogue of failures as invariants, one function each, numbered as there.

They share no code with what they check: they read the server's tables by plain SQL and hold them against the
ledger of what really happened.
"""

from .books import Books
from .runner import CATALOGUE, Invariants, Violation

__all__ = ["CATALOGUE", "Books", "Invariants", "Violation"]
