"""Which variant serves a load with the least watts, of those that are good enough.

Who calls it: `replay.variants`. Must not know: how quality was measured, time.

The choice is static and in closed form: one load, one SLO, the steady state of `model.steady`. It never takes a variant
below the quality that is asked for; where none is good enough, or none of those meets the SLO, it takes none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from capstan.model.policy import Bounds
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.variant import Variant
from capstan.model.workload import Workload
from capstan.optimize import sizing

MARGIN_RATIO = 0.9  # of each limit: what is left covers what the closed form does not see (as `sizing.capacity_rps`)
CLOCKS = 12  # looked at from the highest down; between two of them watts differ by a few percent


@dataclass(frozen=True, slots=True)
class Offer:
    """A variant with its physics, one profile per degree."""

    variant: Variant
    profiles: tuple[Profile, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What serves the load: `replicas` of `tp` GPUs at clock ratio `x_ratio`, drawing `draw_w` on all GPUs together."""

    variant: Variant
    tp: int
    replicas: int
    x_ratio: float
    draw_w: float
    request_j: float


def cheapest(
    load: Workload, slo: Slo, bounds: Bounds, offers: Sequence[Offer], *, min_quality_ratio: float, gpus: int
) -> Choice | None:
    """Return the choice with the least watts; None where nothing good enough meets the SLO on these GPUs.

    Args:
        load: What arrives, > 0 requests a second.
        slo: The limits; planned for with a margin.
        bounds: Degrees, replicas and lowest clock that are allowed.
        offers: The variants; of equal watts the better one is taken.
        min_quality_ratio: No variant below it is looked at.
        gpus: GPUs that there are.
    """
    good = [offer for offer in offers if offer.variant.quality_ratio >= min_quality_ratio]
    found = [choice for offer in good for choice in _choices(load, slo, bounds, offer, gpus)]
    return min(found, key=lambda choice: (choice.draw_w, -choice.variant.quality_ratio), default=None)


def _choices(load: Workload, slo: Slo, bounds: Bounds, offer: Offer, gpus: int) -> Iterator[Choice]:
    """Yield what serves the load, over degrees and clocks."""
    for profile in offer.profiles:
        if profile.tp not in bounds.tensor_parallel:
            continue
        most = bounds.most_replicas(profile.tp, gpus)
        for x in _clock_ratios(profile, bounds):
            one_rps = sizing.capacity_rps(profile, load, slo, x=x, margin=MARGIN_RATIO)
            count = max(math.ceil(load.arrival_rps / one_rps), bounds.min_replicas, 1) if one_rps > 0 else most + 1
            if count > most:
                break  # a lower clock carries less
            at = sizing.point(profile, load.scaled(1 / count), slo, x=x)
            if at is not None and sizing.meets(at, slo, margin=MARGIN_RATIO):
                draw_w = at.gpu_w * profile.tp * count
                yield Choice(offer.variant, profile.tp, count, x, draw_w, draw_w / load.arrival_rps)


def _clock_ratios(profile: Profile, bounds: Bounds) -> Iterator[float]:
    """Yield clock ratios on the grid, from full clock down to the lowest that is allowed."""
    clocks = profile.clocks
    lowest_mhz = clocks.min_mhz if bounds.min_clock_mhz is None else max(bounds.min_clock_mhz, clocks.min_mhz)
    lowest_mhz = min(lowest_mhz, clocks.max_mhz)
    seen = set()
    for index in range(CLOCKS):
        ratio = clocks.ratio(clocks.max_mhz - (clocks.max_mhz - lowest_mhz) * index / (CLOCKS - 1))
        if ratio not in seen and ratio * clocks.max_mhz >= lowest_mhz:
            seen.add(ratio)
            yield ratio
