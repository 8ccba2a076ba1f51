"""The scores of DESIGN 7.1, by hand and against everything that could fool them."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.slo import Slo
from capstan.replay.runs import Energy, Run
from capstan.replay.scores import limits, measure, score
from capstan.replay.scores.limits import SloSet
from support.replay import CHAT, SLO, Fate, domain, fate, outcomes, run, series, service

NAN = math.nan
J1000 = Energy(600.0, 300.0, 100.0)


def chat(fates: list[Fate], slo: Slo = SLO) -> score.PolicyScore:
    return score.policy_score(CHAT, slo, outcomes(fates), J1000)


# --- a good request ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttft_s", "tpot_s", "good"),
    [
        (2.0, 0.1, True),
        (2.001, 0.05, False),
        (0.5, 0.101, False),
        (0.5, NAN, False),
        (NAN, NAN, False),
        (NAN, 0.05, False),
        (-0.001, 0.05, False),
        (0.5, -0.001, False),
        (math.inf, 0.05, False),
        (0.5, math.inf, False),
    ],
    ids=[
        "both limits to the letter",
        "first token late",
        "tokens slow",
        "never finished",
        "rejected",
        "NaN first token",
        "first token before arrival (clock skew)",
        "finish before the first token (clock skew)",
        "first token never",
        "finish never",
    ],
)
def test_a_request_is_good_when_both_limits_hold(ttft_s: float, tpot_s: float, good: bool) -> None:
    made = chat([fate(ttft_s=ttft_s, tpot_s=tpot_s)], Slo(ttft_s=2.0, tpot_s=0.1 + 1e-12))
    assert made.figures.good == int(good)


def one_token(ttft_s: float, finish_s: float) -> Fate:
    return dataclasses.replace(fate(ttft_s=ttft_s, output=1), finish_s=finish_s, max_tbt_s=NAN)


def test_one_output_token_is_judged_by_its_first_token_alone() -> None:
    only = chat([one_token(1.9, 1.9)]).figures
    assert only.good == 1
    assert only.tpot_s == measure.Quantiles(None, None, None)
    assert chat([one_token(2.1, 2.1)]).figures.good == 0


def test_one_output_token_that_never_finished_is_bad() -> None:
    assert chat([one_token(0.5, NAN)]).figures.good == 0


def test_each_request_can_be_asked_for() -> None:
    held = limits.of(SloSet.SCENARIO, SLO)
    made = outcomes([fate(0.0), fate(1.0, ttft_s=9.0), fate(2.0, tpot_s=NAN), fate(3.0)])
    assert measure.good(made, held).tolist() == [True, False, False, True]
    assert measure.good(outcomes(), held).tolist() == []


def test_dots_keep_bad_requests_before_good_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 990 good and 10 late requests at most 100 are drawn: every late one, and at most 50 others."""
    made = outcomes([fate(float(i), ttft_s=3.0 if i % 100 == 7 else 0.5) for i in range(1000)])
    at_s, value_s = measure.dots(made, measure.Latency.TTFT, 2.0, 100)
    assert at_s[value_s > 2.0].tolist() == [float(i) for i in range(7, 1000, 100)]
    assert 45 <= len(at_s) - 10 <= 50
    assert at_s.tolist() == sorted(at_s)
    monkeypatch.setattr(measure, "BLOCK", 100)
    in_blocks, late_s = measure.dots(made, measure.Latency.TTFT, 2.0, 100)
    assert (len(in_blocks) <= 100, int((late_s > 2.0).sum())) == (True, 10)


# --- limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "limit_s"), [(1, 0.25), (255, 0.25), (256, 0.4), (1023, 0.4), (1024, 2.0), (9000, 2.0)]
)
def test_the_class_set_limits_the_first_token_by_prompt(prompt: int, limit_s: float) -> None:
    """DESIGN 7.1: 250 / 400 / 2,000 ms, lower bound included."""
    held = limits.of(SloSet.CLASS, SLO)
    assert held.ttft_of(np.array([prompt])).tolist() == [limit_s]
    assert (held.tpot_s, held.percentile_ratio) == (0.1, 0.99)


def test_a_set_replaces_the_policys_own_limits() -> None:
    """300 ms for 100 tokens: late under `class` (250 ms), in time under `chat` (2 s) and under the policy's 200 ms."""
    strict = dataclasses.replace(service([fate(prompt=100, ttft_s=0.3)]), slo=Slo(0.2, 0.05, 0.9))
    made = dataclasses.replace(run(), services=(strict,))
    met = {name: score.of(made, name).slo_met for name in SloSet}
    assert met == {SloSet.SCENARIO: False, SloSet.CHAT: True, SloSet.CLASS: False}
    assert score.of(made, SloSet.CLASS).policies[0].limits.words == "250/400/2,000 ms, 100 ms"


