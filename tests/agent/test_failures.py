"""Calls to the setter that fail are counted by call and by their code, turn by turn."""

from __future__ import annotations

import pytest

from capstan.agent import lease
from capstan.agent.cycle import Cycle
from capstan.agent.ports import SILENT, Failed, Owners
from capstan.model.gpu import GpuSample
from capstan.powercap.domains import ClassCaps, SafeSetting

CAPS = ClassCaps(1560, 1560, 450)


class OneGpu:
    """A board that answers."""

    def count(self) -> int:
        return 1

    def read(self, index: int) -> GpuSample:
        return GpuSample(index, "GPU-a", 300, 1, 1110, 400, 200, 700)

    def lost(self, index: int) -> GpuSample:
        return self.read(index)


class Refusing:
    """A setter whose calls fail with the codes they are given; the others are done."""

    def __init__(self, **codes: str) -> None:
        self.codes = codes

    def _answer(self, call: str) -> None:
        if call in self.codes:
            raise Failed(self.codes[call], "no")

    async def clock(self, uuid: str, clock_mhz: float | None, *, again: bool = False) -> float | None:
        self._answer("clock")
        return clock_mhz

    async def limit(self, uuid: str, limit_w: float | None, *, again: bool = False) -> None:
        self._answer("limit")

    async def devices(self) -> Owners:
        self._answer("devices")
        return {}

    async def safe(self, clock_mhz: float | None, limit_w: float | None) -> None:
        self._answer("safe")


@pytest.mark.parametrize(
    ("codes", "turns", "counted"),
    [
        pytest.param({}, 2, {}, id="nothing fails"),
        pytest.param({"clock": "NoPermission"}, 2, {("clock", "NoPermission"): 2}, id="one call, every turn"),
        pytest.param(
            {"clock": "GPUIsLost", "limit": "NotSupported"}, 1,
            {("clock", "GPUIsLost"): 1, ("limit", "NotSupported"): 1}, id="each call by itself",
        ),
        pytest.param({"devices": "PodResources"}, 1, {("devices", "PodResources"): 1}, id="the kubelet"),
        pytest.param({"safe": SILENT, "clock": SILENT}, 3, {("safe", SILENT): 3}, id="silence is met once a turn"),
    ],
)  # fmt: skip
async def test_failures_are_counted_by_call_and_code(
    codes: dict[str, str], turns: int, counted: dict[tuple[str, str], int]
) -> None:
    cycle = Cycle(OneGpu(), Refusing(**codes), lambda: 100.0, lambda _safe, _epoch: None)
    cycle.renew(lease.Renewal(1, 1, 60.0, ClassCaps()))
    cycle.grant(lease.Granted(1, 1, CAPS, frozenset(), SafeSetting(1110, 400)), None)
    for _ in range(turns):
        await cycle.turn()
    assert cycle.shown.failures == counted
