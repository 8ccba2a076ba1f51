"""Replicas that play one phase: a lone request by hand, the fixed point, whose limits bind, and what two are worth."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import latency, phases, steady
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Phase, Workload
from capstan.optimize import sizing
from support import small

TP4 = small.TP4
SLO = Slo(2.0, 0.1)
TIERED = dataclasses.replace(SLO, tiers=((256, 0.25), (1024, 0.4)))


def decoding(
    load: Workload, profile: Profile = TP4, *, x: float = 1.0, percentile: float = 0.99
) -> steady.OperatingPoint:
    found = phases.operating_point(profile, load.of_phase(Phase.DECODE), x=x, percentile_ratio=percentile)
    assert found is not None
    return found


def prefilling(load: Workload, *, x: float = 1.0, slo: Slo = SLO, replicas: int = 1) -> steady.OperatingPoint:
    found = sizing.point(TP4, load.of_phase(Phase.PREFILL), slo, x=x, replicas=replicas)
    assert found is not None
    return found


def test_keys_and_values_cross_the_network_by_hand() -> None:
    """1,000 tokens x 81,920 bytes over 17.8e9 bytes/s: 4.60 ms, and 0.4 ms besides."""
    assert phases.transfer_s(TP4, 1000) == pytest.approx(0.0050022, abs=1e-7)


def test_a_lone_answer_decodes_at_a_step_per_token_and_pays_for_its_transfer() -> None:
    """A request a day: the batch is one, its context 1,000 + 100 / 2 tokens; a fifth of 100 tokens share 5 ms."""
    found = decoding(Workload(1e-5, 1000.0, 100.0))
    step_s = latency.decode_step_s(TP4, 1, 1050, 1.0)
    assert found.tpot_s == pytest.approx(step_s + 0.0050022 / 20, rel=1e-4)
    assert found.ttft_s == pytest.approx(step_s + 0.0050022, rel=1e-4), "the first token that is made here"
    assert found.gpu_w == pytest.approx(TP4.draw.loaded_idle_w, rel=1e-3), "it idles nearly all day"
    assert found.kv_usage == pytest.approx(0.0, abs=1e-3)


def test_the_batch_is_the_one_that_its_own_steps_make() -> None:
    """Little: B = tokens/s x step(B). The 50th percentile of a Poisson B is B, so TPOT is that step."""
    found = decoding(Workload(4.0, 1000.0, 200.0), percentile=0.5)
    step_s = found.tpot_s - phases.transfer_s(TP4, 1000.0) / 40
    assert found.batch == pytest.approx(800 * step_s, rel=1e-6)
    assert latency.decode_step_s(TP4, found.batch, found.batch * 1100, 1.0) == pytest.approx(step_s, rel=1e-6)


@given(rate_rps=st.floats(0.01, 12.0), x=st.floats(0.4, 1.0), experts_s=st.sampled_from((0.0, 0.02)))
def test_the_batch_is_the_least_that_follows_from_itself(rate_rps: float, x: float, experts_s: float) -> None:
    """As a plain iteration from nothing finds it, step by step; also where experts bend the steps the other way."""
    timing = dataclasses.replace(TP4.timing, expert_weights_s=experts_s)
    profile = dataclasses.replace(TP4, timing=timing, work=dataclasses.replace(TP4.work, expert_share_ratio=0.9))
    load = Workload(rate_rps, 1000.0, 200.0)
    before, batch = -1.0, 0.0
    while abs(batch - before) > 1e-7 and batch <= 256:
        before, full = batch, max(batch, 1.0)
        batch = rate_rps * 200 * latency.decode_step_s(profile, full, full * 1100, x)
    found = phases.operating_point(profile, load.of_phase(Phase.DECODE), x=x)
    if found is None:
        assert batch + 2.33 * math.sqrt(batch) > 0.98 * min(256, TP4.kv_tokens / 1200)
    else:
        assert found.batch == pytest.approx(batch, rel=1e-5)


TOO_MUCH = {
    "more tokens than any batch makes": (TP4, Workload(1000.0, 1000.0, 200.0)),
    "contexts that do not fit in the cache": (dataclasses.replace(TP4, kv_tokens=5000), Workload(4.0, 1000.0, 200.0)),
    "more sequences than the engine runs": (dataclasses.replace(TP4, max_num_seqs=4), Workload(4.0, 1000.0, 200.0)),
}


@pytest.mark.parametrize(("profile", "load"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_cannot_be_held_has_no_steady_state(profile: Profile, load: Workload) -> None:
    apart = load.of_phase(Phase.DECODE)
    assert phases.operating_point(profile, apart) is None
    assert phases.latencies(profile, apart) is None
    assert sizing.stress_ratio(phases.latencies(profile, apart), SLO) == math.inf


@pytest.mark.parametrize("phase", Phase)
def test_latencies_are_those_of_the_operating_point(phase: Phase) -> None:
    load = Workload(2.0, 900.0, 150.0, phase=phase)
    whole, part = sizing.point(TP4, load, TIERED, x=0.8), sizing.latencies(TP4, load, TIERED, x=0.8)
    assert whole is not None
    assert part is not None
    assert (part.ttft_s, part.tpot_s) == (whole.ttft_s, whole.tpot_s)


def test_the_limit_of_the_other_phase_binds_no_pool() -> None:
    """A TPOT limit of a microsecond stresses no prefill, a TTFT limit of one no decode; together they are lost."""
    load = Workload(2.0, 900.0, 150.0)
    hopeless = Slo(1e-6, 1e-6)
    for phase, kept in ((Phase.PREFILL, Slo(2.0, 1e-6)), (Phase.DECODE, Slo(1e-6, 0.1))):
        at = sizing.latencies(TP4, load.of_phase(phase), kept.of_phase(phase))
        assert sizing.stress_ratio(at, kept.of_phase(phase)) < 1 < sizing.stress_ratio(at, hopeless.of_phase(phase))
    assert hopeless.of_phase(Phase.BOTH) is hopeless


def test_prefill_keeps_the_limit_of_each_tier() -> None:
    """A tier of 30 ms is below a prompt's own 10 ms of host time and 20 ms of step: it binds, 2 s do not."""
    load = Workload(1.0, 900.0, 150.0)
    tight = dataclasses.replace(SLO, tiers=((256, 0.03),))
    plain, tiered = (prefilling(load, slo=slo.of_phase(Phase.PREFILL)) for slo in (SLO, tight))
    assert sizing.stress_ratio(plain, SLO.of_phase(Phase.PREFILL)) == plain.ttft_s / 2.0 < 1
    assert sizing.stress_ratio(tiered, tight.of_phase(Phase.PREFILL)) > 1


