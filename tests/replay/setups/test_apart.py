"""Pairs of pools, prefill and decode apart: inside the bounds, and each the cheapest of its GPUs."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model.policy import Bounds
from capstan.model.workload import Phase
from capstan.optimize import sizing
from capstan.replay.setups import apart
from capstan.replay.setups.demand import Stretch
from capstan.replay.setups.kinds import Engine, Pair, Setup
from capstan.replay.setups.screen import Screen
from support import setups
from support.setups import BUSY, FULL_MHZ, OWN, SLO


def test_pairs_ascend_in_gpus_and_keep_their_limits() -> None:
    found = apart.search(setups.screen())
    assert found
    gpus = [each.pair.gpus for each in found]
    assert gpus == sorted(set(gpus))
    for each in found:
        assert each.stress_ratio <= 1
        assert each.energy_j == each.prefill.energy_j + each.decode.energy_j < math.inf
        assert each.pair.prefill.engine.pp == each.pair.decode.engine.pp == 1


def test_each_number_of_gpus_has_its_cheapest_pair() -> None:
    """All pairs of two engines and a few clocks, one by one, are not cheaper than the pair found for their GPUs."""
    screen = setups.screen(bounds=Bounds(1, 6))
    found = {each.pair.gpus: each.energy_j for each in apart.search(screen)}
    loads = (each.load for each in screen.stretches)
    assert all(load is not None for load in loads)
    for prefills, decodes, tp in itertools.product((2, 3, 4), (1, 2), (4, 8)):
        first, second = Setup(Engine(tp, 1, 256, 1024), prefills, FULL_MHZ), Setup(OWN, decodes, 1500.0)
        pair = Pair(first, second)
        joules = _joules(screen, first, prefill=True) + _joules(screen, second, prefill=False)
        if joules < math.inf and apart.inside(screen, pair):
            assert found[pair.gpus] <= joules


def _joules(screen: Screen, setup: Setup, *, prefill: bool) -> float:
    phase = Phase.PREFILL if prefill else Phase.DECODE
    lane, total, slo = screen.lane(setup.engine), 0.0, SLO.of_phase(phase)
    for index, stretch in enumerate(screen.stretches):
        assert stretch.load is not None
        load = stretch.load.of_phase(phase).scaled(1 / setup.replicas)
        at = sizing.point(lane, load, slo, x=lane.clocks.ratio(setup.clock_mhz))
        if at is None or (index == 0 and sizing.stress_ratio(at, slo) > 1):
            return math.inf
        total += stretch.lasting_s * setup.gpus * at.gpu_w
    return total


@settings(max_examples=10)
@given(most=st.integers(2, 8), gpus=st.integers(8, 32))
def test_bounds_hold_for_both_pools_together(most: int, gpus: int) -> None:
    screen = setups.screen(bounds=Bounds(1, most, max_gpus=gpus))
    for each in apart.search(screen):
        assert each.pair.gpus <= gpus
        assert each.pair.prefill.replicas + each.pair.decode.replicas <= most


def test_nothing_carries_a_flood() -> None:
    assert apart.search(setups.screen(stretches=(Stretch(BUSY.at(5000.0), 60.0),))) == ()


def test_idle_pools_draw_idle_watts() -> None:
    """A minute without a request: 4 + 4 GPUs x 115 W x 60 s, the smallest pair."""
    found = apart.search(setups.screen(stretches=(Stretch(None, 60.0),)))
    assert found[0].pair.gpus == 8
    assert found[0].energy_j == pytest.approx(8 * 115 * 60)
