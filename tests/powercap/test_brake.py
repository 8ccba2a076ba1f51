"""The brake in two steps, the high cap's wait, and POLCA's other policies; told as (seconds, share of the budget)."""

from __future__ import annotations

import pytest

from capstan.model.reasons import Reason
from capstan.powercap.domains import NO_CAPS, ClassCaps, Domain, DomainMemory, Level, SafeSetting, Scheme, Step
from capstan.powercap.levels import caps_at
from support import power
from support.power import step

SOFT, HARD = ClassCaps(405, 1830), ClassCaps(405, 405)


def lived(ratios: list[float], *, rack: Domain | None = None, confirmed: tuple[bool, ...] = ()) -> list[Step]:
    """One tick a second; `confirmed` for the first of them, afterwards it is."""
    domain, memory, steps = rack or power.domain(), DomainMemory(level=Level.NORMAL), []
    for second, ratio in enumerate(ratios):
        known = confirmed[second] if second < len(confirmed) else True
        steps.append(step(domain, power.drawing(ratio, of=domain), memory, float(second), confirmed=known))
        memory = steps[-1].memory
    return steps


# --- the brake ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "caps"),
    [
        ([0.98], [SOFT]),
        ([0.98] * 4, [SOFT, SOFT, HARD, HARD]),
        ([0.98, 0.96, 0.96, 0.98], [SOFT, SOFT, SOFT, HARD]),
        ([0.98, 0.80, 0.80, 0.80], [SOFT] * 4),
        ([0.98, 1.00], [SOFT, HARD]),
        ([1.00], [HARD]),
        ([1.00, 0.75, 0.75, 0.75], [HARD] * 4),
        ([0.98] * 3 + [0.75] * 3, [SOFT, SOFT] + [HARD] * 4),
    ],
    ids=[
        "low priority first", "all after two seconds", "below the brake's threshold the wait is not over",
        "low priority was enough", "at the budget at once", "at the budget from the start", "hard stays hard",
        "and once it was needed, too",
    ],
)  # fmt: skip
def test_the_brake_takes_low_priority_first(ratios: list[float], caps: list[ClassCaps]) -> None:
    steps = lived(ratios)
    assert {s.level for s in steps} == {Level.BRAKE}
    assert [s.caps for s in steps] == caps


def test_the_hard_brake_holds_the_safe_limit_and_the_soft_one_does_not() -> None:
    """4 nodes x 8 x 150 W x 1.05 = 5040 W of 10 kW: the limit is worth its harm only when clocks are not enough."""
    rack = power.domain(safe=SafeSetting(1110, 150))
    soft, hard = lived([0.98], rack=rack)[0], lived([1.0], rack=rack)[0]
    assert (soft.caps, hard.caps) == (SOFT, ClassCaps(405, 405, 150))


def test_a_restarted_controller_brakes_hard() -> None:
    """Only the level survives, and which step of the brake was in force is not known."""
    got = step(power.domain(), power.drawing(0.9), DomainMemory(level=Level.BRAKE), 0)
    assert got.caps == HARD


def test_the_brake_after_a_blackout_is_hard() -> None:
    """FailSafe held the limit over all: the soft brake would lift it."""
    got = step(power.domain(), power.drawing(0.98), DomainMemory(level=Level.FAIL_SAFE, floor=Level.BRAKE), 0)
    assert got.caps == HARD


@pytest.mark.parametrize(
    ("ratios", "beyond"),
    [
        ([1.1] * 5, [False] * 5),
        ([1.1] * 7, [False] * 5 + [True] * 2),
        ([1.1] * 4 + [0.99] + [1.1] * 5, [False] * 10),
        ([0.98] * 20, [False] * 20),
    ],
    ids=["four seconds", "five seconds", "below the budget in between", "over the threshold, inside the budget"],
)
def test_beyond_the_brake_is_said_after_five_seconds_above_the_budget(ratios: list[float], beyond: list[bool]) -> None:
    assert [s.beyond_brake for s in lived(ratios)] == beyond


@pytest.mark.parametrize(
    ("ratios", "left_at"),
    [
        ([0.98] + [0.80] * 700, 31),
        ([0.98] + [0.93] * 700, None),
        ([1.00] + [0.71] * 700, 31),
        ([1.00] + [0.80] * 700, 630),
        ([1.00] + [0.93] * 700, None),
        ([1.00] + ([0.80] * 19 + [0.71]) * 25, None),
        ([1.00] + [0.80] * 300 + [0.71] * 400, 331),
    ],
    ids=[
        "soft: high priority alone lies above T2, HighCap may be enough", "soft: within the hysteresis of the brake",
        "hard: below T2", "hard: above T2 it is tried seldom", "hard: within the hysteresis of the brake",
        "hard: a dip below T2 is no calm", "hard: below T2 later on",
    ],
)  # fmt: skip
def test_the_brake_is_left_below_its_own_hysteresis(ratios: list[float], left_at: int | None) -> None:
    """T2 0.72, brake 0.97 - 0.05 = 0.92, 30 s of hold; what the hard brake holds above T2 waits 600 s before."""
    levels = [s.level for s in lived(ratios)]
    braked = next((second for second, level in enumerate(levels) if level is not Level.BRAKE), None)
    assert braked == left_at
    assert left_at is None or levels[braked or 0] is Level.HIGH_CAP


