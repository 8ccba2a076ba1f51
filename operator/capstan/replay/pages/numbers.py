"""Numbers of pages as programs read them.

Who calls it: whoever writes a report's JSON. Must not know: what a number is of.
"""

from __future__ import annotations

import math


def finite(value: float | None) -> float | None:
    """Return a number that JSON knows, or null."""
    return None if value is None or not math.isfinite(value) else value
