"""The goals of DESIGN 7.2 on a small plant for a short while; the whole hour is `capstan replay`'s."""

from __future__ import annotations

import pytest

from capstan.api import plant
from capstan.powercap.domains import Level
from capstan.replay.plantlab import crossings, draws, scores
from capstan.replay.plantlab.play import Asked, Cut, Run, play
from support import plants

FLASH = draws.Rate(1.0, 1.0, 1.0, surges=((25.0, 70.0, 9.0),))
"""From idle to full within a second: nobody is capped when it comes."""

FAULTS: dict[str, dict[str, object]] = {
    "nominal": {},
    "sensor": {"sensorErrorPercent": 5},
    "lag": {"lagSeconds": 2},
    "lost": {"lostPercent": 10},
    "blackout": {"blackout": {"atSeconds": 24, "forSeconds": 30}},
    "together": {"sensorErrorPercent": 5, "lagSeconds": 2, "lostPercent": 10},
}


def run(strategy: str, variant: str = "nominal", *, cut: Cut | None = None, seconds: int = 80) -> Run:
    faults = plant.Faults.model_validate({"name": variant, **FAULTS[variant]})
    return play(plants.small(5), Asked(strategy, faults, FLASH, seconds, 1, cut))


def test_uncapped_the_same_load_is_above_the_budget() -> None:
    """Without this the other tests would prove nothing."""
    score = scores.of(run("Uncapped"))
    assert score.above_j > 0
    assert score.longest_s > 10


@pytest.mark.parametrize("variant", sorted(FAULTS))
def test_guaranteed_is_never_above_whatever_goes_wrong(variant: str) -> None:
    score = scores.of(run("Guaranteed", variant))
    assert score.above_j == 0
    assert score.peak_ratio <= 1.03


@pytest.mark.parametrize("variant", sorted(FAULTS))
def test_statistical_is_back_below_within_ten_seconds(variant: str) -> None:
    assert scores.of(run("Statistical", variant)).longest_s <= 10


@pytest.mark.parametrize("variant", ["nominal", "together", "blackout"])
def test_a_cut_at_full_load_crosses_far_and_is_followed(variant: str) -> None:
    """Full load comes at 25 s, the cut right after it; in the blackout nobody ever saw it."""
    found = crossings.step(run("Statistical", variant, cut=Cut(25.8, 0.8), seconds=60)).crossings
    assert max(crossing.above_ratio for crossing in found) > 0.1, "else it proves nothing"
    assert all(crossing.back_s <= 6 for crossing in found)
    assert all(crossing.blind_s == 0 for crossing in found)


def test_guaranteed_follows_a_cut_at_full_load() -> None:
    """Its boards read low, so its limits let through more: else a cut of 20 % finds it below."""
    found = crossings.step(run("Guaranteed", "together", cut=Cut(26.3, 0.8))).crossings
    assert found
    assert all(crossing.back_s <= 6 for crossing in found)


@pytest.mark.parametrize(("both_ways", "followed_s"), [(False, 8), (True, 24)])
def test_guaranteed_follows_a_cut_that_comes_while_nobody_is_heard(both_ways: bool, followed_s: int) -> None:
    """Silent nodes are told, too. The blackout is from 24 s to 54 s, the cut at 40 s: both ways, only its end helps."""
    told = {"atSeconds": 24, "forSeconds": 30, "commandsToo": both_ways}
    faults = plant.Faults.model_validate({"name": "cut", "blackout": told})
    found = play(plants.small(5), Asked("Guaranteed", faults, FLASH, 80, 1, Cut(40.0, 0.8)))
    before_w = found.allowed_w[38]
    assert (found.allowed_w[40 + followed_s :] <= 0.85 * before_w).all()
    assert both_ways == (found.allowed_w[50] == before_w), "limits live in the boards and stay as they are"


def test_statistical_goes_blind_into_fail_safe_and_comes_back() -> None:
    levels = [levels[0] for levels in run("Statistical", "blackout").levels]
    assert Level.FAIL_SAFE in levels[28:54]
    assert levels[20] is not Level.FAIL_SAFE


def test_guaranteed_gives_high_priority_more_when_all_are_short() -> None:
    found = run("Guaranteed")
    score = scores.of(found)
    assert score.high.slowdown_ratio < score.low.slowdown_ratio
    assert score.stranded_w > 0


def test_the_same_seed_is_the_same_run() -> None:
    assert run("Statistical", "lost").draw_w.tobytes() == run("Statistical", "lost").draw_w.tobytes()
