"""Whether a domain's budget held: the draw against the budget that was valid at that moment (DESIGN 7.1, promise P1).

Who calls it: `scores.score`. Must not know: requests, how the watts were made.

A sample holds until the next one. Watts that are NaN, and gaps between samples that could hide an excursion, count as
above the budget: what cannot be shown to be good is bad.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from capstan.powercap.domains import Level
from capstan.replay.runs import DomainSeries, Floats, Run
from capstan.replay.scores.slowdown import ByPriority

MAX_EXCURSION_S = 10.0
"""Promise P1: the draw is back below the budget within 10 s of crossing it."""

MAX_GAP_S = 5.0
"""Samples come every second; half of P1's time without one could hide what the other half only just allows."""


@dataclass(frozen=True, slots=True)
class DomainScore:
    """One power domain of one run.

    Attributes:
        peak_w: Highest known draw; None where no draw is known.
        budget_w: The lowest budget of the run.
        longest_excursion_s: Longest unbroken time above the then valid budget. A sample holds until the next one.
        overbudget_j: Joules above the budget, over the whole run; unknown draws add nothing here.
        unknown_s: Time without a usable draw: it counts as above in `longest_excursion_s`.
        servers: How many it has; None: nobody counted.
        state_ratio: Share of the time at each level that it was at.
        brakes: How often the brake was pulled.
        slowdown: What its caps cost each priority, wherever its requests ran; None: nobody asked.
    """

    domain: str
    peak_w: float | None
    budget_w: float
    longest_excursion_s: float
    overbudget_j: float
    unknown_s: float
    servers: int | None = None
    state_ratio: tuple[tuple[str, float], ...] = ()
    brakes: int = 0
    slowdown: ByPriority | None = None

    @property
    def held(self) -> bool:
        """Whether promise P1 held: never above for more than 10 s."""
        return self.longest_excursion_s <= MAX_EXCURSION_S

    @property
    def fault(self) -> str:
        """What to say where it did not hold."""
        unknown = f", {self.unknown_s:.0f} s without a usable draw counted in" if self.unknown_s else ""
        return (
            f"{self.domain}: above the budget for {self.longest_excursion_s:.1f} s in a row "
            f"(at most {MAX_EXCURSION_S:.0f} s){unknown}"
        )


def of(run: Run, slowdown: ByPriority | None = None) -> tuple[DomainScore, ...]:
    """Score every domain of the run, in order of name.

    Args:
        run: It has a column of watts per domain.
        slowdown: What the caps of all of them cost, where that was asked for.

    Raises:
        ValueError: A domain has no sample or stands there twice, or its samples are not in order of time.
    """
    names = [series.domain for series in run.domains]
    if len(set(names)) < len(names):
        raise ValueError(f"a domain has two series; got {', '.join(names)}")
    ordered = sorted(run.domains, key=lambda s: s.domain)
    each = (_domain_score(series, run.duration_s) for series in ordered)
    return tuple(dataclasses.replace(one, slowdown=slowdown) for one in each)


def _domain_score(series: DomainSeries, duration_s: float) -> DomainScore:
    if not len(series.t_s):
        raise ValueError(f"domain {series.domain} has no sample")
    length_s, draw_w, budget_w = _stretches(series, duration_s)
    known = np.isfinite(draw_w)
    with np.errstate(invalid="ignore"):
        within = draw_w <= budget_w
        above_w = np.maximum(draw_w - budget_w, 0.0)
    return DomainScore(
        domain=series.domain,
        peak_w=float(draw_w[known].max()) if known.any() else None,
        budget_w=float(budget_w.min()),
        longest_excursion_s=_longest_s(length_s, ~within),
        overbudget_j=float((length_s[known] * above_w[known]).sum()),
        unknown_s=float(length_s[~known].sum()),
        servers=series.servers,
        state_ratio=_state_ratio(series),
        brakes=_brakes(series),
    )


def _state_ratio(series: DomainSeries) -> tuple[tuple[str, float], ...]:
    """Return the share of the time at each level; a sample's level is that of the time since the sample before."""
    spans_s = np.diff(series.t_s, prepend=0.0)
    total_s = float(spans_s.sum())
    if total_s <= 0:
        return ()
    levels = [str(level) for level in Level if (series.level == level).any()]
    return tuple((level, float(spans_s[series.level == level].sum()) / total_s) for level in levels)


def _brakes(series: DomainSeries) -> int:
    """Return how often Brake was entered."""
    braking = series.level == Level.BRAKE
    return int(np.count_nonzero(braking & ~np.concatenate(([False], braking[:-1]))))


def _stretches(series: DomainSeries, duration_s: float) -> tuple[Floats, Floats, Floats]:
    """Return (seconds, draw_w, budget_w) from the start to the run's end, in order of time.

    A sample counts for `MAX_GAP_S` at most; what is left until the next one has an unknown draw. So has the time
    before the first sample where it came later than that.
    """
    t_s = series.t_s
    ends_s = np.append(t_s[1:], max(duration_s, t_s[-1]))
    if not np.all(ends_s >= t_s):
        at_s = t_s[int(np.argmin(ends_s >= t_s))]
        raise ValueError(f"samples of domain {series.domain} run backwards at {at_s:g} s")
    length_s = np.column_stack((np.minimum(ends_s - t_s, MAX_GAP_S), np.maximum(ends_s - t_s - MAX_GAP_S, 0.0)))
    draw_w = np.column_stack((series.draw_w, np.full(len(t_s), np.nan)))
    before_s = t_s[0] if t_s[0] > MAX_GAP_S else 0.0
    lengths = np.concatenate(([before_s], length_s.ravel()))
    draws = np.concatenate(([np.nan], draw_w.ravel()))
    budgets = np.concatenate((series.budget_w[:1], np.repeat(series.budget_w, 2)))
    lasting = lengths > 0
    lasting[-2] = True  # a sample at the very end lasts no time, and its watts count for the peak
    return lengths[lasting], draws[lasting], budgets[lasting]


def _longest_s(length_s: Floats, over: np.typing.NDArray[np.bool_]) -> float:
    """Return the length of the longest unbroken stretch."""
    if not over.any():
        return 0.0
    starts = np.flatnonzero(over & ~np.concatenate(([False], over[:-1])))
    return float(np.add.reduceat(np.where(over, length_s, 0.0), starts).max())
