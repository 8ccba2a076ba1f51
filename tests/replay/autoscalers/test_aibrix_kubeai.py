"""AIBrix and KubeAI against hand calculations."""

from __future__ import annotations

import dataclasses

import pytest

from capstan.replay.autoscalers import aibrix, defaults, kubeai, loadtest
from capstan.replay.autoscalers.registry import REGISTRY, VARIANTS
from support import autoscalers as fake

D = defaults.Aibrix()
SHIPPED = defaults.Aibrix(repaired=False)


@pytest.mark.parametrize(
    ("pods", "ratio", "expected"),
    [
        (4, 1.1, 4),
        (4, 1.5, 6),
        (4, 3.0, 8),
        (4, 0.9, 4),
        (4, 0.8, 4),
        (4, 0.7, 3),
        (4, 0.3, 2),
        (1, 0.1, 1),
        (5, 0.1, 2),
    ],
)
def test_apa(pods: int, ratio: float, expected: int) -> None:
    """4 x 1.5 = 6; 4 x 3 = 12 > 2 x 4; ceil(3.2) = 4; ceil(2.8) = 3; max(2, ceil(1.2)) = 2; max(floor(2.5), 1) = 2."""
    assert aibrix.apa(pods, ratio, D) == expected


@pytest.mark.parametrize(
    ("pods", "stable", "panic", "expected"),
    [
        pytest.param(4, 4.3, 4.3, 4, id="4.3 / 4 is within 10 %"),
        pytest.param(4, 6.2, 6.2, 7, id="ceil(6.2)"),
        pytest.param(4, 6.2, 13.0, 8, id="panic 13 > 2 x 6.2: max(7, 13), at most 8"),
        pytest.param(4, 6.2, 12.0, 7, id="12 < 12.4: no panic"),
        pytest.param(4, 1.2, 1.2, 2, id="at least half"),
        pytest.param(4, 0.0, 3.0, 3, id="stable 0 is panic: max(2, 3)"),
    ],
)
def test_kpa_repaired(pods: int, stable: float, panic: float, expected: int) -> None:
    assert aibrix.kpa(pods, stable, panic, D) == expected


def test_kpa_as_shipped_takes_the_load_of_one_pod_for_that_of_all() -> None:
    """Each of 8 pods at 1.6 targets: ceil(1.6) = 2, held at half of 8; the sum of 12.8 asks for 13."""
    assert aibrix.kpa(8, 1.6, 1.6, SHIPPED) == 4
    assert aibrix.kpa(8, 12.8, 12.8, D) == 13


BLIND = fake.FakeWindow(finished=0)  # nothing finished: the target is that of the lengths assumed before
TARGET = loadtest.Target(fake.service(), defaults.LoadTest()).value(0.0, fake.seen(fake.pod(), window=BLIND))


def pods(count: int, share: float) -> fake.FakeService:
    """Pods with a share of the target in flight each."""
    return fake.seen(*[fake.pod(running=int(share * TARGET))] * count, window=BLIND)


def test_aibrix_means_over_its_windows_and_takes_the_least_advice_of_300_s_on_the_way_down() -> None:
    system = REGISTRY["aibrix-apa"]()
    system.start(fake.service(4))
    held = [fake.asked(system, 10.0 * k, pods(4, 0.2)) for k in range(17)]
    assert held == [4] * 17, "nothing goes down before 180 s are seen"
    # 17 ticks of 0.2 and one of 1.0: a mean of 0.244 x 4 = 0.98 pods, at least half of 4: at once, an HPA waits 300 s
    assert fake.asked(system, 170.0, pods(4, 1.0)) == 2
    assert fake.asked(system, 180.0, fake.seen(fake.pod(ready=False), desired=1)) == 1, "no pod reports: hold"


def test_aibrix_asks_no_more_while_what_it_asked_for_starts() -> None:
    system = REGISTRY["aibrix-apa"]()
    system.start(fake.service(4))
    assert fake.asked(system, 0.0, pods(4, 1.5)) == 6
    busy = pods(4, 1.5)
    starting = dataclasses.replace(busy, desired=6)
    assert [fake.asked(system, 10.0 * k, starting) for k in range(1, 13)] == [6] * 12


def test_kpa_variants_differ_by_the_sum() -> None:
    found = []
    for system in (REGISTRY["aibrix-kpa"](), VARIANTS["aibrix-kpa-faithful"]()):
        system.start(fake.service(6))
        [fake.asked(system, 10.0 * k, pods(6, 1.6)) for k in range(17)]
        found.append(fake.asked(system, 170.0, pods(6, 1.6)))
    assert found == [10, 3]  # ceil(6 x 1.6) = 10; max(floor(6 / 2), ceil(1.6)) = 3


def test_kubeai_averages_ten_minutes_and_goes_down_on_the_third_verdict() -> None:
    assert kubeai.wanted(230.0, 100.0) == 3
    assert kubeai.wanted(300.0, 100.0) == 3
    system = VARIANTS["kubeai-shipped"]()
    system.start(fake.service(2))
    assert fake.asked(system, 0.0, fake.seen(fake.pod(running=150), fake.pod(running=100), unrouted=40)) == 3
    quiet = fake.seen(*[fake.pod(running=10)] * 3)
    counts = [fake.asked(system, 10.0 * k, quiet) for k in range(1, 62)]
    # ten minutes are full with k = 59: (290 + 59 x 30) / 60 = 34.3, one replica, for the first, second, third time
    assert counts[:61] == [3] * 60 + [1]


def test_kubeai_forgets_what_is_older_than_ten_minutes() -> None:
    system = VARIANTS["kubeai-shipped"]()
    system.start(fake.service(3))
    assert fake.asked(system, 0.0, fake.seen(*[fake.pod(running=20_000)] * 3)) == 12
    twelve = fake.seen(*[fake.pod()] * 12)
    # with tick 59 the mean is 60,000 / 60 = 1000, 10 replicas; with tick 60 the 60,000 leaves, and nothing is left
    counts = [fake.asked(system, 10.0 * k, twelve) for k in range(1, 63)]
    assert counts[:60] == [12] * 60
    assert counts[60] == 1, "the third verdict in a row"
