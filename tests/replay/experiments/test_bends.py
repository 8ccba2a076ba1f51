"""What experiments change of a scenario: exactly what they say, of the right side, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import latency, power
from capstan.model.policy import Objective
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.replay.experiments import bends
from capstan.replay.experiments.bends import Part
from capstan.replay.scenario import Scenario
from capstan.replay.scores import limits
from capstan.replay.scores.limits import SloSet
from support import builders, small

BY_WORDS = {part.words: part for part in bends.PARTS}


def flat(profile: Profile) -> dict[str, object]:
    """Every number of a profile, by path."""
    nested = dataclasses.asdict(profile)
    return {
        f"{record}.{name}": value
        for record in ("timing", "draw", "clocks", "work")
        for name, value in nested[record].items()
    }


CHANGED = {
    "decode time": {
        "timing.host_s": 0.004 * 1.5,
        "timing.weights_s": 0.012 * 1.5,
        "timing.per_sequence_s": 0.00009 * 1.5,
        "timing.per_context_token_s": 25e-9 * 1.5,
    },
    "prefill time": {
        "timing.prefill_base_s": 0.003,
        "timing.prefill_per_token_s": 135e-6,
        "timing.prefill_per_token_long_s": 142.5e-6,
        "timing.prefill_min_s": 0.030,
        "timing.attention_per_token2_s": 1.5e-9,
    },
    "dynamic watts": {"draw.memory_w": 150.0, "draw.dynamic_w": 300.0, "draw.compute_w": 630.0},
    "idle watts": {"draw.unloaded_w": 112.5, "draw.loaded_idle_w": 172.5, "draw.static_w": 150.0},
    "clock response, watts": {"clocks.v_min_ratio": 1.0},  # 1.08, and no voltage lies above that of full clock
    "clock response, time": {"timing.decode_clock_ratio": 0.225, "timing.prefill_clock_ratio": 1.0},  # 1.35, a share
}


@pytest.mark.parametrize(("words", "expected"), CHANGED.items(), ids=CHANGED)
def test_a_part_of_a_profile_is_changed_and_nothing_else(words: str, expected: dict[str, float]) -> None:
    """Half as much again of the builder's round numbers."""
    before, after = flat(builders.profile()), flat(BY_WORDS[words].changed(builders.profile(), 1.5))
    differing = {name: value for name, value in after.items() if value != before[name]}
    assert differing == pytest.approx(expected)


def test_the_parts_are_those_of_the_issue() -> None:
    """Decode, prefill, dynamic watts, idle watts, clock response; the last is two things."""
    assert list(BY_WORDS) == list(CHANGED)


@pytest.mark.parametrize("part", bends.PARTS, ids=lambda part: part.words)
@given(factor=st.floats(0.85, 1.15))
def test_a_part_answers_in_its_own_quantity_alone(part: Part, factor: float) -> None:
    """Where times are wrong full-clock watts at a given time are not, and the other way round."""
    plain = builders.profile()
    bent = part.changed(plain, factor)
    if part.words.endswith("watts"):
        assert latency.decode_step_s(bent, 16, 20_000, 0.6) == latency.decode_step_s(plain, 16, 20_000, 0.6)
        assert latency.prefill_step_s(bent, 512, 0.6) == latency.prefill_step_s(plain, 512, 0.6)
    else:
        assert power.step_w(bent, 16, 20_000, 0.03, 0.6) == power.step_w(plain, 16, 20_000, 0.03, 0.6)
        assert power.idle_w(bent) == power.idle_w(plain)


def test_only_the_world_runs_on_a_bent_truth() -> None:
    plain = small.scenario()
    bent = bends.truth(BY_WORDS["decode time"], 1.15)(plain)
    assert bent.services is plain.services
    assert [p.timing.weights_s for p in bent.truths[0]] == pytest.approx([0.012 * 1.15, 0.006 * 1.15])


def test_who_is_told_believes_the_truth_and_starts_as_the_other() -> None:
    bend = bends.truth(BY_WORDS["idle watts"], 0.85)
    bent, told = bend(small.scenario()), bends.told(bend)(small.scenario())
    assert told.truths == bent.truths
    assert told.services[0].profiles == bent.truths[0]
    assert told.services[0].start == bent.services[0].start


def with_slo(slo: Slo) -> Scenario:
    plain = small.scenario()
    (service,) = plain.services
    service = dataclasses.replace(service, policy=dataclasses.replace(service.policy, slo=slo))
    return dataclasses.replace(plain, services=(service,))


def test_tighter_limits_are_tighter_for_every_prompt_and_ask_for_the_same_share() -> None:
    """Half of 250/400/2,000 ms and 100 ms, by the scorer's own limits."""
    (service,) = bends.tighter(0.5)(with_slo(limits.aim(SloSet.CLASS, builders.policy().slo))).services
    held = limits.of(SloSet.SCENARIO, service.policy.slo)
    assert held.ttft_s == pytest.approx((0.125, 0.2, 1.0))
    assert (held.tpot_s, held.percentile_ratio) == (0.05, 0.99)


@pytest.mark.parametrize("slo_set", list(SloSet))
def test_limits_that_a_policy_aims_at_are_the_limits_of_the_set(slo_set: SloSet) -> None:
    """Experiments score by what policies aim at, so that a row may bend it: as it stands it is the set's own."""
    own = Slo(1.5, 0.08, 0.95)
    aimed, asked = limits.of(SloSet.SCENARIO, limits.aim(slo_set, own)), limits.of(slo_set, own)
    prompts = small.requests().prompt_tokens
    assert (aimed.ttft_of(prompts) == asked.ttft_of(prompts)).all()
    assert (aimed.tpot_s, aimed.percentile_ratio) == (asked.tpot_s, asked.percentile_ratio)


def test_a_margin_is_a_setting_of_the_decision() -> None:
    plain = small.scenario()
    bent = bends.margin(0.7)(plain)
    assert bent.settings == dataclasses.replace(plain.settings, slo_margin_ratio=0.7)
    assert bent.services is plain.services


def test_an_aim_takes_its_constant_intensity_with_it() -> None:
    """480 g per kWh is 480 / 3.6e6 g per joule, at any time."""
    bent = bends.aimed(Objective.CARBON, g_per_kwh=480.0)(small.scenario())
    assert [service.policy.objective for service in bent.services] == [Objective.CARBON]
    intensity = bent.settings.tariffs.intensity
    assert intensity is not None
    assert intensity.at(0.0) == intensity.at(1e6) == pytest.approx(480 / 3.6e6)


def test_an_aim_without_an_intensity_leaves_tariffs_alone() -> None:
    plain = small.scenario()
    assert bends.aimed(Objective.COST)(plain).settings == plain.settings
