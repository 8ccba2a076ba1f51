"""Predictions beside what came: requests by hand, halves by time, bands judged on what they were not made of."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from capstan.model.plan import Effect
from capstan.replay.experiments import lab, predictions
from capstan.replay.experiments.predictions import LEAST_REQUESTS, QUANTITIES, Found, Kept
from capstan.replay.experiments.promises import Promise
from capstan.replay.options import Options
from capstan.replay.runs import Run
from capstan.replay.scores.bands import Band
from capstan.replay.seen import Service
from support import builders, experiments, replay, small

TTFT, TPOT, WATTS = QUANTITIES
EXPECTED = Effect(power_w=1000.0, ttft_s=1.0, tpot_s=0.05)


def promise(from_s: float | None = 0.0, until_s: float | None = 1000.0, **changes: Any) -> Promise:
    made = Promise(builders.CHAT, "all", (), ((4, 1),), None, EXPECTED, from_s, until_s, energy_j=900_000.0)
    return dataclasses.replace(made, **changes)


def kept(ratio: float, *, pool: str = "all", late: bool = False, policy: str = builders.CHAT) -> Kept:
    """A plan whose figures all came this many times as high as expected."""
    realised = Effect(power_w=1000.0 * ratio, ttft_s=ratio, tpot_s=0.05 * ratio)
    return Kept(promise(pool=pool, policy=policy), realised, 500, late)


def run_of(*fates: replay.Fate) -> tuple[Run, Service]:
    """A run of these requests, and the service that they were asked of."""
    run = replay.run(fates)
    (service,) = small.scenario(run.services[0].outcomes.requests).services
    return run, service


def judged(promises: list[Promise], *fates: replay.Fate) -> list[Kept]:
    run, service = run_of(*fates)
    return list(predictions.realised(promises, run, 0, service))


THOUSAND = tuple(replay.fate(float(at), ttft_s=0.1 + at / 1000, tpot_s=0.02 + at / 100_000) for at in range(1000))

# --- what came ---------------------------------------------------------------------------------------


def test_what_came_is_the_percentile_of_the_requests_and_the_mean_of_the_watts() -> None:
    """p99 of 1,000 is the 990th: 0.1 + 0.989 s, 20 + 9.89 ms; 900,000 J in 1,000 s are 900 W."""
    (one,) = judged([promise()], *THOUSAND)
    assert one.requests == 1000
    assert (one.ratio(TTFT), one.ratio(TPOT), one.ratio(WATTS)) == pytest.approx((1.089, 0.02989 / 0.05, 0.9))


def test_only_requests_that_arrived_while_the_plan_stood_count() -> None:
    """From 100 s to 400 s: 300 of them, p99 is the 297th, which arrived at 396 s."""
    (one,) = judged([promise(100.0, 400.0)], *THOUSAND)
    assert one.requests == 300
    assert one.realised.ttft_s == pytest.approx(0.1 + 0.396)


LEFT_OUT = {
    "fewer requests than say anything": promise(0.0, float(LEAST_REQUESTS - 1)),
    "a plan that never stood": promise(None, None),
    "a plan that was gone at once": promise(50.0, 50.0),
    "classes that nobody asked for": promise(classes=(8,)),
}


@pytest.mark.parametrize("one", LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_plan_is_left_out(one: Promise) -> None:
    assert judged([one], *THOUSAND) == []


def test_just_enough_requests_are_enough() -> None:
    assert [one.requests for one in judged([promise(0.0, float(LEAST_REQUESTS))], *THOUSAND)] == [LEAST_REQUESTS]


def test_a_pool_is_held_to_the_requests_of_its_classes() -> None:
    """Prompts of 500 and 11 tokens out are class 3 of nine (medium, short); every other prompt has 2,000 tokens."""
    fates = [
        replay.fate(float(at), prompt=500 if at % 2 else 2000, ttft_s=0.2 if at % 2 else 3.0) for at in range(1000)
    ]
    (one,) = judged([promise(classes=(3,))], *fates)
    assert one.requests == 500
    assert one.realised.ttft_s == pytest.approx(0.2)


def test_a_request_that_never_got_its_token_took_for_ever() -> None:
    """One in a hundred of 1,000 is beyond p99 only where eleven are."""
    lost = replay.fate(0.0, ttft_s=math.nan)
    (fine,) = judged([promise()], *([lost] * 10), *THOUSAND[10:])
    assert fine.realised.ttft_s is not None
    assert math.isfinite(fine.realised.ttft_s)
    (broken,) = judged([promise()], *([lost] * 11), *THOUSAND[11:])
    assert broken.ratio(TTFT) == math.inf


def test_answers_of_one_token_have_no_time_per_token() -> None:
    fates = [replay.fate(float(at), output=1) for at in range(300)]
    (one,) = judged([promise()], *fates)
    assert one.realised.tpot_s is None
    assert one.ratio(TPOT) is None
    assert one.ratio(TTFT) == pytest.approx(0.5)


def test_what_was_not_expected_has_no_ratio() -> None:
    (one,) = judged([promise(expected=Effect(power_w=1000.0))], *THOUSAND)
    assert one.ratio(TTFT) is None
    assert one.ratio(WATTS) == pytest.approx(0.9)


# --- halves and bands --------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "late"), [(1, 0), (2, 1), (5, 2), (6, 3)])
def test_the_second_half_is_later_and_never_larger(count: int, late: int) -> None:
    """Each pool's own plans are halved, in order; the middle one of an odd number is of the first half."""
    halved = predictions.halved([kept(1.0, pool=pool) for _ in range(count) for pool in ("s", "l")])
    for pool in ("s", "l"):
        marks = [one.late for one in halved if one.promise.pool == pool]
        assert marks == [False] * (count - late) + [True] * late


