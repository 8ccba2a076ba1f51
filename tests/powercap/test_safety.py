"""The safe setting: found from the budget with one node lost, and refused where there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.powercap import readings
from capstan.powercap.domains import SafeSetting
from capstan.powercap.safety import admit, lost_node_w, safe_sum_w
from support import power

RACK = power.domain(budget_w=36_000, non_gpu_typical_w=2800, non_gpu_worst_w=4600, supply_efficiency_ratio=0.94)
H100S = readings.of([power.sample(node, 3000, worst_case_w=5600) for node in power.NODES])


def test_the_safe_sum_by_hand() -> None:
    """A node at 400 W: (8 x 400 x 1.05 + 4600) / 0.94 = 8468.1 W; four: 33872.3 W."""
    assert safe_sum_w(RACK, H100S, SafeSetting(1560, 400)) == pytest.approx(33_872.3, abs=0.1)


def test_one_lost_node_counts_at_its_worst_case() -> None:
    """Worst: (5600 x 1.05 + 4600) / 0.94 = 11148.9; with three at 400 W: 11148.9 + 3 x 8468.1 = 36553.2 W."""
    assert lost_node_w(RACK, H100S, SafeSetting(1560, 400)) == pytest.approx(36_553.2, abs=0.1)


def test_the_derived_limit_is_the_highest_that_fits_with_one_node_lost() -> None:
    """36000 - 11148.9 = 24851.1 / 3 = 8283.7 x 0.94 = 7786.7 - 4600 = 3186.7 / 8.4 = 379.4 -> 379 W."""
    found = admit(RACK, H100S)
    assert found.safe == SafeSetting(1560, 379)
    assert found.fits


def test_a_budget_that_no_limit_fits_is_not_admitted_and_the_arithmetic_is_there() -> None:
    found = admit(power.domain(budget_w=9_000, nodes=power.NODES, non_gpu_worst_w=2500), H100S)
    assert not found.fits
    assert found.safe.power_limit_w == 100
    assert found.lost_node_w > found.budget_w


def test_a_rack_that_is_not_oversubscribed_keeps_its_full_limit() -> None:
    assert admit(power.domain(budget_w=100_000), H100S).safe.power_limit_w == 700


def test_a_safe_setting_of_its_own_is_kept() -> None:
    given_one = SafeSetting(1200, 300)
    assert admit(power.domain(budget_w=36_000, safe=given_one), H100S).safe is given_one


@given(
    budget_w=st.floats(5_000, 80_000),
    worst_w=st.lists(st.floats(1_000, 12_000), min_size=1, max_size=6),
)
def test_an_admitted_domain_fits_with_any_one_node_lost(budget_w: float, worst_w: list[float]) -> None:
    nodes = tuple(f"n{i}" for i in range(len(worst_w)))
    rack = power.domain(budget_w=budget_w, nodes=nodes, non_gpu_worst_w=500)
    samples = readings.of([power.sample(n, power.GONE, worst_case_w=w) for n, w in zip(nodes, worst_w, strict=True)])
    found = admit(rack, samples)
    per_node = [min(max(found.safe.power_limit_w, 100), w / 8) * 8 * 1.05 + 500 for w in worst_w]
    for lost, w in enumerate(worst_w):
        total_w = w * 1.05 + 500 + sum(safe for i, safe in enumerate(per_node) if i != lost)
        assert not found.fits or total_w <= budget_w + 1e-6
