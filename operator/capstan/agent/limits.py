"""What an admin allows a setter: ranges of clock and board watts, who may connect, how often a GPU is written.

Who calls it: `setter`. The peer is trusted to be alive, not to be right.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from capstan.agent.ports import Failed

WATCHDOG_S = 3.0  # DESIGN 2: 3 s of silence, then the safe setting; 4 s lease + 3 s here stay under P1's 10 s
LOOSEN_S = 1.0  # between two loosenings of a GPU; tightening waits only where it would be a flood
WRITES = 4  # of one kind on one GPU within a second: an agent that turns once a second needs one, a bell one more


@dataclass(frozen=True, slots=True)
class Limits:
    """The admin's range, in megahertz and board watts; the uids that may connect (root always may); the watchdog."""

    min_clock_mhz: float = 1.0
    max_clock_mhz: float = math.inf
    min_limit_w: float = 1.0
    max_limit_w: float = math.inf
    peer_uids: frozenset[int] = frozenset()
    watchdog_s: float = WATCHDOG_S

    def __post_init__(self) -> None:
        if not 0 < self.min_clock_mhz <= self.max_clock_mhz:
            raise ValueError("--min-clock-mhz must lie above 0 and not above --max-clock-mhz")
        if not 0 < self.min_limit_w <= self.max_limit_w:
            raise ValueError("--min-limit-watts must lie above 0 and not above --max-limit-watts")

    def clock_mhz(self, asked_mhz: float | None) -> float | None:
        """Return a clock cap within the range; no cap is the highest allowed one, where there is one."""
        if asked_mhz is None:
            return None if math.isinf(self.max_clock_mhz) else self.max_clock_mhz
        return min(max(asked_mhz, self.min_clock_mhz), self.max_clock_mhz)

    def limit_w(self, asked_w: float | None) -> float | None:
        """Return a board limit within the range; None stays the board's default, which `max_limit_w` bounds below."""
        return None if asked_w is None else min(max(asked_w, self.min_limit_w), self.max_limit_w)


@dataclass(slots=True)
class Rate:
    """When each GPU was written and loosened."""

    written_s: dict[str, deque[float]] = field(default_factory=dict)
    loosened_s: dict[str, float] = field(default_factory=dict)

    def take(self, uuid: str, now_s: float, *, loosens: bool) -> None:
        """Count one write. Raises Failed where it comes too soon after others."""
        if loosens and now_s - self.loosened_s.get(uuid, -math.inf) < LOOSEN_S:
            raise Failed("RateLimited", "a GPU is loosened at most once a second; try again")
        lately = self.written_s.setdefault(uuid, deque(maxlen=WRITES))
        if len(lately) == WRITES and now_s - lately[0] < 1.0:
            raise Failed("RateLimited", f"a GPU is written at most {WRITES} times a second; try again")
        lately.append(now_s)
        if loosens:
            self.loosened_s[uuid] = now_s
