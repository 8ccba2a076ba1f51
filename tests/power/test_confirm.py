"""Caps that were sent and are not in force: what is said, when it is too much, and what lower means."""

from __future__ import annotations

from typing import Any

import pytest

from capstan.power import confirm, ports
from capstan.powercap.domains import ClassCaps, Level
from support.power_loop import Site, conditions, domain


def gpu(clock_mhz: float | None = None, **shown: Any) -> ports.GpuReport:
    return ports.GpuReport(0, "llm", "batch-0", 400, 700, 200, clock_mhz, **shown)


LOW, LIMIT = ClassCaps(low_mhz=1110), ClassCaps(power_limit_w=350)


@pytest.mark.parametrize(
    ("shown", "caps", "high", "holds"),
    [
        (gpu(), ClassCaps(), False, True),
        (gpu(), LOW, True, True),
        (gpu(1110), LOW, False, True),
        (gpu(1110, clock_verified=True), LOW, False, True),
        (gpu(1095), LOW, False, True),
        (gpu(1125), LOW, False, True),
        (gpu(1140), LOW, False, False),
        (gpu(None), LOW, False, False),
        (gpu(1110, clock_verified=False), LOW, False, False),
        (gpu(enforced_limit_w=350), LIMIT, False, True),
        (gpu(enforced_limit_w=300), LIMIT, False, True),
        (gpu(enforced_limit_w=700), LIMIT, False, False),
        (gpu(enforced_limit_w=None), LIMIT, False, True),
        (gpu(enforced_limit_w=350, limit_verified=False), LIMIT, False, False),
        (gpu(enforced_limit_w=200), ClassCaps(power_limit_w=100), False, True),
    ],
    ids=["nothing asked", "high, only low asked", "set, no telling yet", "verified", "lower", "the grid's next step",
         "looser", "not set", "set without effect", "limit enforced", "limit lower", "limit not enforced",
         "limit unknown", "limit refuted", "the lowest that the board takes"],
)  # fmt: skip
def test_a_cap_is_in_force_where_the_gpu_shows_it_or_less(
    shown: ports.GpuReport, caps: ClassCaps, *, high: bool, holds: bool
) -> None:
    assert confirm.in_force(shown, caps, high=high) is holds


async def test_gpus_that_take_no_cap_are_named_and_fail_the_domain_safe() -> None:
    """Batch's two servers are half of the watts, far more than a tenth."""
    site = Site(domain())
    await site.run(2)
    site.fleet.deaf = {"gpu-2", "gpu-3"}
    site.draw(500)
    await site.run(4)
    assert conditions(site.api.statuses[-1])["ActuationConfirmed"] == ("True", "Applied"), "they have 5 s to settle"
    verdict = await site.run(6)
    assert verdict.step.level is Level.FAIL_SAFE
    stored = conditions(site.api.statuses[-1])
    assert stored["ActuationConfirmed"] == ("False", "ActuationUnconfirmed")
    assert stored["Capping"] == ("True", "ActuationUnconfirmed")
    assert "gpu-2/0, gpu-2/1" in site.message("ActuationConfirmed")
    assert site.fleet.agents["gpu-0"].caps.power_limit_w is not None, "the board limit, too"


async def test_few_watts_that_do_not_obey_are_told_and_no_more() -> None:
    """One server of twenty, all alike: 5 % of the watts."""
    site = Site(domain(budget_w=60_000))
    for number in range(4, 20):
        site.join(f"gpu-{number}")
    await site.run(2)
    site.fleet.deaf = {"gpu-7"}
    site.draw(500)
    verdict = await site.run(8)
    assert verdict.step.level in (Level.LOW_DEEP, Level.HIGH_CAP)
    assert conditions(site.api.statuses[-1])["ActuationConfirmed"] == ("False", "ActuationUnconfirmed")


async def test_high_priority_waits_until_low_is_confirmed() -> None:
    """Confirmed caps settle for 5 s before HighCap; unconfirmed ones get twice that."""
    seconds = {}
    for deaf in (set(), {"gpu-7"}):
        site = Site(domain(budget_w=60_000))
        for number in range(4, 20):
            site.join(f"gpu-{number}")
        await site.run(2)
        site.fleet.deaf = deaf
        site.draw(500)
        began_s = site.now_s
        while (await site.run(1)).step.level is not Level.HIGH_CAP:
            assert site.now_s - began_s < 30
        seconds[bool(deaf)] = site.now_s - began_s
    assert seconds[False] < seconds[True] <= 12


async def test_a_cap_that_was_in_force_and_no_longer_is_counts_as_drift() -> None:
    """A driver that was loaded anew forgets its locks."""
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    await site.run(20)
    assert site.meter.lost == 0
    site.fleet.deaf = {"gpu-3"}
    await site.run(1)
    assert site.meter.lost == 4


async def test_brake_that_is_not_enough_is_told_once() -> None:
    site = Site(domain())
    await site.run(2)
    site.draw(690)
    await site.run(4)
    assert conditions(site.api.statuses[-1])["BrakeInsufficient"] == ("False", "Applied")
    verdict = await site.run(8)
    assert verdict.step.beyond_brake
    assert conditions(site.api.statuses[-1])["BrakeInsufficient"] == ("True", "BrakeInsufficient")
    told = [event for event in site.api.events if event.reason == "BrakeInsufficient"]
    assert [(event.warning, "above the budget" in event.note) for event in told] == [(True, True)]
