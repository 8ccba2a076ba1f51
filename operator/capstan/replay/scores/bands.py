"""How near predictions came: realised over predicted, and bands that past predictions promise for the next ones.

Who calls it: experiments. Must not know: what was predicted. A ratio above 1: more came than was predicted. One that is
infinite (nothing ever came) lies above every finite one, so that it counts in every figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from capstan.replay.scores import measure

BAND_RATIO = 0.9
"""What a band is to hold: issue 5 asks for 90 % bands."""

LEAST_COVERED, MOST_COVERED = 0.85, 0.95
"""And that they cover 85 to 95 %."""


@dataclass(frozen=True, slots=True)
class Band:
    """A range of ratios, both ends included."""

    low_ratio: float
    high_ratio: float

    def __post_init__(self) -> None:
        if not 0 <= self.low_ratio <= self.high_ratio:
            raise ValueError(f"a band rises from 0 at least; got {self.low_ratio} to {self.high_ratio}")

    def covered_ratio(self, ratios: Sequence[float]) -> float | None:
        """Return the share of ratios that lies in the band; None of none."""
        if not ratios:
            return None
        return sum(self.low_ratio <= ratio <= self.high_ratio for ratio in ratios) / len(ratios)


@dataclass(frozen=True, slots=True)
class Spread:
    """Ratios in a few numbers, nearest rank: the median, and the range between 5 and 95 % of them."""

    median_ratio: float
    range: Band
    count: int


def spread(ratios: Sequence[float]) -> Spread | None:
    """Return ratios in a few numbers; None of none."""
    if not ratios:
        return None
    ordered, tail = sorted(ratios), (1 - BAND_RATIO) / 2
    median, low, high = (ordered[measure.rank(len(ordered), at)] for at in (0.5, tail, 1 - tail))
    return Spread(median, Band(low, high), len(ordered))


def band(ratios: Sequence[float]) -> Band | None:
    """Return the band that holds `BAND_RATIO` of the next ratios where they are like these; None of too few.

    Order statistics of n ratios: the next one is as likely to fall into any of the n + 1 gaps between them, so the
    band goes from the floor(0.05 (n + 1))-th to the ceil(0.95 (n + 1))-th. Fewer than 19 have no such places.
    Example: of 19 ratios the band is from the least to the largest: 18 of 20 gaps.

    Source: Wilks 1941 (tolerance limits); Lei et al. 2018 (split conformal prediction).
    """
    tail = (1 - BAND_RATIO) / 2
    places = len(ratios) + 1
    low, high = math.floor(tail * places + 1e-9), math.ceil((1 - tail) * places - 1e-9)
    if low < 1 or high > len(ratios):
        return None
    ordered = sorted(ratios)
    return Band(ordered[low - 1], ordered[high - 1])
