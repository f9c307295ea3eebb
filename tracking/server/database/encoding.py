"""How JSON columns are written, the same on every database: searches in them rely on the form."""

from __future__ import annotations

import json
from typing import Any


def to_json(value: Any) -> str:
    """Compact JSON without escapes beyond those JSON needs."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
