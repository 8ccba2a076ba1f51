"""What is inside before any rate tells of it: requests that run and wait, against those that the load keeps there.

Who calls it: `tune`, with the replicas that serve and the load of now. Must not know: which clock is chosen.

By Little's law more inside at a clock are more that came: running and waiting are of one moment, a rate is of its
window (throttLL'eM plans by the batch that is there, too).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from capstan.model import sample
from capstan.optimize import clock
from capstan.optimize.case import Case

SIGMAS = 5.0
"""What a count must exceed the usual one by to be news, in standard deviations of a constant load: at fixed clocks the
highest of an hour of looks lay at 2 to 5 of them, at 5 where few requests make skewed counts (`ahead_ratio`)."""

STEP_RATIO = 1.05  # more load, to see how many more are inside then
ENOUGH = 5.0  # requests: of fewer, nothing is learnt and nothing concluded
USUAL_RATIOS = (0.5, 2.0)  # what is learnt of the usual count: a profile is not off by more, a first look may be
MOST_AHEAD_RATIO = 2.0  # a count of one moment is believed for no more than a doubling
USUAL_S = 300.0
"""Over how long the usual count is learnt: a profile that is off, is so for longer; a burst is over sooner."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at what is inside.

    Attributes:
        inside_ratio: Requests inside over those that the load keeps there.
        batch: The latter, of all replicas.
        settled: Whether all of them came under the clock in force.
        parts: Whose requests they are, with the load that was counted.
        clock_mhz: The clock that they came under.
        stay_s: How long they stay, by their count and their rate (Little).
    """

    inside_ratio: float
    batch: float
    settled: bool
    parts: tuple[clock.Part, ...]
    clock_mhz: float
    stay_s: float


def look(case: Case, parts: tuple[clock.Part, ...]) -> Look | None:
    """Return what is inside of some replicas, each with its share of the load as counted; None where nobody can tell.

    A count is as old as its telemetry, and whoever was in then had come before: while a change of the clock is younger
    than both, the count is held against the clock before it. Else a rise would answer to its own cause a second time.
    """
    running, waiting = case.seen.running, case.seen.waiting
    if not parts or not (isinstance(running, sample.Fresh) and isinstance(waiting, sample.Fresh)):
        return None
    count = running.value + waiting.value
    full_mhz, memory = case.profiles[0].clocks.max_mhz, case.memory
    standing_mhz = memory.clock_cap_mhz or full_mhz
    before_mhz = standing_mhz if memory.settled_since_s is None else memory.settled_cap_mhz or full_mhz
    for clock_mhz in (min(before_mhz, standing_mhz), standing_mhz):
        usual = _count(case, parts, clock_mhz)
        if usual is None or usual < ENOUGH:
            return None
        arrival_rps = sum(part.load.arrival_rps * part.count for part in parts)
        seen_after_s = running.age_s + usual / arrival_rps
        settled = memory.clock_since_s is None or case.now_s - memory.clock_since_s >= seen_after_s
        if not settled or clock_mhz == standing_mhz:
            return Look(count / usual, usual, settled, parts, clock_mhz, count / arrival_rps)
    return None


def ahead_ratio(case: Case, seen: Look | None) -> float:
    """Return how much more load to plan for than was counted, as a share of it.

    Of N requests that come while one is inside, chance makes 1 / sqrt(N) more or fewer, and a load that is so much
    above keeps E times as much more inside: E is 1 where many serve side by side, and 3 near saturation. Counts of a
    constant load at fixed clocks have 0.8 to 1.0 of that standard deviation.

    Example: 77 at 720 MHz, where 5 % more load keeps 13.4 % more inside: E = 2.58, and 5 x 2.58 / sqrt(77) = 1.47: 191
    are news. At 1,260 MHz, 46 and E = 1.54: 98 are.
    """
    usual_ratio = case.memory.inside_ratio
    if seen is None or usual_ratio is None:
        return 0.0
    more_ratio = seen.inside_ratio / usual_ratio - 1
    chance_ratio = SIGMAS / math.sqrt(max(usual_ratio * seen.batch, 1.0))
    if more_ratio <= chance_ratio or more_ratio <= chance_ratio * _elasticity_ratio(case, seen):
        return 0.0
    return min(more_ratio, MOST_AHEAD_RATIO - 1)


def usual_ratio(case: Case, seen: Look | None) -> float | None:
    """Return the usual ratio with this cycle's: what a profile is off by must not look like a burst for ever."""
    before = case.memory.inside_ratio
    if seen is None or seen.inside_ratio <= 0 or not seen.settled:
        return before
    now_ratio = min(max(seen.inside_ratio, USUAL_RATIOS[0]), USUAL_RATIOS[1])
    before = 1.0 if before is None else before
    return before + (now_ratio - before) * min(case.settings.instance_period_s / USUAL_S, 1.0)


def _elasticity_ratio(case: Case, seen: Look) -> float:
    """Return by how many percent more are inside when a percent more load comes, 1 at least.

    Where a little more load would have no steady state, no excursion is waited out: 1.
    """
    heavier = tuple(clock.Part(part.profile, part.count, part.load.scaled(STEP_RATIO).coarse()) for part in seen.parts)
    more = _count(case, heavier, seen.clock_mhz)
    before_rps, after_rps = (sum(p.load.arrival_rps * p.count for p in parts) for parts in (seen.parts, heavier))
    if more is None:
        return 1.0
    return max(math.log(more / seen.batch) / math.log(after_rps / before_rps), 1.0)


def _count(case: Case, parts: tuple[clock.Part, ...], clock_mhz: float) -> float | None:
    """Return the requests inside in steady state; None where there is none."""
    points = clock.option(parts, case.slo, clock_mhz=clock_mhz, margin=case.margin).points
    if None in points:
        return None
    return sum(point.batch * part.count for point, part in zip(points, parts, strict=True) if point is not None)
