"""The composition root: everything is made here, handed to each other, started and stopped in order."""

from .failures import StartError
from .run import Started, run

__all__ = ["StartError", "Started", "run"]
