"""Where the public traces and measurements lie, if they lie anywhere.

Who calls it: `replay.load`, tests. Must not know: what is in them.
"""

from __future__ import annotations

from pathlib import Path


def shared_data(start: Path) -> Path | None:
    """Return the folder `shared/data` beside `start` or beside any folder above it, or None."""
    for folder in (start, *start.parents):
        candidate = folder / "shared" / "data"
        if candidate.is_dir():
            return candidate
    return None