def halves(early: list[float], late: list[float]) -> list[Kept]:
    return [*(kept(ratio) for ratio in early), *(kept(ratio, late=True) for ratio in late)]


EARLY = [0.8 + 0.02 * place for place in range(19)]  # 0.80 to 1.16


def test_a_band_of_the_first_half_is_judged_on_the_second_alone() -> None:
    """19 ratios: the band is all of them; 3 of 4 later ones lie in it."""
    found = Found.of("all", halves(EARLY, [0.9, 1.0, 1.1, 2.0]), TTFT)
    assert found.band is not None
    assert (found.band.low_ratio, found.band.high_ratio) == pytest.approx((0.80, 1.16))
    assert found.covered is not None
    assert (found.covered.mean, found.late) == (0.75, 4)
    assert found.spread is not None
    assert found.spread.count == 23


def test_without_enough_early_plans_nothing_is_covered() -> None:
    found = Found.of("all", halves(EARLY[:18], [1.0]), TTFT)
    assert (found.band, found.covered) == (None, None)


def test_seeds_share_a_band_and_are_judged_one_by_one() -> None:
    """All of one seed's later plans in the band, half of the other's: 75 %, and 0.25 x 12.706 on either side."""
    second = [dataclasses.replace(one, seed=2) for one in halves([], [1.0, 2.0])]
    found = Found.of("all", [*halves(EARLY, [1.0, 1.0, 1.0, 1.0]), *second], TTFT)
    assert found.covered is not None
    assert (found.covered.mean, found.covered.seeds, found.late) == (0.75, 2, 6)
    assert found.covered.half_width == pytest.approx(0.25 * 12.706, rel=1e-3)


def test_without_a_later_plan_nothing_is_judged() -> None:
    found = Found.of("all", halves(EARLY, []), TTFT)
    assert found.band is not None
    assert (found.covered, found.late) == (None, 0)


# --- words -------------------------------------------------------------------------------------------


def test_goals_are_those_of_the_issue_for_latencies_and_none_for_watts() -> None:
    """18 of 20 later plans in the band: 90 %, between 85 and 95."""
    told = predictions.of(halves(EARLY, [1.0] * 18 + [2.0, 2.0]), ())
    goals = json.loads(told.json)["goals"]
    assert [(goal["figure"], goal["least"], goal["most"]) for goal in goals] == [
        ("ttft_covered_ratio", 0.85, None),
        ("ttft_covered_ratio", None, 0.95),
        ("tpot_covered_ratio", 0.85, None),
        ("tpot_covered_ratio", None, 0.95),
    ]
    assert told.passed
    assert "TTFT band not too narrow, % of plans in it: 90.0 (all pools); goal at least 85: reached." in told.sentences


