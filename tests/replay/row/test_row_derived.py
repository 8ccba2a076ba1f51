"""What `polca-ours` runs with: the setting whose scarcer reserve is the larger, on the weeks before."""

from __future__ import annotations

import dataclasses

import pytest

from capstan.replay.row import derived, generate, play, score, systems
from capstan.replay.row.score import Slowdown
from support import rows

OURS = systems.named(("polca-ours",))[0]


def found(*, brakes: int = 0, peak: float = 0.97, low: float = 0.0, high: float = 0.0) -> derived.Found:
    """A setting as it did: brakes, its peak over the budget, and p50 of both priorities."""
    one = rows.row(seconds=60)
    free = play.play(one, systems.UNCAPPED)
    base = score.of(free, free, rows.SERVICES, one.budget_w, 0)
    slow = (Slowdown(p50, 0.0, 0.0) for p50 in (low, high))
    scored = dataclasses.replace(base, brakes=brakes, peak_ratio=peak, low=next(slow), high=next(slow))
    return derived.Found(OURS, 0.1, scored, 1)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (found(peak=0.999, low=0.049), found(brakes=1, peak=0.95)),
        (found(peak=0.976, low=0.015), found(peak=0.988)),
        (found(peak=0.988, low=0.020), found(peak=0.970, low=0.040)),
        (found(peak=0.970, high=0.002), found(peak=0.970, high=0.003)),
        (found(peak=0.940, low=0.010), found(peak=0.970, low=0.015)),
    ],
    ids=[
        "a brake is the worst", "0.3 of low's SLO rather than 0.6 of the watts", "0.6 of the watts rather than 0.8",
        "high priority's SLO counts, too", "below 97 % no watts are spent",
    ],
)  # fmt: skip
def test_the_scarcer_reserve_decides(better: derived.Found, worse: derived.Found) -> None:
    """Watts: (peak - 0.97) / 0.03. SLOs: low p50 of 5 %, high p50 of 1 %."""
    assert derived.badness(better) < derived.badness(worse)


def test_a_row_is_given_thresholds_and_caps_that_hold_it() -> None:
    """Four busy servers draw more than 17 kW without caps; every setting is tried and the best of them kept."""
    one = dataclasses.replace(rows.row(seconds=6000, budget_w=17_500), score_from_s=generate.WARM_UP_S)
    free = play.play(one, systems.UNCAPPED)
    assert free.row_w.max() > one.budget_w
    chosen = derived.of(one, OURS, free)
    assert chosen.tried == len(derived.LATER_RATIOS) * len(derived.DEEP_RATIOS)
    assert chosen.system.caps.low_deep_mhz in {rows.PROFILE.clocks.snapped_mhz(1410 * x) for x in derived.DEEP_RATIOS}
    again = score.of(play.play(one, chosen.system), free, rows.SERVICES, one.budget_w, generate.WARM_UP_S)
    assert again.brakes == chosen.before.brakes
