"""What every provider must do, run against each adapter of ours through its harness."""

from __future__ import annotations

from hostler.providers.testing.behaviours import *  # noqa: F403