# --- a policy ----------------------------------------------------------------------------------------


def test_rejected_and_unfinished_requests_count_as_bad() -> None:
    made = chat([fate() for _ in range(97)] + [fate(ttft_s=NAN), fate(tpot_s=NAN)])
    assert (made.figures.arrived, made.figures.completed, made.figures.good) == (99, 97, 97)
    assert made.figures.attainment_ratio == pytest.approx(97 / 99)
    assert not made.slo_met


def test_energy_per_token_counts_the_tokens_of_finished_requests() -> None:
    made = chat([fate(), fate(), fate(ttft_s=NAN)])
    assert made.figures.output_tokens == 22
    assert made.j_per_output_token == pytest.approx(1000 / 22)


def test_no_request_shows_nothing_and_meets_no_slo() -> None:
    made = chat([])
    assert (made.figures.attainment_ratio, made.slo_met, made.j_per_output_token) == (None, False, None)
    assert (made.figures.ttft_s.p99, made.figures.fluidity_low_ratio) == (None, None)
    assert "no request arrived" in score.of(run([])).verdict.faults[0]


def test_one_good_request_meets_the_slo() -> None:
    made = chat([fate()])
    assert made.slo_met
    assert made.figures.ttft_s.p50 == made.figures.ttft_s.p99 == pytest.approx(0.5)


def test_99_of_100_is_just_enough_for_p99_and_98_is_not() -> None:
    assert chat([fate(ttft_s=0.5 if i else 3.0) for i in range(100)]).slo_met
    assert not chat([fate(ttft_s=0.5 if i > 1 else 3.0) for i in range(100)]).slo_met


def test_quantiles_are_nearest_rank() -> None:
    """Of 1..10 ms the median is the 5th, p90 the 9th, p99 the 10th: no value is invented between two."""
    made = chat([fate(ttft_s=(i + 1) / 1000) for i in range(10)])
    assert made.figures.ttft_s == measure.Quantiles(0.005, 0.009, 0.010)


def test_the_longest_gap_has_quantiles_of_its_own_and_is_absent_where_nobody_measured_it() -> None:
    gaps = [0.2, 0.1, NAN, 0.4]
    made = chat([dataclasses.replace(fate(), max_tbt_s=gap) for gap in gaps])
    assert made.figures.tbt_s == measure.Quantiles(0.2, 0.4, 0.4)


def test_a_bad_class_is_not_hidden_by_the_rest() -> None:
    """99.25 % overall, but of 1,000 long-prompt requests only 97 %: the class has its own say."""
    long = [fate(prompt=1024, ttft_s=3.0 if i < 30 else 0.5) for i in range(1000)]
    made = chat(long + [fate() for _ in range(3000)])
    assert made.figures.attainment_ratio == pytest.approx(0.9925)
    assert dict(made.figures.by_class) == {"LS": 0.97, "MS": 1.0}
    assert dict(made.figures.class_mix) == {"LS": 0.25, "MS": 0.75}
    assert not made.slo_met


def test_a_class_of_999_has_no_say() -> None:
    long = [fate(prompt=1024, ttft_s=3.0 if i < 30 else 0.5) for i in range(999)]
    assert chat(long + [fate() for _ in range(3000)]).slo_met


@pytest.mark.parametrize(
    ("prompt", "output", "name"),
    [(255, 99, "SS"), (256, 100, "MM"), (1023, 349, "MM"), (1024, 350, "LL"), (1, 350, "SL")],
)
def test_class_edges_belong_to_the_upper_class(prompt: int, output: int, name: str) -> None:
    assert limits.CLASSES[limits.class_codes(np.array([prompt]), np.array([output]))[0]] == name


