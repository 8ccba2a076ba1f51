"""The scores of DESIGN 7.1, by hand and against everything that could fool them."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.slo import Slo
from capstan.replay import score
from capstan.replay.record import Outcome
from support.replay import CHAT, SLO, outcome, run

NAN = math.nan


def chat(outcomes: list[Outcome]) -> score.PolicyScore:
    return score.policy_score(CHAT, SLO, outcomes, energy_j=1000.0)


# --- a good request ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttft_s", "tpot_s", "good"),
    [
        (2.0, 0.1, True),
        (2.001, 0.05, False),
        (0.5, 0.101, False),
        (0.5, None, False),
        (None, None, False),
        (NAN, 0.05, False),
        (0.5, NAN, False),
        (-0.001, 0.05, False),
        (0.5, -0.001, False),
        (math.inf, 0.05, False),
    ],
    ids=[
        "both limits to the letter",
        "first token late",
        "tokens slow",
        "never finished",
        "rejected",
        "NaN first token",
        "NaN finish",
        "first token before arrival (clock skew)",
        "finish before the first token (clock skew)",
        "first token never",
    ],
)
def test_a_request_is_good_when_both_limits_hold(ttft_s: float | None, tpot_s: float | None, good: bool) -> None:
    made = outcome(0, ttft_s=ttft_s, tpot_s=tpot_s)
    assert score.good(made, Slo(ttft_s=2.0, tpot_s=0.1 + 1e-12)) is good


def test_one_output_token_is_judged_by_its_first_token_alone() -> None:
    only = outcome(0, output_tokens=1, first_s=1.9, finish_s=1.9)
    assert score.good(only, SLO)
    assert score.tpot_s(only) is None
    late = outcome(0, output_tokens=1, first_s=2.1, finish_s=2.1)
    assert not score.good(late, SLO)


def test_one_output_token_that_never_finished_is_bad() -> None:
    assert not score.good(outcome(0, output_tokens=1, first_s=0.5, finish_s=None), SLO)


# --- a policy ----------------------------------------------------------------------------------------


def test_rejected_and_unfinished_requests_count_as_bad() -> None:
    made = chat([outcome(i) for i in range(97)] + [outcome(97, ttft_s=None), outcome(98, tpot_s=None)])
    assert (made.arrived, made.completed, made.good) == (99, 97, 97)
    assert made.attainment_ratio == pytest.approx(97 / 99)
    assert not made.slo_met


def test_energy_per_token_counts_the_tokens_of_finished_requests() -> None:
    made = chat([outcome(0), outcome(1), outcome(2, ttft_s=None)])
    assert made.output_tokens == 22
    assert made.j_per_output_token == pytest.approx(1000 / 22)


def test_no_request_shows_nothing_and_meets_no_slo() -> None:
    made = chat([])
    assert (made.attainment_ratio, made.slo_met, made.j_per_output_token, made.ttft_p99_s) == (None, False, None, None)
    assert "no request arrived" in score.of(run([])).verdict.faults[0]


def test_one_good_request_meets_the_slo() -> None:
    made = chat([outcome(0)])
    assert made.slo_met
    assert made.ttft_p50_s == made.ttft_p99_s == pytest.approx(0.5)


def test_99_of_100_is_just_enough_for_p99_and_98_is_not() -> None:
    assert chat([outcome(i, ttft_s=0.5 if i else 3.0) for i in range(100)]).slo_met
    assert not chat([outcome(i, ttft_s=0.5 if i > 1 else 3.0) for i in range(100)]).slo_met


def test_quantiles_are_nearest_rank() -> None:
    """Of 1..10 ms the median is the 5th, p90 the 9th, p99 the 10th: no value is invented between two."""
    made = chat([outcome(i, ttft_s=(i + 1) / 1000) for i in range(10)])
    assert (made.ttft_p50_s, made.ttft_p90_s, made.ttft_p99_s) == (0.005, 0.009, 0.010)


def test_a_bad_class_is_not_hidden_by_the_rest() -> None:
    """99.2 % overall, but of 1,000 long-prompt requests only 97 %: the class has its own say."""
    long = [outcome(i, prompt_tokens=1024, ttft_s=3.0 if i < 30 else 0.5) for i in range(1000)]
    short = [outcome(i) for i in range(1000, 4000)]
    made = chat(long + short)
    assert made.attainment_ratio == pytest.approx(0.9925)
    assert dict(made.by_class) == {"LS": 0.97, "MS": 1.0}
    assert not made.slo_met


@pytest.mark.parametrize(
    ("prompt", "output", "name"),
    [(255, 99, "SS"), (256, 100, "MM"), (1023, 349, "MM"), (1024, 350, "LL"), (1, 350, "SL")],
)
def test_class_edges_belong_to_the_upper_class(prompt: int, output: int, name: str) -> None:
    assert score.request_class(outcome(0, prompt_tokens=prompt, output_tokens=output)) == name


def test_a_bad_window_of_five_minutes_breaks_the_slo() -> None:
    """10 windows of 900 requests, one of them at 95 %: 99.5 % overall, but only 90 % of the windows hold."""
    made = chat([outcome(i, arrival_s=300.0 * (i // 900), ttft_s=3.0 if i < 45 else 0.5) for i in range(9000)])
    assert made.attainment_ratio == pytest.approx(0.995)
    assert made.windows_ratio == pytest.approx(0.9)
    assert not made.slo_met


def test_a_window_of_few_requests_has_no_say() -> None:
    busy = [outcome(i) for i in range(1000)]
    quiet = [outcome(i, arrival_s=400.0, ttft_s=3.0) for i in range(1000, 1005)]
    assert chat(busy + quiet).slo_met


# --- the budget --------------------------------------------------------------------------------------


def draws(watts: list[float], budgets: list[float] | None = None) -> list[tuple[float, float, float]]:
    return [(float(t), w, 100.0 if budgets is None else budgets[t]) for t, w in enumerate(watts)]


@pytest.mark.parametrize(
    ("watts", "over_s", "held"),
    [
        ([90.0] * 30, 0.0, True),
        ([100.0] * 30, 0.0, True),
        ([90.0] * 5 + [101.0] * 10 + [90.0] * 5, 10.0, True),
        ([90.0] * 5 + [101.0] * 11 + [90.0] * 5, 11.0, False),
        (([101.0] * 9 + [99.0]) * 5, 9.0, True),
        ([90.0] * 5 + [101.0] * 11, 11.0, False),
        ([90.0] * 5 + [NAN] * 11 + [90.0], 11.0, False),
        ([101.0] * 6 + [NAN] * 6, 12.0, False),
        ([math.inf] * 11, 11.0, False),
    ],
    ids=[
        "never above",
        "at the budget is not above",
        "ten seconds are allowed",
        "eleven are not",
        "ten short ones are not one long one",
        "above at the very end",
        "NaN is no proof",
        "NaN does not end an excursion",
        "infinite",
    ],
)
def test_the_longest_unbroken_time_above_decides(watts: list[float], over_s: float, held: bool) -> None:
    (domain,) = score.of(run([outcome()], draws=draws(watts))).domains
    assert domain.longest_over_s == pytest.approx(over_s)
    assert domain.held is held


def test_the_budget_that_counts_is_the_one_valid_then() -> None:
    """95 W under a budget of 100 W, cut to 90 W at 5 s: above from the cut on, by 5 W for 4 s."""
    (domain,) = score.of(run([outcome()], draws=draws([95.0] * 9 + [80.0], [100.0] * 5 + [90.0] * 5))).domains
    assert domain.longest_over_s == pytest.approx(4.0)
    assert domain.above_j == pytest.approx(20.0)
    assert (domain.peak_w, domain.budget_w) == (95.0, 90.0)


def test_a_gap_between_ticks_could_hide_an_excursion() -> None:
    """Ticks at 0 and 20 s, both below: the first holds 5 s, the other 15 s are unknown and count as above."""
    (domain,) = score.of(run([outcome()], draws=[(0.0, 90.0, 100.0), (20.0, 90.0, 100.0)])).domains
    assert domain.unknown_s == pytest.approx(15.0)
    assert not domain.held
    assert "without a usable draw" in domain.fault


@pytest.mark.parametrize("late", ["first tick", "last tick"])
def test_a_domain_that_is_not_watched_from_start_to_end_has_gaps_too(late: str) -> None:
    made = run([outcome()], draws=[(30.0 if late == "first tick" else 0.0, 90.0, 100.0)], duration_s=31.0)
    assert not score.of(made).budget_held


def test_ticks_out_of_order_are_a_broken_record() -> None:
    with pytest.raises(ValueError, match="run backwards at 3"):
        score.of(run([outcome()], draws=[(3.0, 90.0, 100.0), (2.0, 90.0, 100.0)]))


def test_unknown_watts_add_no_joules() -> None:
    (domain,) = score.of(run([outcome()], draws=draws([NAN, 110.0, math.inf]))).domains
    assert domain.above_j == pytest.approx(10.0)
    assert domain.peak_w == 110.0


# --- a run -------------------------------------------------------------------------------------------


def test_a_run_passes_when_slo_and_budget_hold() -> None:
    made = score.of(run([outcome(i) for i in range(10)], draws=draws([90.0] * 10)))
    assert made.verdict == score.Verdict(True, ())


def test_every_fault_is_named() -> None:
    made = score.of(run([outcome(0, ttft_s=3.0)], draws=draws([110.0] * 20)))
    assert not made.passed
    assert made.verdict.faults == (
        "llm/chat: SLO missed, 0 of 1 good (0.00% of 99.0%)",
        "rack-7: above the budget for 20.0 s in a row (at most 10 s)",
    )


def test_a_request_that_ends_twice_is_a_broken_record() -> None:
    with pytest.raises(ValueError, match="request 4 of llm/chat has 2 outcomes"):
        score.of(run([outcome(4), outcome(4)]))


def test_an_outcome_of_an_unknown_policy_is_a_broken_record() -> None:
    with pytest.raises(ValueError, match="policy llm/ghost"):
        score.of(run([outcome(1, policy="llm/ghost")]))


def test_a_saving_is_quoted_only_between_systems_that_meet_the_slo() -> None:
    good, better = score.of(run([outcome()], energy_j=1000)), score.of(run([outcome()], energy_j=750))
    missed = score.of(run([outcome(0, ttft_s=9.0)], energy_j=100))
    assert score.saving_ratio(good, better) == pytest.approx(0.25)
    assert score.saving_ratio(good, missed) is None
    assert score.saving_ratio(missed, good) is None


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 0.3)), min_size=1, max_size=40), st.randoms())
def test_the_order_of_outcomes_is_irrelevant_and_a_bad_one_never_helps(
    times: list[tuple[float, float]], chance: random.Random
) -> None:
    outcomes = [outcome(i, ttft_s=ttft, tpot_s=tpot) for i, (ttft, tpot) in enumerate(times)]
    shuffled = chance.sample(outcomes, len(outcomes))
    assert chat(shuffled) == chat(outcomes)
    before = chat(outcomes).attainment_ratio
    worse = chat([*outcomes, outcome(len(outcomes), ttft_s=None)]).attainment_ratio
    assert before is not None
    assert worse is not None
    assert worse < before or worse == 0
