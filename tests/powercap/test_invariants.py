"""The invariants of facts/polca.md 5.5 on random lives of random domains.

I1 is test_safety.py; I11 and I13 are test_closed_loop.py, with a plant in the loop; all together are test_life.py. Of
I8, I10, I14 and I15 this is what the core holds: the rest belongs to the setter and the agent (tests/agent).
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.agent import lease
from capstan.agent.ports import Pod
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
                Level.BRAKE: max(at.brake_ratio - at.hysteresis_ratio, at.high_ratio),
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


# --- what of I8, I10, I14 and I15 the core holds -------------------------------------------------------


@given(domains(), LIVES)
@FEW
def test_i8_caps_come_from_the_domains_own_ladder(domain: Domain, life: list[Tick]) -> None:
    caps = domain.caps
    for now, _, _ in lived(domain, life):
        assert now.caps.low_mhz in (None, caps.low_base_mhz, caps.low_deep_mhz, caps.brake_mhz)
        assert now.caps.high_mhz in (None, caps.high_mhz, caps.low_deep_mhz, caps.brake_mhz)
        assert now.caps.power_limit_w in (None, domain.safe.power_limit_w if domain.safe else None)


HIGH_PODS = frozenset({Pod("llm", "chat-0")})
CALLS = st.lists(CAPS, min_size=1, max_size=6).map(
    lambda sent: [lease.Renewal(1, number, 4.0, caps) for number, caps in enumerate(sent, start=1)]
)


@given(CALLS, CAPS, st.randoms(use_true_random=False))
def test_i10_late_doubled_and_reordered_calls_end_in_the_same_caps(
    calls: list[lease.Renewal], newest: ClassCaps, chance: random.Random
) -> None:
    """The NodeCap is the newest word: whatever came before it, and whatever comes late after it, ends in its caps."""
    grant = lease.Granted(1, len(calls) + 1, newest, HIGH_PODS, SafeSetting(1110, 150))
    disordered = [*calls, *chance.sample(calls, len(calls) // 2)]
    chance.shuffle(disordered)
    cut = chance.randrange(len(disordered) + 1)
    in_order = delivered(lease.Lease(), calls)
    mixed = lease.granted(delivered(lease.Lease(), disordered[:cut]), grant)
    mixed = lease.granted(delivered(mixed, disordered[cut:]), grant)
    assert mixed.caps == lease.granted(in_order, grant).caps == newest
    assert (mixed.epoch, mixed.sequence, mixed.high_pods) == (1, len(calls) + 1, HIGH_PODS)


def delivered(held: lease.Lease, calls: list[lease.Renewal]) -> lease.Lease:
    """The lease after calls in the order in which they came; an outdated one changes nothing."""
    for second, call in enumerate(calls):
        try:
            held = lease.renewed(held, call, float(second))
        except lease.Outdated:
            continue
    return held


ABSURD = st.sampled_from([math.nan, math.inf, -1.0, 4294967.295, 140737488355328.0, 2147483632.0])
"""NaN, and what NVML (0xFFFFFFFF mW) and DCGM (its blanks of doubles and of integers) say for "no value"."""


@given(domains(), st.lists(ABSURD | st.floats(0, WORST_W), min_size=4, max_size=4), ABSURD | st.just(0.0))
def test_i14_an_absurd_node_is_a_silent_one_of_the_largest_size(
    domain: Domain, watts: list[float], worst_w: float
) -> None:
    """Nodes draw anything; of one nobody knows how large it is. Never a crash, never less than its silence counts."""
    told = [power.sample(node, w, worst_case_w=WORST_W) for node, w in zip(power.NODES, watts, strict=True)]
    told[3] = dataclasses.replace(told[3], worst_case_w=worst_w, gpus_w=power.GONE, min_limit_w=math.nan)
    plain = [s if 0 <= watts[i] <= WORST_W else power.sample(s.node, power.GONE) for i, s in enumerate(told[:3])]
    silent = (*plain, power.sample("n4", power.GONE, worst_case_w=WORST_W))
    strange, known = (step(domain, tuple(t), DomainMemory(level=Level.NORMAL), 0.0) for t in (told, silent))
    assert math.isfinite(strange.projected_w)
    assert strange.projected_w == known.projected_w
    assert strange.missing == known.missing


@given(TICKS)
def test_i15_a_row_counts_every_node_once_whatever_else_was_heard(tick: Tick) -> None:
    """Rows are in another order than the domain's nodes, and a stranger is among them."""
    halves = (power.domain(nodes=power.NODES[:2]), power.domain(nodes=power.NODES[2:]))
    row = power.domain(nodes=tuple(reversed(power.NODES)), budget_w=20_000)
    heard = (*tick, power.sample("elsewhere", 2000))
    memory = DomainMemory(level=Level.NORMAL)
    whole_w = step(row, heard, memory, 0.0).projected_w
    assert whole_w == pytest.approx(sum(step(half, heard, memory, 0.0).projected_w for half in halves))