@pytest.mark.parametrize(("late", "missed"), [([1.0] * 20, "wide"), ([2.0] * 20, "narrow")])
def test_a_band_that_is_too_wide_or_too_narrow_misses_its_goal(late: list[float], missed: str) -> None:
    told = predictions.of(halves(EARLY, late), ())
    assert not told.passed
    assert [line.split(":")[0] for line in told.sentences if line.endswith("missed.")] == [
        f"TTFT band not too {missed}, % of plans in it",
        f"TPOT band not too {missed}, % of plans in it",
    ]


def test_too_few_plans_leave_goals_open_and_say_why() -> None:
    told = predictions.of([kept(1.0)], ())
    assert (
        "TTFT band not too wide, % of plans in it: no figure (too few plans for a band); goal at most 95: open."
    ) in told.sentences
    assert not told.passed


VERDICTS = {
    "higher than expected": (1.25, "expected too low"),
    "lower than expected": (0.75, "expected too high"),
    "as expected": (0.95, "about right"),
}


@pytest.mark.parametrize(("ratio", "words"), VERDICTS.values(), ids=VERDICTS)
def test_a_finding_says_on_which_side_expectations_err(ratio: float, words: str) -> None:
    (first, *_) = predictions.of([kept(ratio)], ()).sentences
    assert first == (
        f"TTFT: in the median {ratio:.2f} times what was expected came ({words}), "
        f"from {ratio:.2f} to {ratio:.2f} in nine plans of ten."
    )


def test_the_pool_that_is_furthest_off_is_named() -> None:
    """Half is further from right than 1.6 times."""
    (first, *_) = predictions.of([kept(0.5, pool="s"), kept(1.6, pool="l"), kept(1.0, pool="m")], ()).sentences
    assert first.endswith("furthest off: pool s, 0.50 times.")


def test_where_all_pools_are_about_right_none_is_named() -> None:
    (first, *_) = predictions.of([kept(0.95, pool="s"), kept(1.05, pool="l")], ()).sentences
    assert first.endswith("in nine plans of ten.")


def test_no_plan_at_all_is_said() -> None:
    told = predictions.of([], ())
    assert told.sentences[0] == "TTFT: no plan stood long enough to be judged."
    assert [row.label for row in told.tables[0].table.rows] == ["all pools"]


def test_pools_of_several_policies_are_told_apart() -> None:
    table = predictions.of([kept(1.0), kept(1.0, policy="llm/batch")], ()).tables[0].table
    assert [row.label for row in table.rows] == ["llm/batch, pool all", "llm/chat, pool all", "all pools"]


def test_what_never_came_is_written_as_nothing_in_the_json() -> None:
    document = json.loads(predictions.of([kept(math.inf)], ()).json)
    assert document["rows"][0]["median_ratio"] is None
    assert document["plans"][0]["realised"] == {"ttft_s": None, "tpot_s": None, "power_w": None}


def test_every_plan_is_in_the_json_with_what_it_expected() -> None:
    (plan,) = json.loads(predictions.of([kept(0.5)], ()).json)["plans"]
    assert plan["expected"] == {"ttft_s": 1.0, "tpot_s": 0.05, "power_w": 1000.0}
    assert plan["realised"] == {"ttft_s": 0.5, "tpot_s": 0.025, "power_w": 500.0}
    assert (plan["pool"], plan["fleet"], plan["requests"]) == ("all", [{"tp": 4, "replicas": 1}], 500)


def test_a_range_is_shown_from_low_to_high() -> None:
    assert predictions._range(Band(0.5, 1.25)) == "0.50 to 1.25"


# --- a run -------------------------------------------------------------------------------------------


def test_a_run_is_judged_plan_by_plan_and_says_how_many_counted(tmp_path: Path, root: Path) -> None:
    """2,000 requests at 3 a second on one replica; the seed draws nothing, so it is one."""
    made = experiments.folder(tmp_path, root, requests=2000)
    asked = Options(profiles=made.path / "profiles", periods="60,30,5", scale_rate="1")
    room = lab.Lab(predictions.EXPERIMENT, made.path / "scenario.yaml", asked, told=lambda *_: None)
    told = predictions.judged(room, lambda *_: None)
    plans = json.loads(told.json)["plans"]
    assert plans
    assert all(plan["requests"] >= LEAST_REQUESTS for plan in plans)
    assert all(0.3 < plan["realised"]["power_w"] / plan["expected"]["power_w"] < 3 for plan in plans)
    assert dict(told.settings)["plans"].startswith(f"{len(plans)} of ")
