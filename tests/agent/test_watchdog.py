"""The setter on its own: its watchdog, hung driver calls, its own restart, and how often it writes."""

from __future__ import annotations

import asyncio
import time

import pytest

from capstan.agent import lanes
from capstan.agent.limits import WRITES, Limits
from capstan.agent.ports import Kept
from support.setter import CEILING_MHZ, CEILING_W, FLOOR_MHZ, FLOOR_W, RANGE, STOCK_W, Bench, Driver

SAFE = {"verb": "safe", "megahertz": 1110, "watts": 400}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hung call is one of a tenth of a second."""
    monkeypatch.setattr(lanes.Lanes.__init__, "__defaults__", (0.1,))


async def test_a_silent_agent_ends_in_the_safe_setting_after_three_seconds() -> None:
    bench = Bench()
    await bench.ask(**SAFE)
    await bench.silence(2.75)
    assert bench.caps() == [(None, 700), (None, 700)]
    await bench.silence(0.25)
    assert bench.caps() == [(1110, 400), (1110, 400)]


async def test_it_never_loosens_what_is_tighter() -> None:
    bench = Bench()
    await bench.ask(**SAFE)
    await bench.ask(verb="clock", uuid="a", megahertz=700)
    await bench.ask(verb="limit", uuid="b", watts=300)
    await bench.silence(4)
    assert bench.caps() == [(700, 400), (1110, 300)]


async def test_any_verb_is_a_sign_of_life_and_garbage_is_none() -> None:
    bench = Bench()
    await bench.ask(**SAFE)
    for _ in range(4):
        await bench.silence(2)
        await bench.ask(verb="devices")
    assert bench.driver.writes == []
    for _ in range(4):
        await bench.silence(1)
        await bench.setter.answer(b"garbage")
    assert bench.caps() == [(1110, 400), (1110, 400)]


async def test_a_gpu_that_refuses_is_tried_again_and_spares_no_other() -> None:
    bench = Bench()
    await bench.ask(**SAFE)
    bench.driver.failing = {"a"}
    await bench.silence(3.5)
    assert bench.caps() == [(None, 700), (1110, 400)]
    bench.driver.failing = set()
    await bench.silence(1.5)
    assert bench.caps() == [(1110, 400), (1110, 400)]


async def test_a_gpu_that_forgets_while_it_is_alone_is_set_again() -> None:
    """A reset ends the lock, and nobody can ask for it: so it is written again, well within P1's 10 s."""
    bench = Bench()
    await bench.ask(**SAFE)
    await bench.silence(4)
    bench.driver.forget("b")
    await bench.silence(5)
    assert bench.caps() == [(1110, 400), (1110, 400)]
    before = len(bench.driver.writes)
    await bench.silence(60)
    assert len(bench.driver.writes) - before <= 60 / 5 * 4, "calm: two writes per GPU in five seconds"


@pytest.mark.usefixtures("hasty")
async def test_a_hung_call_stops_neither_the_watchdog_nor_the_other_gpu() -> None:
    """A driver call that never returns: its GPU is refused at once, the others are brought to the safe setting."""
    bench = Bench()
    await bench.ask(**SAFE)
    bench.driver.hang("a")
    assert (await bench.ask(verb="clock", uuid="a", megahertz=1900))["error"] == "Hung"
    began_s = time.monotonic()
    assert (await bench.ask(verb="limit", uuid="a", watts=600))["error"] == "Hung"
    assert time.monotonic() - began_s < 0.05, "only the first call waits"
    assert (await bench.ask(verb="clock", uuid="b", megahertz=1800))["megahertz"] == 1800
    await bench.silence(4)
    assert bench.caps()[1] == (1110, 400)
    bench.driver.come_back("a")
    await asyncio.sleep(0.05)  # the hung thread takes its 1,900 MHz back to the board
    assert bench.driver.boards["a"].clock_mhz == 1900
    await bench.silence(2)
    assert bench.caps() == [(1110, 400), (1110, 400)]


@pytest.mark.usefixtures("hasty")
async def test_what_a_hung_call_did_is_unknown_so_the_value_before_it_is_written_again() -> None:
    """1,410 MHz, then 1,800 that hangs and takes effect after all: to ask for 1,410 again is no repetition."""
    bench = Bench()
    await bench.ask(verb="clock", uuid="a", megahertz=1410)
    bench.driver.hang("a")
    bench.now_s += 2
    assert (await bench.ask(verb="clock", uuid="a", megahertz=1800))["error"] == "Hung"
    bench.driver.come_back("a")
    await asyncio.sleep(0.05)
    assert bench.caps()[0][0] == 1800
    assert (await bench.ask(verb="clock", uuid="a", megahertz=1410)) == {"ok": True, "megahertz": 1410}
    assert bench.caps()[0][0] == 1410


async def test_a_restarted_setter_whose_agent_is_dead_reaches_the_safe_setting() -> None:
    bench = Bench()
    await bench.ask(**SAFE)
    await bench.ask(verb="clock", uuid="a", megahertz=700)
    bench.restart()
    for uuid in "ab":
        bench.driver.forget(uuid)  # and the machine was booted meanwhile
    await bench.silence(3.25)
    assert bench.caps() == [(700, 400), (1110, 400)], "what an earlier run set tighter stays tighter"


