"""The invariants of facts/polca.md 5.5 that the machine covers, on random lives of random domains.

I1 is tests/powercap/test_safety.py; I8 and I10 belong to the setter and the lease (tests/agent); I11 and I13 need a
plant in the loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.model.sample import Missing, Stale
from capstan.powercap.domains import (
    LADDER,
    Caps,
    ClassCaps,
    Domain,
    DomainMemory,
    Level,
    NodeSample,
    SafeSetting,
    Step,
    Thresholds,
    Timers,
    tightest,
)
from support import power
from support.power import step

WORST_W = 3000.0
FEW = settings(max_examples=60)  # lives are long; the whole file stays under a few seconds


@st.composite
def domains(draw: st.DrawFn) -> Domain:
    low = draw(st.floats(0.3, 0.8))
    high = low + draw(st.floats(0.02, 0.1))
    brake = min(high + draw(st.floats(0.02, 0.3)), 1.0)
    brake_mhz, deep_mhz, base_mhz = sorted(draw(st.lists(st.integers(210, 1980), min_size=3, max_size=3)))
    return power.domain(
        thresholds=Thresholds(low, high, brake, draw(st.floats(0.01, 0.1))),
        caps=Caps(base_mhz, deep_mhz, draw(st.integers(deep_mhz, 1980)), brake_mhz),
        timers=Timers(settle_s=5, dwell_s=draw(st.sampled_from([2, 5, 30]))),
        safe=draw(st.none() | st.just(SafeSetting(deep_mhz, 150))),
    )


Tick = tuple[NodeSample, ...]
NODE_WATTS = st.floats(0, WORST_W) | st.just(power.GONE) | st.floats(0, WORST_W).map(lambda w: Stale(w, 9.0))
TICKS = st.tuples(
    *(st.builds(power.sample, st.just(node), NODE_WATTS, worst_case_w=st.just(WORST_W)) for node in power.NODES)
)
"""Any node may draw anything up to its nameplate, or be silent."""
STEADY = st.floats(0.0, 1.1).flatmap(
    lambda ratio: st.integers(1, 40).map(lambda count: [power.drawing(ratio) for _ in range(count)])
)
"""Whole stretches at one draw, so that dwells do pass."""
LIVES = st.lists(STEADY | TICKS.map(lambda tick: [tick]), min_size=1, max_size=6).map(
    lambda parts: [tick for part in parts for tick in part]
)


def lived(domain: Domain, life: list[Tick]) -> Iterator[tuple[Step, Step | None, Tick]]:
    """Each step with the one before and the samples behind it."""
    memory, before = DomainMemory(level=Level.NORMAL), None
    for second, samples in enumerate(life):
        now = step(domain, samples, memory, float(second))
        yield now, before, samples
        memory, before = now.memory, now


def looser(now: ClassCaps, before: ClassCaps) -> bool:
    """Whether any cap rose or went away."""
    return tightest(now, before) != now


def all_heard(samples: Tick) -> bool:
    return not any(isinstance(s.gpus_w, Missing | Stale) for s in samples)


def unsafe(domain: Domain) -> bool:
    """Four nodes x 8 GPUs x 150 W x 1.05 = 5040 W fit 10 kW, so a safe setting never brakes here."""
    return domain.safe is not None and 4 * 8 * domain.safe.power_limit_w * 1.05 > domain.budget_w


@given(domains(), LIVES)
@FEW
def test_i2_low_priority_is_never_capped_less_than_high(domain: Domain, life: list[Tick]) -> None:
    for now, _, _ in lived(domain, life):
        if now.caps.high_mhz is not None:
            assert now.caps.low_mhz is not None
            assert now.caps.low_mhz <= now.caps.high_mhz
            assert now.caps.low_mhz <= domain.caps.low_deep_mhz


@given(domains(), LIVES)
@FEW
def test_i3_i4_thresholds_act_in_the_same_tick(domain: Domain, life: list[Tick]) -> None:
    assert not unsafe(domain)
    for now, _, _ in lived(domain, life):
        if now.level is Level.FAIL_SAFE:
            continue
        ratio, at = now.utilisation_ratio, domain.thresholds
        rank = LADDER.index(now.level)
        assert ratio < at.brake_ratio or now.level is Level.BRAKE
        assert ratio < at.high_ratio or rank >= LADDER.index(Level.LOW_DEEP)
        assert ratio < at.low_ratio or rank >= LADDER.index(Level.LOW_BASE)


@given(domains(), LIVES)
@FEW
def test_i5_nothing_is_loosened_on_a_tick_that_misses_a_node(domain: Domain, life: list[Tick]) -> None:
    for now, before, samples in lived(domain, life):
        if before is not None and not all_heard(samples):
            assert not looser(now.caps, before.caps)


@given(domains(), LIVES)
@settings(max_examples=120)
def test_i6_a_release_is_one_level_after_a_dwell_of_samples_under_the_line(domain: Domain, life: list[Tick]) -> None:
    ratios: list[float] = []
    changed_at = 0
    for second, (now, before, samples) in enumerate(lived(domain, life)):
        ratios.append(now.utilisation_ratio if all_heard(samples) else 9.9)
        if before is None or now.level is before.level:
            continue
        if before.level in LADDER and now.level in LADDER and LADDER.index(now.level) < LADDER.index(before.level):
            assert LADDER.index(before.level) - LADDER.index(now.level) == 1
            at = domain.thresholds
            line = {
                Level.LOW_BASE: at.low_ratio - at.hysteresis_ratio,
                Level.BRAKE: at.high_ratio,
            }.get(before.level, at.high_ratio - at.hysteresis_ratio)
            dwell_s = 30 if before.level is Level.BRAKE else int(domain.timers.dwell_s)
            assert second - changed_at >= dwell_s
            assert max(ratios[second - dwell_s : second + 1]) < line
        changed_at = second


CAPS = st.builds(ClassCaps, *(st.none() | st.integers(100, 2000) for _ in range(3)))


@given(st.lists(CAPS, max_size=4), CAPS)
def test_i7_one_more_ancestor_never_loosens(above: list[ClassCaps], one: ClassCaps) -> None:
    assert not looser(tightest(*above, one), tightest(*above))
    assert not looser(tightest(*above, one), one)


@given(domains(), LIVES)
@FEW
def test_i9_the_same_tick_again_changes_nothing(domain: Domain, life: list[Tick]) -> None:
    for second, (now, _, samples) in enumerate(lived(domain, life)):
        again = step(domain, samples, now.memory, float(second))
        assert (again.level, again.caps) == (now.level, now.caps)


@given(domains(), LIVES)
@FEW
def test_i9_a_restart_from_the_published_level_loosens_nothing(domain: Domain, life: list[Tick]) -> None:
    """Only level and floor survive a restart; the timers begin at their cautious end."""
    for second, (now, before, samples) in enumerate(lived(domain, life)):
        if before is None:
            continue
        restored = DomainMemory(level=before.level, since_s=float(second), floor=before.memory.floor)
        assert not looser(step(domain, samples, restored, float(second)).caps, before.caps)
        assert now is not before


@given(domains(), TICKS, st.sets(st.sampled_from(power.NODES), max_size=4))
def test_i12_silencing_nodes_never_lowers_the_projection(domain: Domain, tick: Tick, silenced: set[str]) -> None:
    quiet = tuple(dataclasses.replace(s, gpus_w=power.GONE) if s.node in silenced else s for s in tick)
    full, less = (step(domain, t, DomainMemory(level=Level.NORMAL), 0.0) for t in (tick, quiet))
    assert less.projected_w >= full.projected_w
    assert less.utilisation_ratio >= full.utilisation_ratio
