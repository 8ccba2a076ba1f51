"""llm-d's WVA: both analysers against hand calculations, and two stages over time."""

from __future__ import annotations

import pytest

from capstan.replay.autoscalers import defaults, frame, wva, wva_tokens
from capstan.replay.autoscalers.registry import REGISTRY
from support import autoscalers as fake
from support import builders

V1, V2 = defaults.WvaV1(), defaults.WvaV2()


@pytest.mark.parametrize(
    ("peaks", "expected"),
    [
        pytest.param([(0.75, 0), (0.65, 1)], 0, id="spare (0.05+0.15)/2=0.10, (5+4)/2=4.5: enough; one fewer is not"),
        pytest.param([(0.75, 0), (0.70, 0)], 1, id="spare-kv 0.075 < 0.10"),
        pytest.param([(0.10, 3), (0.10, 2)], 1, id="spare-queue (2+3)/2=2.5 < 3"),
        pytest.param([(0.85, 0), (0.10, 9)], 1, id="all-saturated: both spares 0"),
        pytest.param([(0.85, 0), (0.20, 0)], 0, id="one-left: spare 0.6, but no fewer than two to step down"),
        pytest.param([(0.20, 0), (0.30, 0)], -1, id="spare 0.55: 0.80-0.25x2=0.30 >= 0.10"),
        pytest.param([(0.40, 0), (0.40, 0)], 0, id="spare 0.40: 0.80-0.40x2=0 < 0.10"),
        pytest.param([(0.40, 0), (0.40, 0), (0.40, 0)], -1, id="spare 0.40: 0.80-0.40x1.5=0.20"),
        pytest.param([(0.10, 1), (0.10, 1)], -1, id="queue: 5-1x2=3 >= 3"),
        pytest.param([(0.10, 2), (0.10, 1)], 0, id="queue: 5-1.5x2=2 < 3, though 3.5 is enough to stay"),
    ],
)
def test_saturation(peaks: list[tuple[float, float]], expected: int) -> None:
    assert wva.step([wva.Peak(*peak) for peak in peaks], V1) == expected


def test_wva_v1_steps_once_a_minute_and_never_while_a_pod_starts() -> None:
    system = REGISTRY["wva-v1"]()
    system.start(fake.service(2))
    full, new = fake.pod(kv_usage=0.79), fake.pod(ready=False)
    assert fake.asked(system, 0.0, fake.seen(full, full)) == 3
    starting = fake.seen(full, full, new)
    assert [fake.asked(system, t, starting) for t in (15.0, 60.0, 75.0, 120.0)] == [3, 3, 3, 3], "frozen"
    assert fake.asked(system, 135.0, fake.seen(full, full, full)) == 3, "ready, but the minute is not over"
    assert fake.asked(system, 180.0, fake.seen(full, full, full)) == 4


def test_wva_v1_goes_on_above_ten_replicas() -> None:
    """11 -> 12 is 9 % of 11: an HPA with its usual tolerance of 10 % would stay at 11 for ever."""
    system = REGISTRY["wva-v1"]()
    system.start(fake.service(11))
    assert fake.asked(system, 0.0, fake.seen(*[fake.pod(kv_usage=0.79)] * 11)) == 12


def test_wva_v1_goes_down_after_the_window_of_its_hpa_and_waits_for_it() -> None:
    system = REGISTRY["wva-v1"]()
    system.start(fake.service(3))
    idle = fake.seen(*[fake.pod()] * 3)
    counts = [fake.asked(system, float(t), idle) for t in range(0, 331, 15)]
    assert counts[:20] == [3] * 20, "advice 2 from t = 0, but the HPA saw 3 then: 300 s"
    assert counts[20] == 2
    two = fake.seen(*[fake.pod()] * 2)
    later = {t: fake.asked(system, float(t), two) for t in range(345, 661, 15)}
    # at t = 360 the analyser sees 2 of 2 and says 1; the HPA's last advice of 2 is that of t = 345, gone at 645
    assert [t for t, count in later.items() if count == 1] == [645, 660]


def test_tokens_that_a_replica_computes_before_anything_was_seen() -> None:
    """B = 512, S = 256, I = 1000, O = 200: N = 512 x 200 / 1200 = 85.33; x 1100 = 93,867."""
    assert wva_tokens.computed_tokens(builders.profile(), 1000, 200) == pytest.approx(93_866.7, abs=0.1)
    # I = 10, O = 2000: 512 x 2000 / 2010 = 509 > S: 256 x 1010
    assert wva_tokens.computed_tokens(builders.profile(), 10, 2000) == 258_560


@pytest.mark.parametrize(("output", "expected"), [(99.0, 0), (100.0, 1), (499.0, 1), (500.0, 2)])
def test_buckets(output: float, expected: int) -> None:
    assert wva_tokens.bucket(output) == expected


@pytest.mark.parametrize(
    ("demand", "ready", "pending", "expected"),
    [
        pytest.param(190, 200, 0, 1, id="190/0.85-200=23.5"),
        pytest.param(190, 200, 100, 0, id="what-starts-is-supply"),
        pytest.param(400, 200, 0, 3, id="400/0.85-200=270.6"),
        pytest.param(150, 200, 0, 0, id="between: 176.5 wanted, 214.3 to keep"),
        pytest.param(60, 200, 0, -1, id="200-60/0.70=114.3"),
        pytest.param(0, 300, 0, -3, id="nothing-asked"),
    ],
)
def test_token_change(demand: float, ready: float, pending: float, expected: int) -> None:
    assert wva_tokens.change(demand, ready=ready, pending=pending, one=100.0, d=V2) == expected


def test_wva_v2_learns_what_a_replica_holds_when_its_queue_grows() -> None:
    analyser = wva_tokens.Tokens(fake.service(2), V2)
    # nothing observed: capacity 93,867; demand 2 x 90,000 = 180,000: / 0.85 - 187,733 = 24,031, so +1
    assert analyser.advise(0.0, fake.seen(*[fake.pod(held=90_000)] * 2)) == 3
    # queues of 5 at 50,000 tokens: capacity 50,000; demand 2 x (50,000 + 5 x 1000) = 110,000; / 0.85 - 100,000 = 29,412
    queued = fake.pod(held=50_000, waiting=5)
    assert analyser.advise(60.0, fake.seen(queued, queued)) == 3
    # the same two pods at 43,000 without a queue: 86,000 / 0.85 = 101,176 > 100,000: the memory of 50,000 makes it +1
    assert analyser.advise(120.0, fake.seen(*[fake.pod(held=43_000)] * 2)) == 3


def test_wva_v2_keeps_at_least_one_and_stays_within_bounds() -> None:
    analyser = wva_tokens.Tokens(fake.service(2), V2)
    assert analyser.advise(0.0, fake.seen(*[fake.pod()] * 2)) == 1
    assert analyser.advise(60.0, fake.seen(*[fake.pod(held=390_000, waiting=4000)] * 2)) == 12
    assert frame.Limits.of(fake.service(2)) == frame.Limits(1, 12)