async def test_a_restarted_setter_writes_what_it_is_asked_for_even_if_it_was_set() -> None:
    """It cannot know what happened meanwhile: a suppressed write would be a guess."""
    bench = Bench()
    await bench.ask(verb="clock", uuid="a", megahertz=1410)
    bench.restart()
    bench.driver.forget("a")
    await bench.ask(verb="clock", uuid="a", megahertz=1410)
    assert bench.caps()[0][0] == 1410


async def test_a_crash_inside_any_write_is_remembered_as_the_tighter_of_both() -> None:
    """Between a write and its answer either value may be in force: the memory holds the lower one."""
    bench = Bench()
    await bench.ask(**SAFE)
    for first, second in ((1410.0, 700.0), (700.0, 1410.0)):
        await bench.ask(verb="clock", uuid="a", megahertz=first)
        bench.now_s += 2
        bench.driver.failing = {"a"}  # the write neither came back nor failed cleanly
        await bench.ask(verb="clock", uuid="a", megahertz=second)
        bench.driver.failing = set()
        assert bench.memory.kept.clocks_mhz["a"] == 700


async def test_a_full_disk_costs_the_memory_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()

    def full(kept: Kept) -> None:
        raise OSError(28, "No space left on device")

    bench.memory.write = full  # type: ignore[method-assign]  # the disk fills under a running setter
    assert (await bench.ask(**SAFE))["ok"] is True
    assert (await bench.ask(verb="clock", uuid="a", megahertz=1410))["ok"] is True
    assert caplog.text.count("cannot be kept for a restart") == 1
    await bench.silence(4)
    assert bench.caps() == [(1110, 400), (1110, 400)]


@pytest.mark.parametrize(
    ("verb", "field", "asked", "in_force"),
    [
        ("clock", "megahertz", 100, FLOOR_MHZ),
        ("clock", "megahertz", 5000, CEILING_MHZ),
        ("clock", "megahertz", None, CEILING_MHZ),
        ("limit", "watts", 1, 200.0),
        ("limit", "watts", 5000, CEILING_W),
        ("limit", "watts", None, CEILING_W),
    ],
    ids=["low clock", "high clock", "no cap", "low limit", "high limit", "stock limit"],
)
async def test_the_admins_range_holds_on_both_sides(verb: str, field: str, asked: object, in_force: float) -> None:
    bench = Bench(RANGE)
    await bench.ask(verb=verb, uuid="a", **{field: asked})
    assert bench.caps()[0] == ((in_force, STOCK_W) if verb == "clock" else (None, in_force))
    if asked == 1:
        assert bench.driver.writes[-1] == ("limit", "a", FLOOR_W), "the board's own lowest is above the admin's"


async def test_reset_lifts_everything_up_to_the_admins_range_and_tells_what_failed() -> None:
    bench = Bench(RANGE)
    for uuid in "ab":
        await bench.ask(verb="clock", uuid=uuid, megahertz=1200)
        await bench.ask(verb="limit", uuid=uuid, watts=300)
    await bench.ask(**SAFE)
    bench.driver.failing = {"a"}
    assert (await bench.ask(verb="reset"))["error"] == "Incomplete"
    assert bench.caps() == [(1200, 300), (CEILING_MHZ, CEILING_W)]
    bench.driver.failing = set()
    assert await bench.ask(verb="reset") == {"ok": True}
    await bench.silence(10)
    assert bench.caps() == [(CEILING_MHZ, CEILING_W)] * 2, "after a release the watchdog has nothing to hold"


async def test_clock_and_limit_of_a_gpu_may_be_loosened_in_the_same_second() -> None:
    """A release lifts both; the second of them must not wait and be reported as a failure."""
    bench = Bench()
    await bench.ask(verb="clock", uuid="a", megahertz=1200)
    await bench.ask(verb="limit", uuid="a", watts=400)
    assert (await bench.ask(verb="clock", uuid="a", megahertz=None))["ok"] is True
    assert (await bench.ask(verb="limit", uuid="a", watts=None))["ok"] is True
    await bench.ask(verb="clock", uuid="a", megahertz=1200)
    assert (await bench.ask(verb="clock", uuid="a", megahertz=1500))["error"] == "RateLimited"
    bench.now_s += 1.1
    assert (await bench.ask(verb="clock", uuid="a", megahertz=1500))["ok"] is True


@pytest.mark.parametrize("again", [True, False], ids=["the same again", "a hair tighter each time"])
async def test_a_flood_reaches_the_driver_four_times_a_second(again: bool) -> None:
    bench = Bench()
    for step in range(100):
        bench.now_s += 0.01
        await bench.ask(verb="clock", uuid="a", megahertz=1410 - (0 if again else step / 1000), again=again)
    assert len(bench.driver.writes) == WRITES


@pytest.mark.parametrize(
    ("low_mhz", "high_mhz", "low_w", "high_w", "names"),
    [(900, 600, 1, 2, "--max-clock-mhz"), (1, 2, 500, 400, "--max-limit-watts")],
)
def test_a_range_upside_down_is_refused(
    low_mhz: float, high_mhz: float, low_w: float, high_w: float, names: str
) -> None:
    with pytest.raises(ValueError, match=names):
        Limits(low_mhz, high_mhz, low_w, high_w)


async def test_eight_gpus_are_tightened_side_by_side() -> None:
    bench = Bench(driver=Driver(tuple(f"GPU-{i}" for i in range(8))))
    await bench.ask(**SAFE)
    await bench.silence(3)
    assert bench.caps() == [(1110, 400)] * 8
