"""Calls to the setter that fail are counted by call and by their code, turn by turn."""

from __future__ import annotations

import pytest

from capstan.agent.ports import SILENT
from support.onegpu import Setter, armed


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
    cycle = armed(Setter(**codes))
    for _ in range(turns):
        await cycle.turn()
    assert cycle.shown.failures == counted