def test_answers_ask_nothing_of_prefill() -> None:
    """Ten times as long ones: the same prompts, the same watts. What is decoded counts them."""
    short, long = Workload(1.0, 900.0, 50.0), Workload(1.0, 900.0, 500.0)
    assert prefilling(short) == prefilling(long)
    assert decoding(long).batch > 9 * decoding(short).batch


def test_a_prefill_replica_is_idle_whenever_it_computes_no_prompt() -> None:
    """Busy half the time it draws the mean of idle and a full chunk's watts: the step of 512 tokens at 700 W here."""
    step_s = latency.prefill_step_s(TP4, 512, 1.0)
    found = prefilling(Workload(0.5 / step_s, 512.0, 100.0, prompt_cv2_ratio=0.0))
    idle_w = TP4.draw.loaded_idle_w
    busy_w = prefilling(Workload(0.9 / step_s, 512.0, 100.0, prompt_cv2_ratio=0.0)).gpu_w
    assert found.gpu_w - idle_w == pytest.approx((busy_w - idle_w) * 5 / 9, rel=0.05)


@given(rate_rps=st.floats(0.5, 4.0), x=st.floats(0.5, 1.0))
def test_apart_each_half_is_faster_than_both_together(rate_rps: float, x: float) -> None:
    """Prompts do not wait for decoding sequences, and no chunk is in a decode step; but for the transfer's share."""
    load = Workload(rate_rps, 1000.0, 200.0)
    together = sizing.point(TP4, load, SLO, x=x)
    if together is None:
        return
    assert prefilling(load, x=x).ttft_s <= together.ttft_s
    assert decoding(load, x=x).tpot_s <= together.tpot_s + phases.transfer_s(TP4, 1000.0) / 40


@pytest.mark.parametrize("phase", [Phase.PREFILL, Phase.DECODE])
@given(rate_rps=st.floats(0.01, 4.0), x=st.floats(0.3, 0.95))
def test_a_higher_clock_is_faster_and_more_load_slower_and_hotter(phase: Phase, rate_rps: float, x: float) -> None:
    def at(rps: float, ratio: float) -> tuple[float, float, float]:
        load = Workload(rps, 700.0, 120.0, phase=phase)
        found = sizing.point(TP4, load, TIERED.of_phase(phase), x=ratio)
        if found is None:
            return math.inf, math.inf, math.inf
        return found.ttft_s, found.tpot_s, found.gpu_w

    slower, faster, busier = at(rate_rps, x), at(rate_rps, x + 0.05), at(rate_rps * 1.05, x)
    own = 0 if phase is Phase.PREFILL else 1
    assert faster[own] <= slower[own] <= busier[own]
    assert slower[2] <= busier[2] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("phase", "tokens"), [(Phase.BOTH, 150.0), (Phase.PREFILL, 1.0), (Phase.DECODE, 149.0)], ids=str
)
def test_of_each_answer_one_token_is_made_by_prefill_and_the_others_by_decode(phase: Phase, tokens: float) -> None:
    load = Workload(2.0, 900.0, 150.0).of_phase(phase)
    assert load.made_tokens == tokens
    assert load.at(5.0).phase is load.coarse().phase is load.scaled(2.0).phase is phase
