"""When the agent's loop turns before its second is over."""

from __future__ import annotations

import asyncio

import pytest

from capstan.agent import lease
from capstan.agent.cycle import PERIOD_S
from capstan.powercap.domains import ClassCaps
from support.onegpu import Setter, armed

TIGHTER = ClassCaps(900, 900, None)  # below the safe setting's clock: in force whether the GPU has joined or not


@pytest.mark.parametrize(
    ("caps", "clock_mhz"),
    [pytest.param(TIGHTER, 900, id="a tighter cap"), pytest.param(ClassCaps(), 1110, id="the same again")],
)
async def test_only_a_tighter_cap_wakes_the_loop(caps: ClassCaps, clock_mhz: float) -> None:
    """A turn takes milliseconds here, its period a second: a cap within a third of it was not waited for."""
    setter = Setter()
    cycle = armed(setter)
    running = asyncio.create_task(cycle.run())
    await asyncio.wait_for(setter.limited.wait(), PERIOD_S)
    assert setter.clock_mhz == 1110
    cycle.renew(lease.Renewal(1, 2, 60.0, caps))
    await asyncio.sleep(PERIOD_S / 3)
    running.cancel()
    assert setter.clock_mhz == clock_mhz
    assert setter.turns == (1 if clock_mhz == 1110 else 2)
