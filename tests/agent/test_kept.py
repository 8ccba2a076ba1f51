"""Which NodeCap an agent says that it keeps: the one that a restart would find on disk and in the setter.

Power gives watts away on that word (strategy Guaranteed), so it must never come too early.
"""

from __future__ import annotations

import pytest

from capstan.agent import lease
from capstan.agent.cycle import Cycle
from capstan.agent.limits import Limits
from capstan.agent.ports import SILENT, Failed
from capstan.agent.setter import Setter
from capstan.powercap.domains import ClassCaps, SafeSetting
from support.matrix import Direct
from support.setter import Driver, Kubelet, Memory

NO_CLOCK_MHZ = 10_000


class Mute(Direct):
    """A setter's client that gets no answer while `mute`."""

    mute = False

    async def _ask(self, **asked: object) -> dict[str, object]:
        if self.mute:
            raise Failed(SILENT, "no answer")
        return await super()._ask(**asked)


class Node:
    """One board under grants; its disk can be full."""

    def __init__(self) -> None:
        self.driver, self.now_s, self.full = Driver(("GPU-0",)), 100.0, False
        self.disk: tuple[SafeSetting, int] | None = None
        self.setter = Mute(Setter(self.driver, Kubelet(), Memory(), Limits(), lambda: self.now_s))
        self.start()

    def start(self) -> None:
        """Start the agent on what its disk holds."""
        self.agent = Cycle(self.driver, self.setter, lambda: self.now_s, self._remember)
        if self.disk is not None:
            self.agent.lease = lease.Lease(safe=self.disk[0], epoch=self.disk[1])

    def _remember(self, safe: SafeSetting, epoch: int) -> None:
        if self.full:
            raise OSError("no space left")
        self.disk = safe, epoch

    def grant(self, sequence: int, limit_w: float) -> None:
        """Take a NodeCap with the limit of a grant."""
        safe = SafeSetting(NO_CLOCK_MHZ, limit_w)
        self.agent.grant(lease.Granted(1, sequence, ClassCaps(power_limit_w=limit_w), frozenset(), safe), None)

    async def turn(self) -> tuple[int, int]:
        """Let a second pass; return which NodeCap the agent says that it keeps."""
        self.now_s += 1
        await self.agent.turn()
        return self.agent.shown.kept

    @property
    def limit_w(self) -> float:
        """What the board enforces."""
        return self.driver.boards["GPU-0"].limit_w


async def test_it_keeps_a_nodecap_once_disk_and_setter_have_it() -> None:
    node = Node()
    node.grant(1, 500)
    assert node.agent.shown.kept == (0, 0)
    assert await node.turn() == (1, 1)
    assert node.disk == (SafeSetting(NO_CLOCK_MHZ, 500), 1)
    assert node.limit_w == 500
    node.agent.renew(lease.Renewal(1, 9, 4.0, ClassCaps(power_limit_w=300)))
    assert await node.turn() == (1, 1), "a call is lost with the process"
    assert node.limit_w == 300


@pytest.mark.parametrize("fault", ["full", "mute"])
async def test_what_neither_disk_nor_setter_took_is_not_kept(fault: str) -> None:
    node = Node()
    node.grant(1, 500)
    await node.turn()
    node.full, node.setter.mute = fault == "full", fault == "mute"
    node.grant(2, 400)
    assert await node.turn() == (1, 1)
    node.full = node.setter.mute = False
    assert await node.turn() == (1, 2)


async def test_the_same_limit_under_a_newer_number_costs_no_write() -> None:
    node = Node()
    node.grant(1, 500)
    await node.turn()
    node.full = True
    node.grant(2, 500)
    assert await node.turn() == (1, 2)


async def test_a_grant_is_held_by_an_agent_that_starts_and_one_that_nobody_calls() -> None:
    """No lease call ever comes; the board is reset; the limit is the same throughout."""
    node = Node()
    node.grant(1, 500)
    await node.turn()
    node.start()
    for _ in range(6):
        await node.turn()
        assert node.limit_w == 500
    node.driver.boards["GPU-0"].limit_w = 700.0
    await node.turn()
    await node.turn()
    assert node.limit_w == 500
