"""Samples over time: watts beside the energy counter, joules over a driver's reload, boards that hang or are new."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.agent import lanes
from capstan.agent.ports import Failed
from capstan.agent.sampling import COUNT_EVERY, Counter, Reading, Sampler
from capstan.model.gpu import GpuSample
from support.setter import Driver


def gpu(power_w: float | None, energy_j: float | None) -> GpuSample:
    return GpuSample(0, "a", power_w, energy_j, 1560, 700, 200, 700)


def play(read_w: Sequence[float | None], counted_w: Sequence[float | None]) -> list[Reading]:
    """A sample a second: the reading, and the watts by which the counter grew since the one before."""
    counter, energy_j, made = Counter(), 0.0, []
    for second, (watts, grown_j) in enumerate(zip(read_w, counted_w, strict=True)):
        energy_j += grown_j or 0.0
        made.append(counter.take(gpu(watts, None if grown_j is None else energy_j), float(second)))
    return made


def test_two_sources_that_agree_within_a_tenth_are_believed() -> None:
    readings = play([300.0] * 12, [325.0] * 12)
    assert [one.disagrees for one in readings] == [None] * 5 + [False] * 7
    assert readings[-1].gpu.power_w == 300


@pytest.mark.parametrize(
    ("read_w", "counted_w", "shown_w"),
    [(300, 400, 400), (400, 300, 400), (300, 0, 300), (300, 9e9, 700)],
    ids=["the counter is larger", "the reading is", "a counter that stands still", "an absurd counter"],
)
def test_the_larger_is_shown_after_three_looks(read_w: float, counted_w: float, shown_w: float) -> None:
    """The first window is whole at the sixth sample; 6, 7 and 8 are three looks. No board draws above its limit."""
    readings = play([read_w] * 9, [counted_w] * 9)
    assert [one.disagrees for one in readings] == [None] * 5 + [False, False, True, True]
    assert readings[-1].gpu.power_w == shown_w
    assert readings[6].gpu.power_w == read_w


def test_one_spike_is_no_disagreement() -> None:
    """One instant of 420 W among 300 W: the mean of five seconds is 324 W, 7 % above the counter's 300 W."""
    readings = play([300.0] * 6 + [420.0] + [300.0] * 6, [300.0] * 13)
    assert not any(one.disagrees for one in readings)


def test_a_bell_that_wakes_the_loop_makes_no_looks_of_its_own() -> None:
    """Ten samples a second are two looks: the window is whole at 5.0 s, and 5.0, 5.5 and 6.0 s are three looks."""
    counter = Counter()
    said = [counter.take(gpu(300, 40.0 * tick), tick / 10).disagrees for tick in range(63)]
    assert said.index(False) == 50
    assert said.index(True) == 60


@pytest.mark.parametrize(("power_w", "grown_j"), [(None, 300.0), (300.0, None)], ids=["no reading", "no counter"])
def test_with_one_source_there_is_no_telling_and_nothing_is_invented(
    power_w: float | None, grown_j: float | None
) -> None:
    last = play([power_w] * 9, [grown_j] * 9)[-1]
    assert last.disagrees is None
    assert last.gpu.power_w == power_w
    assert last.booked_j == (None if grown_j is None else 8 * 300)


def test_a_counter_that_falls_is_a_driver_that_forgot() -> None:
    """From 1,000 J to 50 J: 50 J were counted since the reload, and the window starts anew."""
    counter = Counter()
    for second in range(8):
        counter.take(gpu(300, 1000 + 300 * second), second)
    after = counter.take(gpu(300, 50), 8)
    assert (after.forgot, after.disagrees, after.booked_j) == (True, None, 7 * 300 + 50)
    assert not counter.take(gpu(300, 350), 9).forgot


@given(st.lists(st.none() | st.floats(0, 1e7), max_size=30), st.lists(st.none() | st.floats(1, 2800), max_size=30))
def test_joules_never_fall_and_watts_are_never_lowered(
    energies_j: list[float | None], watts: list[float | None]
) -> None:
    counter, booked_j = Counter(), 0.0
    for second, (energy_j, power_w) in enumerate(zip(energies_j, watts, strict=False)):
        reading = counter.take(gpu(power_w, energy_j), float(second))
        assert (reading.booked_j or 0.0) >= booked_j
        booked_j = reading.booked_j or 0.0
        assert (reading.gpu.power_w is None) == (power_w is None)
        assert reading.gpu.power_w is None or power_w is None or reading.gpu.power_w >= power_w


async def test_a_board_that_hangs_has_no_watts_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes.Lanes.__init__, "__defaults__", (0.1,))
    driver = Driver()
    sampler = Sampler(driver, lambda: 0.0)
    driver.hang("a")
    for _ in range(2):
        async with asyncio.timeout(0.5):
            found = await sampler.sample()
        assert [(one.gpu.uuid, one.gpu.power_w, one.gpu.max_limit_w) for one in found] == [
            ("a", None, 700), ("b", 300, 700),
        ]  # fmt: skip
    driver.come_back("a")
    await asyncio.sleep(0.05)
    assert (await sampler.sample())[0].gpu.power_w == 300


async def test_a_new_gpu_is_found_and_one_that_is_gone_still_counts() -> None:
    driver = Driver(("a",))
    sampler = Sampler(driver, lambda: 0.0)
    assert len(await sampler.sample()) == 1
    driver.boards = Driver(("a", "b")).boards
    found = [len(await sampler.sample()) for _ in range(COUNT_EVERY)]
    assert found[-1] == 2
    driver.count = lambda: 1  # type: ignore[method-assign]  # the board fell off its bus
    assert [len(await sampler.sample()) for _ in range(COUNT_EVERY)][-1] == 2


async def test_a_count_that_fails_costs_no_sample() -> None:
    driver = Driver()
    sampler = Sampler(driver, lambda: 0.0)
    await sampler.sample()

    def fails() -> int:
        raise Failed("Timeout", "GetCount: Timeout")

    driver.count = fails  # type: ignore[method-assign]  # from here on
    assert [len(await sampler.sample()) for _ in range(2 * COUNT_EVERY)] == [2] * (2 * COUNT_EVERY)