def windowed(per_window: int, bad_in_first: int) -> list[Fate]:
    return [fate(300.0 * (i // per_window), ttft_s=3.0 if i < bad_in_first else 0.5) for i in range(10 * per_window)]


def test_a_bad_window_of_five_minutes_breaks_the_slo() -> None:
    """10 windows of 900 requests, one of them at 95 %: 99.5 % overall, but only 90 % of the windows hold."""
    made = chat(windowed(900, 45))
    assert made.figures.attainment_ratio == pytest.approx(0.995)
    assert made.figures.windows_ratio == pytest.approx(0.9)
    assert not made.slo_met


def test_a_fault_says_which_gate_was_missed_where_the_total_is_fine() -> None:
    """The run above: a reader of `99.50 % of 99 %` alone would not believe that it missed."""
    fates = [fate(arrival_s=10.0 * w + 0.01 * i) for w in range(2) for i in range(2)]
    made = score.of(run(fates))
    policy = dataclasses.replace(
        made.policies[0],
        slo_met=False,
        figures=dataclasses.replace(made.policies[0].figures, windows_ratio=0.9, by_class=(("SL", 0.98996),)),
    )
    (fault,) = dataclasses.replace(made, policies=(policy,)).verdict.faults
    assert fault.endswith(
        "4 of 4 good (100.00 % of 99 %); SL has 98.99 %, 90.00 % of the 5-minute windows keep it, 95 % must"
    )


def test_windows_do_not_depend_on_the_blocks_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = chat(windowed(900, 45))
    monkeypatch.setattr(measure, "BLOCK", 7)
    parts = chat(windowed(900, 45))
    assert parts.figures.fluidity_low_ratio == pytest.approx(whole.figures.fluidity_low_ratio)
    assert dataclasses.replace(parts.figures, fluidity_low_ratio=0, fluidity_high_ratio=0) == dataclasses.replace(
        whole.figures, fluidity_low_ratio=0, fluidity_high_ratio=0
    )


def test_a_window_of_few_requests_has_no_say() -> None:
    busy = [fate() for _ in range(1000)]
    quiet = [fate(400.0, ttft_s=3.0) for _ in range(5)]
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
    (domain,) = score.of(run([fate()], draws=draws(watts))).domains
    assert domain.longest_excursion_s == pytest.approx(over_s)
    assert domain.held is held


def test_the_budget_that_counts_is_the_one_valid_then() -> None:
    """95 W under a budget of 100 W, cut to 90 W at 5 s: above from the cut on, by 5 W for 4 s."""
    (domain,) = score.of(run([fate()], draws=draws([95.0] * 9 + [80.0], [100.0] * 5 + [90.0] * 5))).domains
    assert domain.longest_excursion_s == pytest.approx(4.0)
    assert domain.overbudget_j == pytest.approx(20.0)
    assert (domain.peak_w, domain.budget_w) == (95.0, 90.0)


def test_a_gap_between_samples_could_hide_an_excursion() -> None:
    """Samples at 0 and 20 s, both below: the first holds 5 s, the other 15 s are unknown and count as above."""
    (domain,) = score.of(run([fate()], draws=[(0.0, 90.0, 100.0), (20.0, 90.0, 100.0)])).domains
    assert domain.unknown_s == pytest.approx(15.0)
    assert not domain.held
    assert "without a usable draw" in domain.fault


@pytest.mark.parametrize("late", ["first sample", "last sample"])
def test_a_domain_that_is_not_watched_from_start_to_end_has_gaps_too(late: str) -> None:
    made = run([fate()], draws=[(30.0 if late == "first sample" else 0.0, 90.0, 100.0)], duration_s=31.0)
    assert not score.of(made).budget_held


def test_samples_out_of_order_are_a_broken_record() -> None:
    with pytest.raises(ValueError, match="run backwards at 3"):
        score.of(run([fate()], draws=[(3.0, 90.0, 100.0), (2.0, 90.0, 100.0)]))


def test_unknown_watts_add_no_joules() -> None:
    (domain,) = score.of(run([fate()], draws=draws([NAN, 110.0, math.inf]))).domains
    assert domain.overbudget_j == pytest.approx(10.0)
    assert domain.peak_w == 110.0


# --- a run -------------------------------------------------------------------------------------------


def test_a_run_passes_when_slo_and_budget_hold() -> None:
    made = score.of(run([fate() for _ in range(10)], draws=draws([90.0] * 10)))
    assert made.verdict == score.Verdict(True, ())


def test_every_fault_is_named() -> None:
    made = score.of(run([fate(ttft_s=3.0)], draws=draws([110.0] * 20)))
    assert not made.passed
    assert made.verdict.faults == (
        "llm/chat: SLO missed, 0 of 1 good (0.00 % of 99 %)",
        "rack-7: above the budget for 20.0 s in a row (at most 10 s)",
    )


def two_services() -> Run:
    """1,000 short requests of chat, all good; 3 of batch, one late."""
    chatty = service([fate() for _ in range(1000)], energy=Energy(70.0, 20.0, 10.0))
    batch = service([fate(ttft_s=t) for t in (1.0, 2.0, 9.0)], policy="llm/batch", energy=Energy(1.0, 2.0, 3.0))
    return dataclasses.replace(run(), services=(chatty, batch), energy_unassigned_j=40.0)


def test_a_run_of_two_services_is_scored_as_a_whole_too() -> None:
    made = score.of(two_services())
    assert (made.overall.arrived, made.overall.good) == (1003, 1002)
    assert made.overall.attainment_ratio == pytest.approx(1002 / 1003)
    assert (made.overall.ttft_s.p50, made.overall.ttft_s.p99) == (0.5, 0.5)
    assert not made.slo_met, "2 of 3 of batch are not 99 %"
    assert made.energy == Energy(71.0, 22.0, 13.0)
    assert (made.energy_j, made.fleet_j) == (106.0, 146.0)
    assert dict(made.overall.by_class) == {"MS": 1.0}, "batch has no 1,000 requests of a class"


def test_peak_power_is_of_the_sum_and_services_may_be_sampled_at_different_times() -> None:
    """a: 100 W to 10 s, 300 W to 20 s. b: 50 W to 5 s, 500 W to 15 s, unknown from there on. 10-15 s: 800 W."""
    pair = tuple(
        dataclasses.replace(service(policy=name), series=series(t_s, watts))
        for name, t_s, watts in (("a", [10.0, 20.0], [100.0, 300.0]), ("b", [5.0, 15.0], [50.0, 500.0]))
    )
    assert score.of(dataclasses.replace(run(), services=pair)).peak_power_w == 800.0


def test_unknown_watts_are_no_peak() -> None:
    lone = dataclasses.replace(service(), series=series([1.0, 2.0], [NAN, 7.0]))
    assert score.of(dataclasses.replace(run(), services=(lone,))).peak_power_w == 7.0
    assert score.of(run()).peak_power_w is None


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [("arrival_s", [0.0, 2.0, 1.0], "run backwards at request 2"), ("arrival_s", [0.0, NAN, 1.0], "request 1 has no")],
)
def test_a_broken_trace_is_refused(column: str, value: list[float], says: str) -> None:
    made = outcomes([fate(), fate(), fate()])
    broken = dataclasses.replace(made, requests=dataclasses.replace(made.requests, **{column: np.array(value)}))
    with pytest.raises(ValueError, match=says):
        score.policy_score(CHAT, SLO, broken, J1000)


def test_columns_of_unequal_length_are_a_broken_record() -> None:
    made = outcomes([fate(), fate()])
    with pytest.raises(ValueError, match="differ in length"):
        score.policy_score(CHAT, SLO, dataclasses.replace(made, finish_s=made.finish_s[:1]), J1000)


def test_a_policy_or_domain_that_stands_there_twice_is_a_broken_record() -> None:
    both = dataclasses.replace(run(), services=(service(), service()))
    with pytest.raises(ValueError, match="llm/chat, llm/chat"):
        score.of(both)
    twice = dataclasses.replace(run([fate()]), domains=(domain([(0, 1, 2)]), domain([(0, 1, 2)])))
    with pytest.raises(ValueError, match="rack-7, rack-7"):
        score.of(twice)


def test_a_saving_is_quoted_only_between_systems_that_meet_the_slo() -> None:
    good, better = score.of(run([fate()], energy_j=1000)), score.of(run([fate()], energy_j=750))
    missed = score.of(run([fate(ttft_s=9.0)], energy_j=100))
    assert score.saving_ratio(good, better) == pytest.approx(0.25)
    assert score.saving_ratio(good, missed) is None
    assert score.saving_ratio(missed, good) is None


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 0.3)), min_size=1, max_size=40), st.randoms())
def test_the_order_of_simultaneous_requests_is_irrelevant_and_a_bad_one_never_helps(
    times: list[tuple[float, float]], chance: random.Random
) -> None:
    fates = [fate(ttft_s=ttft, tpot_s=tpot) for ttft, tpot in times]
    shuffled = chat(chance.sample(fates, len(fates))).figures
    figures = chat(fates).figures
    assert (shuffled.good, shuffled.ttft_s, shuffled.tpot_s) == (figures.good, figures.ttft_s, figures.tpot_s)
    before, worse = figures.attainment_ratio, chat([*fates, fate(ttft_s=NAN)]).figures.attainment_ratio
    assert before is not None
    assert worse is not None
    assert worse < before or worse == 0
