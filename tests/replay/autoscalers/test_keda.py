"""llm-d's SLO scaler behind KEDA, against hand calculations."""

from __future__ import annotations

import pytest

from capstan.replay.autoscalers import defaults, keda
from capstan.replay.autoscalers.registry import REGISTRY
from support import autoscalers as fake

D = defaults.KedaSlo()


@pytest.mark.parametrize(
    ("ttft", "tpot", "expected"),
    [(1.0, 0.03, 0.5), (0.2, 0.08, 0.8), (30.0, 0.05, 2.0), (None, 0.05, 0.5), (None, None, None)],
)
def test_pressure_is_the_worse_of_two_ratios(ttft: float | None, tpot: float | None, expected: float | None) -> None:
    """Limits 2 s and 0.1 s: 1.0 / 2 = 0.5; 0.08 / 0.1 = 0.8; 30 / 2 = 15 is cut at 2."""
    assert keda.pressure(fake.FakeWindow(ttft=ttft, tpot=tpot), fake.SLO, D) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("current", "s", "expected"),
    [(4, 0.5, 4), (4, 0.55, 4), (4, 0.9, 7), (4, 2.0, 15), (4, 0.40, 4), (4, 0.25, 3), (4, 0.05, 1)],
)
def test_asked(current: int, s: float, expected: int) -> None:
    """4 x 0.9 / 0.55 = 6.5; 4 x 2 / 0.55 = 14.5; 4 x 0.25 / 0.4 = 2.5; 4 x 0.05 / 0.4 = 0.5."""
    assert keda.asked(current, s, D) == expected


def test_an_increase_counts_by_the_share_of_ready_pods_and_a_decrease_in_full() -> None:
    assert keda.credited(4, 7, 0.75) == 6.25
    assert keda.credited(4, 7, 0.0) == 4
    assert keda.credited(4, 2, 0.5) == 2


def test_keda_slo_follows_latency_up_in_steps_of_its_rate_and_down_one_pod_per_120_s() -> None:
    system = REGISTRY["keda-slo"]()
    system.start(fake.service(2))
    hot, cold = fake.FakeWindow(ttft=4.0), fake.FakeWindow(ttft=0.1, tpot=0.01)
    # s = 2: ceil(2 x 2 / 0.55) = 8; the rate allows max(2 x 2, 2 + 4) = 6
    assert fake.asked(system, 0.0, fake.seen(fake.pod(), fake.pod(), window=hot)) == 6
    six = fake.seen(*[fake.pod()] * 6, window=cold)
    assert [fake.asked(system, t, six) for t in (60.0, 285.0)] == [6, 6], "the 8 of t = 0 holds for 300 s"
    assert fake.asked(system, 300.0, six) == 5
    five = fake.seen(*[fake.pod()] * 5, window=cold)
    assert [fake.asked(system, t, five) for t in (360.0, 405.0, 420.0)] == [5, 5, 4]


def test_keda_slo_holds_when_nothing_has_finished() -> None:
    system = REGISTRY["keda-slo"]()
    system.start(fake.service(3))
    blind = fake.FakeWindow(ttft=None, tpot=None)
    assert fake.asked(system, 0.0, fake.seen(*[fake.pod()] * 3, window=blind)) == 3
