"""What a plan makes least: joules, money or carbon, as what one joule and one assigned GPU-second count for.

Who calls it: `optimize.case` for the plan of now; `replay.scores.bill` lays the same series over a run's watts. Must
not know: files, currencies, plans.

A plan that draws P watts on G assigned GPUs spends `per_j P + per_gpu_s G` of its objective each second. With joules
the second term is 0; with carbon it is the embodied share, with money the rent. Beside electricity of cents a rent of
dollars is nearly all of it (facts/dynamollm.md 3.6: 99.7 %), so there the fewest GPUs win, at whatever clock.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from capstan.model.policy import Objective

MOST_GPU_W = 1e6
"""Where joules are free or nearly so, a GPU counts as this many watts: far above any board, so GPUs decide first, and
still few enough digits that watts decide between plans with as many GPUs."""


@dataclass(frozen=True, slots=True)
class Series:
    """A value that changes in steps: `values[i]` from `start_s[i]` on, until the next start.

    Attributes:
        start_s: Seconds on the caller's clock, ascending from 0; earlier than 0 the first value holds.
        values: As many, each finite.
        period_s: After this it begins again, as a day's prices do; None: the last value holds on.
    """

    start_s: tuple[float, ...]
    values: tuple[float, ...]
    period_s: float | None = None

    def __post_init__(self) -> None:
        if not self.start_s or len(self.start_s) != len(self.values) or self.start_s[0] != 0:
            raise ValueError("a series has at least one step, a value for each, and begins at 0")
        if not all(earlier < later < math.inf for earlier, later in pairwise(self.start_s)):
            raise ValueError("the steps of a series ascend")
        if not all(map(math.isfinite, self.values)):
            raise ValueError("the values of a series are finite")
        if self.period_s is not None and not self.start_s[-1] < self.period_s < math.inf:
            raise ValueError("a series begins again after its last step")

    def at(self, t_s: float) -> float:
        """Return the value at a time."""
        return self.values[self._place(t_s)[1]]

    def mean(self, from_s: float, to_s: float) -> float:
        """Return the mean over time between two times; the value at the first where the second is not later.

        Example: 1 until 60 s, then 4: the mean from 30 s to 90 s is (30 x 1 + 30 x 4) / 60 = 2.5.
        """
        if to_s <= from_s:
            return self.at(from_s)
        span_s = to_s - from_s
        if self.period_s is None or span_s < self.period_s:
            return self._total(from_s, to_s) / span_s
        whole_s = span_s // self.period_s * self.period_s  # laps that are all alike, however many there are
        lap_mean = self._total(0.0, self.period_s) / self.period_s
        return (whole_s * lap_mean + self._total(from_s + whole_s, to_s)) / span_s

    def _total(self, from_s: float, to_s: float) -> float:
        return sum((end_s - start_s) * value for start_s, end_s, value in self.steps(from_s, to_s))

    def steps(self, from_s: float, to_s: float) -> Iterator[tuple[float, float, float]]:
        """Yield (start_s, end_s, value) of each step between two times, in order; none where they are not in order."""
        lap, index = self._place(from_s)
        while from_s < to_s:
            end_s = min(self._end_s(lap, index), to_s)
            if end_s > from_s:
                yield from_s, end_s, self.values[index]
                from_s = end_s
            last = index + 1 == len(self.values)
            lap, index = (lap + 1, 0) if last else (lap, index + 1)

    def _place(self, t_s: float) -> tuple[int, int]:
        """Return how often the series has begun again at a time, and the step in force."""
        lap = 0 if self.period_s is None else math.floor(t_s / self.period_s)
        since_s = t_s - lap * (self.period_s or 0.0)
        return lap, max(bisect.bisect_right(self.start_s, since_s) - 1, 0)

    def _end_s(self, lap: int, index: int) -> float:
        """Return until when a step is in force."""
        if index + 1 < len(self.start_s):
            return lap * (self.period_s or 0.0) + self.start_s[index + 1]
        return math.inf if self.period_s is None else (lap + 1) * self.period_s


@dataclass(frozen=True, slots=True)
class Tariffs:
    """What joules and GPUs cost, for whoever plans and whoever adds up. None: nobody said; that is never 0.

    Attributes:
        price: Money per joule of the GPUs' own electricity (a building's overhead is a factor on it).
        rent_per_gpu_s: Money per second of an assigned GPU, in the same currency.
        intensity: Grams of CO2e per joule.
        embodied_g_per_gpu_s: Grams of CO2e of making the server, per second of an assigned GPU of it.
    """

    price: Series | None = None
    rent_per_gpu_s: float | None = None
    intensity: Series | None = None
    embodied_g_per_gpu_s: float | None = None

    def __post_init__(self) -> None:
        for value in (self.rent_per_gpu_s, self.embodied_g_per_gpu_s):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError("a rent and an embodied share are finite and not below 0")
        if self.intensity is not None and min(self.intensity.values) < 0:
            raise ValueError("a carbon intensity is not below 0")

    def serve(self, kind: Objective) -> bool:
        """Return whether plans can be ranked by an objective: money needs a price or a rent, carbon an intensity."""
        match kind:
            case Objective.COST:
                return self.price is not None or self.rent_per_gpu_s is not None
            case Objective.CARBON:
                return self.intensity is not None
            case Objective.JOULES:
                return True


NO_TARIFFS = Tariffs()


@dataclass(frozen=True, slots=True)
class Weights:
    """What a joule and an assigned GPU-second count for, in the unit of one objective; both at least 0, one above."""

    per_j: float = 1.0
    per_gpu_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.per_j < math.inf and 0 <= self.per_gpu_s < math.inf and self.per_j + self.per_gpu_s > 0):
            raise ValueError("weights are finite, not below 0, and not both 0")

    def total(self, energy_j: float, assigned_gpu_s: float) -> float:
        """Return what joules and GPU-seconds come to; of watts and GPUs, what they come to per second."""
        return self.per_j * energy_j + self.per_gpu_s * assigned_gpu_s

    @property
    def gpu_w(self) -> float:
        """Watts that an assigned GPU counts as, beside those that it draws: the same order of plans, in watts.

        Example: 11.06 an hour at 0.08 a kWh is as much as 138 kW; 20 g an hour at 400 g per kWh as 50 W.
        """
        return self.per_gpu_s / self.per_j if self.per_gpu_s < MOST_GPU_W * self.per_j else MOST_GPU_W


JOULES_ALONE = Weights()


def weights(kind: Objective, tariffs: Tariffs, *, now_s: float, horizon_s: float) -> Weights:
    """Return what a plan that stands for a horizon is ranked by: prices and intensities at their mean over it.

    Joules where the tariffs do not say what the objective needs (`Tariffs.serve`), or where both weights would be 0.
    A mean price below 0 counts as 0: nothing is won by burning.
    """
    if kind is Objective.JOULES or not tariffs.serve(kind):
        return JOULES_ALONE
    carbon = kind is Objective.CARBON
    series = tariffs.intensity if carbon else tariffs.price
    per_gpu_s = (tariffs.embodied_g_per_gpu_s if carbon else tariffs.rent_per_gpu_s) or 0.0
    per_j = 0.0 if series is None else max(series.mean(now_s, now_s + horizon_s), 0.0)
    return Weights(per_j, per_gpu_s) if per_j + per_gpu_s > 0 else JOULES_ALONE
