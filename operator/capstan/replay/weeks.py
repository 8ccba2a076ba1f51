"""Weeks of arrivals from a table of rates: counts without requests, and further weeks like the first but not equal.

Who calls it: `replay.foreseen`. Must not know: forecasts. A second week that repeats the first would flatter whoever
remembers; nobody published one, so it is made, by a seed: another level, a slow wander, and bursts.
"""

from __future__ import annotations

import math

import numpy as np

from capstan.replay.runs import Floats, Ints
from capstan.replay.traces.tables import MINUTE_S, Rates

WEEK_MINUTES = 10_080

LEVEL_RATIO = 0.1
"""A further week lies up to this far above or below the first: as far as the five workdays of the conversation week of
2024 lie from their mean."""

WANDER_RATIO = 0.08
WANDER_MINUTES = 360.0
"""Standard deviation and memory of the slow wander: the same slot of two neighbouring workdays of that week differs by
12 % (root mean square), as two wanders of 8 % do, and a departure lasts for hours."""

BURSTS_PER_WEEK = 6
BURST_MINUTES = (10, 60)
BURST_RATIO = (1.5, 2.5)
"""Bursts that no week before knew of: what "spikier" is to mean, chosen, not measured; the published week has none."""


def minutes(rates: Rates) -> Floats:
    """Return the mean rate of each whole minute, per minute; shape `[minute]`, at least one."""
    count = max(round((rates.end_s - float(rates.start_s[0])) / MINUTE_S), 1)
    middles_s = float(rates.start_s[0]) + MINUTE_S * (np.arange(count) + 0.5)
    found: Floats = rates.per_min[np.searchsorted(rates.start_s, middles_s, "right") - 1]
    return found


def noise_ratio(rates: Rates) -> float:
    """Return the standard deviation of minutes about their step, as a share: a uniform as wide as the plot."""
    busy = rates.per_min > 0
    if not busy.any():
        return 0.0
    half = (rates.high_per_min[busy] - rates.low_per_min[busy]) / (2 * rates.per_min[busy])
    return float(np.median(half)) / math.sqrt(3)


def like(first: Floats, weeks: int, *, seed: int) -> Floats:
    """Return `weeks` weeks: the first as it is, each further one like it, at another level, with wander and bursts.

    Args:
        first: Requests per minute of one week, `[minute]`; a shorter one is repeated to a week's length, a longer cut.
        weeks: At least 1.
        seed: Of everything that is drawn.
    """
    chance = np.random.default_rng(seed)
    if weeks == 1:
        return first
    week = np.resize(first, WEEK_MINUTES)
    return np.concatenate([week, *(week * _departure(chance) for _ in range(weeks - 1))])


def counts(per_min: Floats, *, noise: float, window_s: float, seed: int) -> Ints:
    """Return requests per window, Poisson given a rate that varies from minute to minute by `noise` (uniform).

    Shapes `[minute]` to `[window]`; a last window that is not whole is left out.
    """
    chance = np.random.default_rng(seed)
    width = math.sqrt(3) * noise
    drawn = per_min * np.maximum(1 + width * chance.uniform(-1, 1, len(per_min)), 0)
    edges_s = np.arange(0, math.floor(len(per_min) * MINUTE_S / window_s) + 1) * window_s
    due = np.interp(edges_s, MINUTE_S * np.arange(len(per_min) + 1), np.concatenate([[0.0], np.cumsum(drawn)]))
    arrived: Ints = chance.poisson(np.diff(due)).astype(np.int64)
    return arrived


def _departure(chance: np.random.Generator) -> Floats:
    """Return by how much each minute of a week differs from the week it is like, shape `[minute]`."""
    keep = math.exp(-1 / WANDER_MINUTES)
    pushes = chance.normal(0, WANDER_RATIO * math.sqrt(1 - keep**2), WEEK_MINUTES)
    wander = np.empty(WEEK_MINUTES)
    now = 0.0
    for i, push in enumerate(pushes):
        now = wander[i] = keep * now + push
    factor: Floats = (1 + chance.uniform(-LEVEL_RATIO, LEVEL_RATIO)) * np.exp(wander)
    for _ in range(BURSTS_PER_WEEK):
        begin, lasts = int(chance.integers(WEEK_MINUTES)), int(chance.integers(*BURST_MINUTES))
        factor[begin : begin + lasts] *= chance.uniform(*BURST_RATIO)
    return factor
