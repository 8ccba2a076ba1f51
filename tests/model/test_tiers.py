"""Stress of tiers: of all requests together, and of a tier by itself where it has enough of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model import tiers, waiting
from capstan.model.slo import Slo
from capstan.model.workload import Short, Workload
from capstan.optimize import sizing
from support import builders

P = builders.profile()
LIMITS_S = (0.25, 0.4)
MANY_RPS, FEW_RPS = 1.0, 0.1  # of a tier: 3,600 and 360 an hour


def found(
    *, short_rps: float = MANY_RPS, wait_s: float = 0.06, chance: float = 0.3, short_share: float = 0.1
) -> tiers.Tiers:
    """Short prompts take 40 ms, medium ones 90, all together 120 on average; waits are exponential."""
    of = (tiers.Tier(short_share, short_rps, 0.04, 0.05), tiers.Tier(0.4, MANY_RPS, 0.09, 0.12))
    return tiers.Tiers(of, waiting.Wait(chance, wait_s, wait_s), 0.01, 0.12, 0.1)


def stress(of: tiers.Tiers, least_ratio: float = 0.0, percentile_ratio: float = 0.99) -> float:
    return of.stress_ratio(LIMITS_S, 2.0, percentile_ratio=percentile_ratio, least_ratio=least_ratio)


def test_a_tier_of_many_is_held_by_itself() -> None:
    """Wait p99 of 0.3 exp(-t / 0.06) is 0.06 ln 30 = 0.204 s: 0.244 of 0.25 s for short ones, 0.294 of 0.4."""
    assert stress(found()) == pytest.approx(0.98, rel=0.02)


def test_a_tier_of_few_counts_among_all() -> None:
    """A tenth of the requests may be late ten times as often; the medium tier, 0.74, is then what binds."""
    assert stress(found(short_rps=FEW_RPS)) == pytest.approx(0.74, abs=0.03)
    assert stress(found(short_rps=FEW_RPS, short_share=0.5)) > stress(found(short_rps=FEW_RPS)) + 0.05


def test_no_more_than_one_in_a_hundred_is_late_at_the_stress() -> None:
    few = found(short_rps=FEW_RPS, short_share=0.4)
    at = stress(few)
    assert few.late_ratio(at, LIMITS_S, 2.0) == pytest.approx(0.01, rel=1e-3)
    assert few.late_ratio(at * 0.99, LIMITS_S, 2.0) > 0.01


def test_what_another_latency_says_is_the_least() -> None:
    assert stress(found(), least_ratio=3.0) == 3.0


def test_where_nobody_waits_the_longest_prompt_of_a_tier_is_its_tail() -> None:
    quiet = found(chance=0.001)
    assert [quiet.ttft_s(tier, 0.99) for tier in quiet.tiers] == [0.05, 0.12]


def test_prompts_that_take_longer_than_their_limit_are_late_however_few_wait() -> None:
    slow = tiers.Tiers((tiers.Tier(0.5, FEW_RPS, 0.5, 0.6),), waiting.Wait(0.0, 0.0, 0.0), 0.01, 0.12, 0.1)
    assert slow.stress_ratio((0.3,), 2.0, percentile_ratio=0.99, least_ratio=0.0) == pytest.approx(2.0, rel=1e-4)


@given(st.floats(0.001, 0.5), st.floats(0.01, 0.9), st.floats(0.01, 0.5), st.booleans(), st.floats(0.5, 0.999))
def test_longer_waits_never_lower_the_stress(
    wait_s: float, chance: float, share: float, many: bool, percentile_ratio: float
) -> None:
    rps = MANY_RPS if many else FEW_RPS
    low, high = (
        stress(found(short_rps=rps, wait_s=wait_s * more, chance=chance, short_share=share), 0.0, percentile_ratio)
        for more in (1.0, 1.1)
    )
    assert low <= high * (1 + 2 * tiers.PRECISION)


def test_the_share_of_short_prompts_is_about_azures() -> None:
    """10 and 16 % below 256 tokens, 47 and 38 % below 1,024 (first halves of the traces of 2023)."""
    for mean, cv2, of in ((1237.0, 0.89, (0.10, 0.475)), (2028.0, 0.93, (0.158, 0.379))):
        for tokens, share in zip((256.0, 1024.0), of, strict=True):
            assert tiers.below_ratio(tokens, mean_tokens=mean, cv2_ratio=cv2) == pytest.approx(share, abs=0.11)


# --- how many prompts a tier has ---------------------------------------------------------------------


def told(*short: Short) -> float:
    slo = Slo(2.0, 0.1, 0.99, ((256, 0.25), (1024, 0.4)))
    load = Workload(0.45, 1237, 215, short_prompts=short)
    return sizing.stress_ratio(sizing.point(P, load, slo), slo)


def test_fewer_short_prompts_are_less_stress_than_a_gamma_variate_has() -> None:
    """Of Azure's conversation half 9.5 % are below 256 tokens and 47 % below 1024; a gamma variate has 15 and 55 %."""
    gamma = told()
    as_there = told(Short(256, 0.095, 120, 0.08), Short(1024, 0.467, 430, 0.2))
    assert as_there < 0.93 * gamma
    assert told(Short(256, 0.0, 128, 0.0), Short(1024, 0.0, 640, 0.0)) < as_there
    assert told(Short(256, 0.5, 120, 0.5), Short(1024, 0.9, 430, 0.4)) > gamma


def test_tiers_as_a_gamma_variate_has_them_change_nothing() -> None:
    shares = [tiers.below_ratio(at, mean_tokens=1237, cv2_ratio=0.9) for at in (256, 1024)]
    same = told(Short(256, shares[0], 128, shares[0]), Short(1024, shares[1], 640, shares[1] - shares[0]))
    assert same == pytest.approx(told(), rel=1e-9)


def test_a_coarse_load_keeps_its_short_prompts_to_a_step() -> None:
    short = Workload(1.0, 100, 100, short_prompts=(Short(256, 0.347, 101, 0.11),)).coarse().scaled(2).short_prompts
    assert short[0] == pytest.approx((256, 0.34, 101, 0.12), rel=0.0201)
    assert Workload(1.0, 100, 100, short_prompts=short).longer(1.5).short_prompts == short


def test_a_tier_is_held_by_itself_where_one_of_its_classes_has_a_thousand_an_hour() -> None:
    """At 1.4 rps half of the prompts are 2,520 an hour; in three classes of alike size none has a thousand."""

    def stress(largest_ratio: float) -> float:
        slo = Slo(2.0, 0.1, 0.99, ((1024, 0.4),))
        load = Workload(1.4, 1237, 215, short_prompts=(Short(1024, 0.5, 430, largest_ratio),))
        return sizing.stress_ratio(sizing.point(P, load, slo), slo)

    assert stress(0.18) < stress(0.22) == stress(0.5)
