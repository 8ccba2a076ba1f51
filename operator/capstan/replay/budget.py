"""Whether a domain's budget held: the draw against the budget that was valid at that moment (DESIGN 7.1, promise P1).

Who calls it: `replay.score`. Must not know: requests, how the watts were made.

A tick holds until the next one. Watts that are NaN, and gaps between ticks that could hide an excursion, count as
above the budget: what cannot be shown to be good is bad.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from capstan.replay.record import Run

MAX_EXCURSION_S = 10.0
"""Promise P1: the draw is back below the budget within 10 s of crossing it."""

MAX_GAP_S = 5.0
"""Ticks come every second; half of P1's time without one could hide what the other half only just allows."""


@dataclass(frozen=True, slots=True)
class DomainScore:
    """One power domain of one run.

    Attributes:
        peak_w: Highest known draw; None where no draw is known.
        budget_w: The lowest budget of the run.
        longest_over_s: Longest unbroken time above the then valid budget. A tick holds until the next one.
        above_j: Joules above the budget, over the whole run; unknown draws add nothing here.
        unknown_s: Time without a usable draw: it counts as above in `longest_over_s`.
    """

    domain: str
    peak_w: float | None
    budget_w: float
    longest_over_s: float
    above_j: float
    unknown_s: float

    @property
    def held(self) -> bool:
        """Whether promise P1 held: never above for more than 10 s."""
        return self.longest_over_s <= MAX_EXCURSION_S

    @property
    def fault(self) -> str:
        """What to say where it did not hold."""
        unknown = f", {self.unknown_s:.0f} s without a usable draw counted in" if self.unknown_s else ""
        return (
            f"{self.domain}: above the budget for {self.longest_over_s:.1f} s in a row "
            f"(at most {MAX_EXCURSION_S:.0f} s){unknown}"
        )


def of(run: Run) -> tuple[DomainScore, ...]:
    """Score every domain that a tick of the run names, in order of name.

    Raises:
        ValueError: Ticks are not in order of time.
    """
    names = sorted({domain.domain for tick in run.ticks for domain in tick.domains})
    return tuple(_domain_score(run, name) for name in names)


def _domain_score(run: Run, name: str) -> DomainScore:
    stretches = _stretches(run, name)
    known_w = [draw_w for _, draw_w, _ in stretches if math.isfinite(draw_w)]
    longest_s = current_s = 0.0
    for length_s, draw_w, budget_w in stretches:
        current_s = 0.0 if draw_w <= budget_w else current_s + length_s
        longest_s = max(longest_s, current_s)
    return DomainScore(
        domain=name,
        peak_w=max(known_w, default=None),
        budget_w=min(budget_w for _, _, budget_w in stretches),
        longest_over_s=longest_s,
        above_j=sum(s * max(w - b, 0.0) for s, w, b in stretches if math.isfinite(w - b)),
        unknown_s=sum(s for s, w, _ in stretches if not math.isfinite(w)),
    )


def _stretches(run: Run, name: str) -> list[tuple[float, float, float]]:
    """Return (seconds, draw_w, budget_w) for each tick of a domain, up to the next one or the run's end.

    A gap of more than `MAX_GAP_S` is split: the tick holds that long, the rest has an unknown draw.
    """
    seen = [(tick.t_s, d.draw_w, d.budget_w) for tick in run.ticks for d in tick.domains if d.domain == name]
    ends = [t_s for t_s, _, _ in seen[1:]] + [max(run.duration_s, seen[-1][0])]
    stretches: list[tuple[float, float, float]] = []
    if seen[0][0] > MAX_GAP_S:
        stretches.append((seen[0][0], math.nan, seen[0][2]))
    for (start_s, draw_w, budget_w), end_s in zip(seen, ends, strict=True):
        if not end_s >= start_s:
            raise ValueError(f"ticks of domain {name} run backwards at {start_s} s")
        length_s = end_s - start_s
        stretches.append((min(length_s, MAX_GAP_S), draw_w, budget_w))
        if length_s > MAX_GAP_S:
            stretches.append((length_s - MAX_GAP_S, math.nan, budget_w))
    return stretches
