"""Records of decisions as the live loop writes them, for the tests of the writer and of those who read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capstan.serving import recorder
from support.serving import Stage, chat


async def recorded(path: Path, ticks: int, *, stage: Stage | None = None, **journal: Any) -> recorder.Journal:
    """Run a stage whose load rises and falls, and record every cycle into `path`."""
    at = stage or Stage()
    if stage is None:
        at.apply(chat())
    writing = recorder.Journal(path, **{"writer": "one", **journal})
    for i in range(ticks):
        at.telemetry.rps = 12.0 if i % 40 < 20 else 0.5
        await at.tick()
        writing.write(at.recorder.cycles[-1])
    return writing


def lines(path: Path) -> list[str]:
    """Return the lines of a file, with their ends."""
    return path.read_text().splitlines(keepends=True)


def cycles(path: Path) -> list[int]:
    """Return the indices of the lines that hold a cycle."""
    return [i for i, line in enumerate(lines(path)) if line.startswith('{"cycle"')]


def forge(path: Path, nth: int, change: Callable[[dict[str, Any]], object]) -> int:
    """Change the nth cycle of a record and return the number of its line, from 1."""
    found, at = lines(path), cycles(path)[nth]
    line = json.loads(found[at])
    change(line)
    found[at] = json.dumps(line) + "\n"
    path.write_text("".join(found))
    return at + 1
