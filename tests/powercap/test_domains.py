"""Records of a domain: what they refuse, and how caps and ancestors combine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from capstan.powercap.domains import NO_CAPS, Caps, ClassCaps, Domain, Thresholds, Timers, lineage, tightest
from support import power


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Thresholds(low_ratio=0.8, high_ratio=0.7), "low < high < brake"),
        (lambda: Thresholds(brake_ratio=1.2), "low < high < brake"),
        (lambda: Thresholds(hysteresis_ratio=0.0), "hysteresis"),
        (lambda: Caps(low_deep_mhz=1800), "lowDeep <= lowBase"),
        (lambda: Caps(high_mhz=1500), "lowDeep <= high"),
        (lambda: Caps(brake_mhz=0), "brake"),
        (lambda: Domain("d", budget_w=0), "budget_w"),
        (lambda: Domain("d", budget_w=1, supply_efficiency_ratio=0), "supply_efficiency_ratio"),
        (lambda: Domain("d", budget_w=1, non_gpu_typical_w=2, non_gpu_worst_w=1), "non-GPU"),
    ],
    ids=[
        "low above high", "brake above the budget", "no hysteresis", "deep above base", "high below deep",
        "brake at zero", "no budget", "no efficiency", "typical above worst",
    ],
)  # fmt: skip
def test_a_domain_that_makes_no_sense_is_refused_by_name(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_the_tightest_cap_of_each_kind_wins() -> None:
    assert tightest(ClassCaps(1500, None, 400), ClassCaps(1600, 1700), NO_CAPS) == ClassCaps(1500, 1700, 400)


def test_no_domains_means_no_caps() -> None:
    assert tightest() == NO_CAPS


def test_the_line_of_ancestors_ends_at_a_missing_parent_and_cuts_a_cycle() -> None:
    rack, row = power.domain(name="rack", parent="row"), power.domain(name="row", parent="feed")
    assert [d.name for d in lineage("rack", (row, rack))] == ["rack", "row"]
    loop = power.domain(name="row", parent="rack")
    assert [d.name for d in lineage("rack", (loop, rack))] == ["rack", "row"]


def test_timers_over_a_factor_wait_less_and_measure_as_before() -> None:
    """For the rig's proof: dwells shrink; how long a cap takes to show and how old a sample may be do not."""
    whole, tenth = Timers(), Timers().over(10)
    assert (tenth.dwell_s, tenth.brake_hold_s, tenth.retrip_s, tenth.dwell_max_s) == (3, 3, 60, 60)
    assert (tenth.settle_s, tenth.stale_s, tenth.spread_ratio) == (whole.settle_s, whole.stale_s, whole.spread_ratio)
    assert whole.over(1) == whole
