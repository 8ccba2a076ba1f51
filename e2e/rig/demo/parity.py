"""The demo's own record of decisions, decided again at its end by the code behind `capstan replay verify`.

Who calls it: `rigged`, while the operator still writes: a last line that is only half there is no error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from capstan.journal.codec import Unreadable
from capstan.replay import verify

DIFFERING = "decisions_differing"


def figures(path: Path, say: Callable[[str], None]) -> dict[str, float | None]:
    """Say whether every recorded decision comes out the same, and return how many were recorded and how many differ."""
    try:
        verdict = verify.of_file(path)
    except Unreadable as problem:
        say(f"  parity of live and replay: {path.name}: {problem}")
        return {"decisions_recorded": None, DIFFERING: None}
    for line in f"parity of live and replay: {verdict}".splitlines():
        say(f"  {line}")
    return {"decisions_recorded": float(verdict.decisions), DIFFERING: float(verdict.decisions - verdict.equal)}


def holds(measured: dict[str, float]) -> bool:
    """Return whether no recorded decision differs; a run that recorded none (fixed replicas) has none that does."""
    return measured.get(DIFFERING, 0.0) == 0
