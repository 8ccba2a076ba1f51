"""Prefill and decode apart in closed form: a lone request by hand, the fixed point, and pairs inside the bounds."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model import latency
from capstan.model.policy import Bounds
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import sizing
from capstan.model import phases
from capstan.replay.setups import apart
from capstan.replay.setups.demand import Stretch
from capstan.replay.setups.kinds import Engine, Pair, Setup
from capstan.replay.setups.screen import Screen
from support import setups, small
from support.setups import BUSY, FULL_MHZ, OWN, SLO

TP4 = small.TP4


def test_keys_and_values_cross_the_network_by_hand() -> None:
    """1,000 tokens x 81,920 bytes over 17.8e9 bytes/s: 4.60 ms, and 0.4 ms besides."""
    assert apart.transfer_s(TP4, 1000) == pytest.approx(0.0050022, abs=1e-7)


def test_a_lone_answer_decodes_at_a_step_per_token_and_pays_for_its_transfer() -> None:
    """A request a day: the batch is one, its context 1,000 + 100 / 2 tokens; a fifth of 100 tokens share 5 ms."""
    load = Workload(1e-5, 1000.0, 100.0)
    found = apart.decoding(TP4, load, 1.0, SLO)
    assert found is not None
    step_s = latency.decode_step_s(TP4, 1, 1050, 1.0)
    assert found.latency_s == pytest.approx(step_s + 0.0050022 / 20, rel=1e-4)
    assert found.stress_ratio == found.latency_s / 0.1
    assert found.gpu_w == pytest.approx(TP4.draw.loaded_idle_w, rel=1e-3), "it idles nearly all day"


def test_the_batch_is_the_one_that_its_own_steps_make() -> None:
    """Little: B = tokens/s x step(B). The 50th percentile of a Poisson B is B, so TPOT is that step."""
    load = Workload(4.0, 1000.0, 200.0)
    found = apart.decoding(TP4, load, 1.0, Slo(2.0, 0.1, 0.5))
    assert found is not None
    step_s = found.latency_s - apart.transfer_s(TP4, 1000.0) / 40
    batch = 800 * step_s
    assert latency.decode_step_s(TP4, batch, batch * 1100, 1.0) == pytest.approx(step_s, rel=1e-3)


TOO_MUCH = {
    "more tokens than any batch makes": (TP4, Workload(1000.0, 1000.0, 200.0)),
    "contexts that do not fit in the cache": (dataclasses.replace(TP4, kv_tokens=5000), Workload(4.0, 1000.0, 200.0)),
    "more sequences than the engine runs": (dataclasses.replace(TP4, max_num_seqs=4), Workload(4.0, 1000.0, 200.0)),
}


@pytest.mark.parametrize(("profile", "load"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_cannot_be_held_has_no_steady_state(profile: Profile, load: Workload) -> None:
    assert apart.decoding(profile, load, 1.0, SLO) is None


def test_prefill_keeps_the_limit_of_each_tier() -> None:
    """A tier of 30 ms is below a prompt's own 10 ms of host time and 20 ms of step: it binds, 2 s do not."""
    load = Workload(1.0, 900.0, 150.0)
    plain = apart.prefilling(TP4, load, 1.0, SLO)
    tiered = apart.prefilling(TP4, load, 1.0, dataclasses.replace(SLO, tiers=((256, 0.03),)))
    assert plain is not None
    assert tiered is not None
    assert plain.stress_ratio < 1 < tiered.stress_ratio
    assert plain.stress_ratio == plain.latency_s / 2.0


@given(rate_rps=st.floats(0.5, 4.0), x=st.floats(0.5, 1.0))
def test_apart_each_half_is_faster_than_both_together(rate_rps: float, x: float) -> None:
    """Prompts do not wait for decoding sequences, and no chunk is in a decode step; but for the transfer's share."""
    load = Workload(rate_rps, 1000.0, 200.0)
    together = sizing.point(TP4, load, SLO, x=x)
    first, rest = apart.prefilling(TP4, load, x, SLO), apart.decoding(TP4, load, x, SLO)
    if together is None:
        return
    assert first is not None
    assert rest is not None
    assert first.latency_s <= together.ttft_s
    assert rest.latency_s <= together.tpot_s + apart.transfer_s(TP4, 1000.0) / 40


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
    look = apart.prefilling if prefill else apart.decoding
    lane, total = screen.lane(setup.engine), 0.0
    for index, stretch in enumerate(screen.stretches):
        assert stretch.load is not None
        at = look(lane, stretch.load.scaled(1 / setup.replicas), lane.clocks.ratio(setup.clock_mhz), SLO)
        if at is None or (index == 0 and at.stress_ratio > 1):
            return math.inf
        total += stretch.lasting_s * setup.gpus * at.gpu_w
    return total


@settings(max_examples=10, deadline=None)
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
