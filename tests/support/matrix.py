"""An agent and a setter in one process on the fake driver, turn by turn: what every failing call does to two GPUs.

Run as a program (`python -m support.matrix STATE CALL CODE…`): the fake library has to be found when the process
starts. It prints one JSON line per code: what GPU 0 showed while the call failed, whether GPU 1 was as before, and
whether GPU 0 came back. CALL is a name of `state.Call`, or COUNT; the code 0 stands for a call that never returns.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from capstan.adapters import nvml
from capstan.agent import lanes, lease
from capstan.agent.cycle import Cycle
from capstan.agent.limits import Limits
from capstan.agent.ports import Failed, Pod
from capstan.agent.setter import Setter
from capstan.app.node import Driver
from capstan.powercap.domains import ClassCaps, SafeSetting
from rig.nvml import state
from support.setter import Memory

CAPS = state.Caps(1560, 450)
HUNG = 0
HUNG_S = 0.1  # the deadline of a driver call here: the fake one takes microseconds, a busy machine tens of milliseconds


class Kubelet:
    """No pods: every GPU is Low."""

    def owners(self) -> Mapping[str, tuple[Pod, ...]]:
        return {}


class Direct:
    """The setter as the agent sees it, without a socket."""

    def __init__(self, setter: Setter) -> None:
        self._setter = setter

    async def clock(self, uuid: str, clock_mhz: float | None, *, again: bool = False) -> float | None:
        set_mhz = (await self._ask(verb="clock", uuid=uuid, megahertz=clock_mhz, again=again)).get("megahertz")
        return float(set_mhz) if isinstance(set_mhz, int | float) else None

    async def limit(self, uuid: str, limit_w: float | None, *, again: bool = False) -> None:
        await self._ask(verb="limit", uuid=uuid, watts=limit_w, again=again)

    async def devices(self) -> Mapping[str, tuple[Pod, ...]]:
        return {}

    async def safe(self, clock_mhz: float | None, limit_w: float | None) -> None:
        await self._ask(verb="safe", megahertz=clock_mhz, watts=limit_w)

    async def _ask(self, **asked: object) -> dict[str, object]:
        answer = await self._setter.answer(json.dumps(asked).encode())
        if answer["ok"] is not True:
            raise Failed(str(answer["error"]), str(answer["message"]))
        return answer


class Walk:
    """Both processes, under a lease that never ends, with caps of 1560 MHz and 450 W."""

    def __init__(self, path: Path) -> None:
        self.gpus = state.State(path)
        self.now_s = 100.0
        driver = Driver(nvml.open_driver())
        self.setter = Setter(driver, Kubelet(), Memory(), Limits(), lambda: self.now_s)
        agent = Driver(nvml.open_driver())
        self.cycle = Cycle(agent, Direct(self.setter), lambda: self.now_s, lambda _safe, _epoch: None)
        self.cycle.renew(lease.Renewal(1, 1, 60.0, ClassCaps()))
        caps = ClassCaps(CAPS.clock_cap_mhz, CAPS.clock_cap_mhz, CAPS.power_limit_w)
        self.cycle.grant(lease.Granted(1, 1, caps, frozenset(), SafeSetting(1110, 400)), None)

    async def turns(self, count: int) -> None:
        """Let seconds pass."""
        for _ in range(count):
            self.now_s += 1.0
            self.cycle.renew(lease.Renewal(1, 1, 60.0, ClassCaps()))
            await self.setter.discover()
            await self.cycle.turn()

    def watts(self, index: int) -> float | None:
        """What the agent shows of one GPU."""
        return self.cycle.shown.gpus[index].gpu.power_w

    def script(self, call: str, code: int) -> None:
        """Make a call fail, or work again (code -1)."""
        if call == "COUNT":
            self.gpus.script_count_error(max(code, 0))
        elif code == HUNG:
            self.gpus.script_delay(0, state.Call[call])
        else:
            self.gpus.script_error(0, state.Call[call], max(code, 0))
            self.gpus.script_delay(0, state.Call[call], 0)

    async def try_(self, call: str, code: int) -> dict[str, object]:
        """Walk one pair."""
        self.script(call, code)
        self.gpus.reset(0)  # so that writes are due too, not only reads
        await self.turns(3)
        shown = [one.gpu for one in self.cycle.shown.gpus]
        told = {
            "code": code, "gpus": len(shown), "watts": self.watts(0), "most_w": shown[0].max_limit_w,
            "other": self.watts(1) == 75.0 and self.gpus.caps(1) == CAPS,
        }  # fmt: skip
        self.script(call, -1)
        await asyncio.sleep(2 * HUNG_S if code == HUNG else 0)
        await self.turns(9)
        return {**told, "back": self.watts(0) == 75.0 and self.gpus.caps(0) == CAPS}


async def main(path: Path, call: str, codes: list[int]) -> None:
    """Walk all codes of one call."""
    lanes.Lanes.__init__.__defaults__ = (HUNG_S,)
    walk = Walk(path)
    await walk.turns(8)
    for code in codes:
        sys.stdout.write(json.dumps(await walk.try_(call, code)) + "\n")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], [int(code) for code in sys.argv[3:]]))