def test_a_brake_that_comes_back_is_held_twice_as_long() -> None:
    """HighCap does not hold this load, which draws 1.0 there and 0.6 in Brake: 30, 60, 120 ... 600 s."""
    domain, memory, ratio, held = power.domain(), DomainMemory(level=Level.NORMAL), 1.0, []
    for second in range(2100):
        done = step(domain, power.drawing(ratio, of=domain), memory, float(second))
        if done.level is not Level.BRAKE and memory.level is Level.BRAKE:
            held.append(second - int(memory.since_s))
        memory, ratio = done.memory, 0.6 if done.level is Level.BRAKE else 1.0
    assert held == [31, 61, 121, 241, 481, 601]


def test_caps_that_flap_do_not_lengthen_a_brake() -> None:
    memory = DomainMemory(level=Level.NORMAL, released_s=0.0, retrips=5)
    braked = step(power.domain(), power.drawing(0.98), memory, 1.0).memory
    assert (braked.retrips, braked.rebrakes) == (6, 0)


# --- the high cap ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confirmed", "capped_at"),
    [((), 5), ((True, False, False, True), 8), ((True, False, False, True, False, True), 10), ((False,) * 12, 10)],
    ids=["confirmed at once", "five seconds from when it was", "confirmed for a second only", "never: twice as long"],
)
def test_high_priority_waits_until_the_deep_cap_was_confirmed_for_the_settling_time(
    confirmed: tuple[bool, ...], capped_at: int
) -> None:
    levels = [s.level for s in lived([0.8] * 12, confirmed=confirmed)]
    assert levels.index(Level.HIGH_CAP) == capped_at


def test_a_deep_cap_that_held_for_long_is_followed_at_once() -> None:
    """It is in force and is not enough: nothing is left to wait for."""
    levels = [s.level for s in lived([0.8, *[0.7] * 20, 0.73])]
    assert levels[-2:] == [Level.LOW_DEEP, Level.HIGH_CAP]


# --- POLCA's other policies --------------------------------------------------------------------------


def told(scheme: Scheme, ratios: list[float]) -> list[tuple[Level, ClassCaps]]:
    return [(s.level, s.caps) for s in lived(ratios, rack=power.domain(scheme=scheme))]


def test_one_threshold_low_caps_low_priority_and_never_high() -> None:
    deep = (Level.LOW_DEEP, ClassCaps(1560))
    assert told(Scheme.ONE_THRESHOLD_LOW, [0.71, 0.72, *[0.9] * 30]) == [(Level.NORMAL, NO_CAPS), *[deep] * 31]


def test_one_threshold_all_caps_everything_alike() -> None:
    deep = (Level.LOW_DEEP, ClassCaps(1560, 1560))
    assert told(Scheme.ONE_THRESHOLD_ALL, [0.71, 0.72, *[0.9] * 30]) == [(Level.NORMAL, NO_CAPS), *[deep] * 31]


@pytest.mark.parametrize("scheme", [Scheme.ONE_THRESHOLD_LOW, Scheme.ONE_THRESHOLD_ALL])
def test_one_threshold_releases_to_normal_in_one_step(scheme: Scheme) -> None:
    levels = [level for level, _ in told(scheme, [0.8, *[0.6] * 31])]
    assert levels == [Level.LOW_DEEP] * 31 + [Level.NORMAL]


def test_no_cap_has_the_brake_alone() -> None:
    """Held 30 s below the high threshold (0.72), then free."""
    seen = told(Scheme.NO_CAP, [0.96, 1.0, *[0.7] * 31])
    assert seen[0] == (Level.NORMAL, NO_CAPS)
    assert seen[1:-1] == [(Level.BRAKE, HARD)] * 31
    assert seen[-1] == (Level.NORMAL, NO_CAPS)


@pytest.mark.parametrize("scheme", Scheme)
def test_no_scheme_loosens_high_priority_on_the_way_up(scheme: Scheme) -> None:
    """OneThresholdAll holds high at the deep cap; the brake's first step must not lift it to its own."""
    rack = power.domain(scheme=scheme)
    deep, soft = caps_at(rack, Level.LOW_DEEP), caps_at(rack, Level.BRAKE, hard=False)
    assert soft.high_mhz is not None
    assert deep.high_mhz is None or soft.high_mhz <= deep.high_mhz


def test_the_reason_of_a_brake_is_the_brake_in_every_scheme() -> None:
    for scheme in Scheme:
        assert lived([1.0], rack=power.domain(scheme=scheme))[0].reason is Reason.ABOVE_BRAKE_THRESHOLD
