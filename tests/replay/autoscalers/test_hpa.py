"""The HPA's formulas against hand calculations, and its stage over time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.replay.autoscalers import defaults, frame, hpa, loadtest, queue
from capstan.replay.autoscalers.registry import REGISTRY
from support import autoscalers as fake
from support import builders

D = defaults.Hpa()
WIDE = frame.Limits(1, 100)


@pytest.mark.parametrize(
    ("values", "missing", "pending", "current", "expected"),
    [
        pytest.param((10, 10), 0, 0, 2, 2, id="on-target-stays"),
        pytest.param((11, 11), 0, 0, 2, 2, id="ten-percent-over-is-tolerated"),
        pytest.param((11.2, 11.2), 0, 0, 2, 3, id="twelve-percent-over: ceil(1.12 x 2) = 3"),
        pytest.param((30, 20), 0, 0, 2, 5, id="ceil(2.5 x 2) = 5"),
        pytest.param((30, 20), 1, 0, 3, 5, id="starting-counts-0-going-up: 50 / 3 = 16.7, ceil(1.667 x 3) = 5"),
        pytest.param((30, 20), 1, 1, 4, 5, id="pending-too: 50 / 4 = 12.5, ceil(1.25 x 4) = 5"),
        pytest.param((14, 14), 1, 0, 3, 3, id="1.4-corrected-to-28 / 30-would-turn: hold"),
        pytest.param((2, 2), 0, 0, 2, 1, id="ceil(0.2 x 2) = 1"),
        pytest.param((2, 2), 2, 0, 4, 3, id="missing-counts-target-going-down: 24 / 4 = 6, ceil(0.6 x 4) = 3"),
        pytest.param((2, 2), 0, 2, 4, 1, id="pending-is-left-out-going-down: ceil(0.2 x 2) = 1"),
        pytest.param((2, 2), 3, 0, 2, 2, id="0.68 x 5 = 3.4 would go up on a down verdict: hold"),
    ],
)
def test_a_pods_metric(values: tuple[float, ...], missing: int, pending: int, current: int, expected: int) -> None:
    got = hpa.pods_metric(
        values, missing=missing, pending=pending, current=current, target=10, tolerance_ratio=D.tolerance_ratio
    )
    assert got == expected


def test_a_pods_metric_that_no_pod_reports_says_nothing() -> None:
    assert hpa.pods_metric((), missing=2, pending=0, current=2, target=10, tolerance_ratio=0.1) is None


@pytest.mark.parametrize(
    ("total", "current", "expected"),
    [(3.3, 3, 3), (3.4, 3, 4), (4.6, 3, 5), (2.7, 3, 3), (2.6, 3, 3), (1.9, 3, 2), (5.0, 0, 5), (0.0, 3, 0)],
)
def test_an_external_average(total: float, current: int, expected: int) -> None:
    """Target 1: ceil(total), unless total / current is within 10 % of 1. 3.3 / 3 = 1.1 is; 2.6 / 3 = 0.867 is not."""
    assert hpa.external_average(total, current=current, target=1.0, tolerance_ratio=0.1) == expected


def test_windows_hold_between_the_least_of_up_and_the_most_of_down() -> None:
    assert hpa.stabilised(5, 2, up_window=(), down_window=(2, 4)) == 4
    assert hpa.stabilised(5, 2, up_window=(), down_window=(9,)) == 5, "a past 9 keeps us, it does not lift us"
    assert hpa.stabilised(5, 9, up_window=(7,), down_window=(9,)) == 7
    assert hpa.stabilised(5, 9, up_window=(3,), down_window=(9,)) == 5, "a past 3 holds, it does not lower"


def test_rates_count_what_changed_within_their_period() -> None:
    pods, percent = defaults.Rate(4, False, 15), defaults.Rate(100, True, 15)
    assert hpa.highest(2, [(percent, 0), (pods, 0)]) == 6  # max(2 x 2, 2 + 4)
    assert hpa.highest(6, [(percent, 4), (pods, 4)]) == 6  # began at 2: the same 6, so no more in this period
    assert hpa.highest(10, [(percent, 0), (pods, 0)]) == 20
    assert hpa.lowest(5, [(defaults.Rate(1, False, 120), 0)]) == 4
    assert hpa.lowest(4, [(defaults.Rate(1, False, 120), -1)]) == 4  # began at 5, one has gone
    assert hpa.lowest(5, [(defaults.Rate(50, True, 60), 0)]) == 2  # 2.5, cut off


def test_the_default_stage_waits_300_s_to_go_down_and_obeys_the_highest_advice_of_that_time() -> None:
    stage = hpa.Stage(WIDE, hpa.Behaviour())
    assert stage.settle(0, 8, 8) == 8
    assert stage.settle(15, 8, 2) == 8
    assert stage.settle(150, 8, 5) == 8
    assert stage.settle(299, 8, 2) == 8, "the 8 of t = 0 is 299 s old"
    assert stage.settle(300, 8, 2) == 5, "now the highest of the window is the 5 of t = 150"
    assert stage.settle(450, 5, 2) == 2


def test_the_default_stage_goes_up_at_once_within_its_rates_and_bounds() -> None:
    stage = hpa.Stage(frame.Limits(1, 40), hpa.Behaviour())
    assert stage.settle(0, 3, 50) == 7  # max(3 x 2, 3 + 4)
    assert stage.settle(5, 7, 50) == 7  # the four of 5 s ago use up the period
    assert stage.settle(15, 7, 50) == 14
    assert stage.settle(30, 14, 50) == 28
    assert stage.settle(45, 28, 50) == 40


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=30))
def test_a_stage_never_leaves_its_bounds_nor_moves_against_its_advice(steps: list[tuple[int, int]]) -> None:
    stage, now_s, current = hpa.Stage(frame.Limits(2, 20), hpa.Behaviour()), 0.0, 5
    for wait_s, wanted in steps:
        now_s += wait_s
        settled = stage.settle(now_s, current, wanted)
        assert 2 <= settled <= 20
        assert min(current, max(wanted, 2)) <= settled <= max(current, min(wanted, 20))
        current = settled


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8), st.floats(1, 50))
def test_more_load_never_asks_for_less_when_all_pods_report(values: list[float], target: float) -> None:
    """With missing pods the controller itself breaks this at a ratio of exactly 1, where it fills them with 0."""

    def of(scale: float) -> int:
        got = hpa.pods_metric(
            [v * scale for v in values],
            missing=0,
            pending=0,
            current=len(values),
            target=target,
            tolerance_ratio=0.1,
        )
        assert got is not None
        return got

    assert of(1.5) >= of(1.0)


def test_the_load_test_of_hpa_queue_lies_inside_the_slo_and_below_its_limit() -> None:
    profile, load = builders.profile(), Workload(0.0, 1000.0, 200.0)
    full, share = (loadtest.target(profile, load, fake.SLO, ratio) for ratio in (1.0, 0.8))
    assert share == pytest.approx(0.8 * full)
    tight = loadtest.target(profile, load, Slo(ttft_s=2.0, tpot_s=0.03), 0.8)
    assert 1 <= tight < share, "a tighter limit means fewer in flight"


def test_in_flight_of_a_load_is_littles_law() -> None:
    """1 rps of one-chunk prompts: batch + 1 x the chunk's step, and the batch is rps x output x step."""
    profile, load = builders.profile(), Workload(1.0, 500.0, 100.0)
    # decode step at batch 1.67: 4 + 12 + 0.09 x 0.67 + 550 x 1.67 x 25 ns = 16.083 ms
    # with the prompt: 2 + (12^4 + (0.09 x 501.67)^4)^(1/4) - 12 = 35.206, + 500^2 / 2 x 1 ns = 35.33 ms more: 51.41 ms
    # in the mean over prompts whose squares are 1.9 times the mean's square: 35.206 + 1.9 x 0.125 = 35.444 ms
    # batch = 100 tokens/s x 16.083 ms / (1 - 1 rps x 35.444 ms) = 1.6674
    assert loadtest.in_flight(profile, load) == pytest.approx(1.6674 + 0.05141, abs=2e-4)


def test_hpa_queue_scales_on_running_and_waiting_and_holds_while_it_sees_nothing() -> None:
    system = REGISTRY["hpa-queue"]()
    assert system.start(fake.service(2)) == fake.service(2).start
    goal = queue.InFlight(fake.service(2), D, defaults.LoadTest())._target.value(0.0, fake.seen(fake.pod()))
    busy = fake.pod(running=round(goal * 1.5), waiting=0)
    assert fake.asked(system, 0.0, fake.seen(busy, busy)) == 3  # ceil(1.5 x 2)
    assert fake.asked(system, 5.0, fake.seen(busy, busy)) == 2, "not its turn before 15 s"
    assert fake.asked(system, 15.0, fake.seen(fake.pod(ready=False), desired=1)) == 1, "no metric, no verdict"
