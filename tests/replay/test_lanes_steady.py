"""In the world: a constant load leaves the clocks alone."""

from __future__ import annotations

import pytest

from rig import steadiness
from support import small


@pytest.mark.parametrize("delay_s", [5.0, 15.0], ids=["seen at once", "seen late"])
@pytest.mark.parametrize("by_class", [False, True], ids=["one pool", "class pools"])
def test_a_constant_load_leaves_the_clocks_alone(by_class: bool, delay_s: float) -> None:
    """Small: 17 minutes, 3 rps. What half an hour of more does is what `rig decide steady` prints."""
    load = steadiness.Load(rate_rps=3.0, duration_s=1000.0)
    found = steadiness.play(small.BOTH, load, delay_s=delay_s, by_class=by_class)
    assert found.most <= steadiness.GOAL
    assert found.attainment_ratio >= 0.98


@pytest.mark.parametrize(
    ("times_s", "most"),
    [([0.0], 1), ([0.0, 599.0, 600.0], 2), ([0.0, 10.0, 700.0], 2), ([0.0, 601.0, 1300.0], 1)],
    ids=["one", "the end is out", "two early", "all far apart"],
)
def test_the_busiest_ten_minutes(times_s: list[float], most: int) -> None:
    assert steadiness.busiest(times_s) == most
