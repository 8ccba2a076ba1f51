"""R2 (facts/reliability.md 4): the agent, or the setter, dies between any two calls on a node of eight GPUs.

Both run in process on boards that keep what they are told, as devices do. After the restart every GPU ends at what is
desired, and until then none runs above it, or above the safe setting where that is what holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from capstan.agent import lease
from capstan.agent.cycle import Cycle
from capstan.agent.limits import Limits
from capstan.agent.ports import Pod
from capstan.agent.setter import Setter
from capstan.powercap.domains import ClassCaps, SafeSetting
from support.matrix import Direct
from support.setter import Driver, Kubelet, Memory

GPUS = tuple(f"GPU-{index}" for index in range(8))
SAFE, LOW = SafeSetting(1110, 400), ClassCaps(1560, 1830, 450)
DESIRED = [(1560.0, 450.0)] * 8
CALLS_A_TURN = 2 + 2 * len(GPUS)  # safe, devices, and clock and limit of each GPU
TURNS = 3  # bring the safe setting, read it back, join


class Killed(BaseException):
    """SIGKILL: nothing of the process runs after it."""


class Fragile(Direct):
    """A setter's client whose process dies before its n-th call."""

    def __init__(self, setter: Setter, left: int) -> None:
        super().__init__(setter)
        self.left = left

    async def _ask(self, **asked: object) -> dict[str, object]:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return await super()._ask(**asked)

    async def devices(self) -> Mapping[str, tuple[Pod, ...]]:
        await self._ask(verb="devices")
        return {}


class Node:
    """Boards, a setter, the files of both processes, and the controller's wishes."""

    def __init__(self) -> None:
        self.driver, self.memory, self.now_s = Driver(GPUS), Memory(), 100.0
        self.safe: SafeSetting | None = None
        self.start_setter()

    def start_setter(self) -> None:
        """Start the setter anew."""
        self.setter = Setter(self.driver, Kubelet(), self.memory, Limits(), lambda: self.now_s)

    def start_agent(self, calls: int = -1) -> None:
        """Start the agent anew, on what its file holds, to die before a call (-1: never)."""
        self.agent = Cycle(self.driver, Fragile(self.setter, calls), lambda: self.now_s, self._remember)
        self.agent.lease = lease.Lease(safe=self.safe)
        self.agent.grant(lease.Granted(1, 1, LOW, frozenset(), SAFE), None)

    def _remember(self, safe: SafeSetting, epoch: int) -> None:
        self.safe = safe

    async def turns(self, count: int) -> None:
        """Let seconds pass with both processes at work."""
        for _ in range(count):
            self.now_s += 1
            await self.setter.watch()
            self.agent.renew(lease.Renewal(1, 1, 4.0, ClassCaps()))
            await self.agent.turn()

    async def alone(self, seconds: float) -> None:
        """Let time pass without an agent."""
        for _ in range(int(4 * seconds)):
            self.now_s += 0.25
            await self.setter.watch()

    def caps(self) -> list[tuple[float | None, float]]:
        return [(board.clock_mhz, board.limit_w) for board in self.driver.boards.values()]


@pytest.mark.parametrize("calls", range(CALLS_A_TURN * TURNS))
async def test_an_agent_killed_before_any_call_ends_at_what_is_desired(calls: int) -> None:
    node = Node()
    node.start_agent(calls)
    with pytest.raises(Killed):
        await node.turns(TURNS + 1)
    before = node.caps()
    node.start_agent()
    await node.turns(1)
    for (clock_mhz, limit_w), (was_mhz, was_w) in zip(node.caps(), before, strict=True):
        assert clock_mhz is not None
        assert clock_mhz <= min(was_mhz or 1e9, SAFE.clock_mhz), "a restart is the safe setting, until the GPU joins"
        assert limit_w <= min(was_w, SAFE.power_limit_w)
    await node.turns(4)
    assert node.caps() == DESIRED


@pytest.mark.parametrize("calls", range(0, CALLS_A_TURN * TURNS, 5))
async def test_a_killed_agent_that_stays_away_leaves_the_safe_setting_or_less(calls: int) -> None:
    """Its first call names the safe setting; killed before that, nothing was ever loosened or tightened."""
    node = Node()
    node.start_agent(calls)
    with pytest.raises(Killed):
        await node.turns(TURNS + 1)
    await node.alone(4)
    assert node.caps() == ([(None, 700.0)] * 8 if calls == 0 else [(1110.0, 400.0)] * 8)


@pytest.mark.parametrize("writes", range(2 * len(GPUS) * 2))
async def test_a_setter_killed_at_any_write_is_followed_by_one_that_sets_all(
    writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node()
    node.start_agent()
    left = [writes]
    for name in ("cap_clock", "limit_power"):
        whole = getattr(node.driver, name)

        def dying(*args: object, whole=whole) -> float:  # type: ignore[no-untyped-def]  # stands for two methods
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return float(whole(*args))

        monkeypatch.setattr(node.driver, name, dying)
    with pytest.raises(Killed):
        await node.turns(TURNS + 1)
    left[0] = -1
    node.start_setter()
    await node.alone(4)
    if node.memory.kept.safe is not None:
        assert node.caps() == [(1110.0, 400.0)] * 8, "its agent is away: the successor knows the safe setting"
    node.start_agent()
    await node.turns(5)
    assert node.caps() == DESIRED


def test_every_call_of_the_first_turns_is_a_point() -> None:
    """The table above is whole: so many calls are made, and no more."""

    async def count() -> int:
        node = Node()
        node.start_agent(10**6)
        await node.turns(TURNS)
        setter = node.agent._setter
        assert isinstance(setter, Fragile)
        return 10**6 - setter.left

    assert asyncio.run(count()) == CALLS_A_TURN * TURNS
