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


def shared_data_at_hand() -> Path | None:
    """Return the folder beside this very code, else the one beside the working directory, or None."""
    return shared_data(Path(__file__).resolve().parent) or shared_data(Path.cwd())
