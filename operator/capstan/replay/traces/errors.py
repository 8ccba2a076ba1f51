"""What a trace says when it cannot be used.

Who raises it: everything in `replay.traces` and `replay.synth`. Who catches it: the command line, once,
with exit code 2.
"""

from __future__ import annotations

from pathlib import Path


class TraceError(ValueError):
    """A trace that cannot be used. `row` counts lines from 1, the header included; None: the source as a whole."""

    def __init__(self, path: Path | str, row: int | None, field: str, fix: str) -> None:
        self.path, self.row, self.field, self.fix = path, row, field, fix
        place = f"{path}" if row is None else f"{path}, row {row}"
        super().__init__(f"{place}, {field}: {fix}")
