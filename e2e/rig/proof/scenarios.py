"""What happens to a site in `make test`: the levels up and back, a leader killed, domains deleted with caps on.

Who calls it: the tests and `python -m rig power proof`. Each takes a site on which nothing is capped, or says what it
needs; each raises `BrokenError` with what did not come true.
"""

from __future__ import annotations

import time
from functools import partial

from capstan.powercap.domains import Caps, Level
from rig.proof import scene
from rig.proof.site import Site

_CAPS = Caps()  # the domains name none of their own
BASE_MHZ, DEEP_MHZ, HIGH_MHZ = (int(mhz) for mhz in (_CAPS.low_base_mhz, _CAPS.low_deep_mhz, _CAPS.high_mhz))
LOW_BASE_LOAD = 0.42  # 9,495 W of the row's 14,200: above 62 %, below 72 %
BACK = (Level.BRAKE, Level.HIGH_CAP, Level.LOW_DEEP, Level.LOW_BASE, Level.NORMAL)
BACK_S = 90.0  # FailSafe and Brake are left after their dwells, backed off where they come again and again
SOON_S = 15.0  # a step, its caps and, on a busy machine, our own look at them
LEASE_S = 15.0  # client-go's, which a dead leader's successor waits for
TAKEN_S = LEASE_S + 10.0


def up_and_back(site: Site) -> None:
    """A load that asks for stop boosting, then one far above the budget, then none."""
    with site.measured("load up and back", "every level") as notes:
        before = len(site.levels())
        site.plant.load(LOW_BASE_LOAD)
        site.wait(lambda: site.clocks(high_mhz=None, low_mhz=BASE_MHZ), "low priority alone stops boosting", SOON_S)
        site.plant.load(scene.FULL)
        site.wait(lambda: site.braked, "the brake on every board of low priority", SOON_S)
        site.wait(lambda: site.clocks(high_mhz=HIGH_MHZ, low_mhz=DEEP_MHZ), "HighCap on every board", 2 * SOON_S)
        site.calm()
        levels = site.levels()[before:]
        ups = levels[: -len(BACK)]  # samples of a step half way up may ask for LowDeep before the brake
        right = levels[-len(BACK) :] == BACK and ups[:1] == (Level.LOW_BASE,) and set(ups[1:]) <= {Level.LOW_DEEP}
        site.expect(right, f"the row goes LowBase, {', '.join(BACK)}; it went {', '.join(levels)}")
        notes.append(" ".join(levels))


def loaded(site: Site) -> None:
    """Bring a site to full load with caps on: the row holds at HighCap."""
    site.plant.load(scene.FULL)
    site.wait(lambda: site.clocks(high_mhz=HIGH_MHZ, low_mhz=DEEP_MHZ), "HighCap on every board", BACK_S)
    site.wait(lambda: site.state(scene.ROW) == Level.HIGH_CAP, "HighCap in status", BACK_S)


def leader_killed(site: Site) -> None:
    """With caps on: the standby keeps every lease, takes over, and loosens nothing."""
    leader = site.leader()
    standby = next(name for name in site.power.names if name != leader)
    with site.measured("kill -9 of the leading power") as notes:
        killed_s = time.monotonic()
        site.power.kill(leader)
        took_s = site.wait(lambda: site.leader() == standby, "the standby leads", TAKEN_S)
        site.stays(lambda: not site.plant.loosened(killed_s), "no board was loosened", 3.0)
        notes.append(f"{standby} led after {took_s:.0f} s")
    site.expect(site.state(scene.ROW) == Level.HIGH_CAP, "the new leader stays at HighCap")
    site.power.start()


def deleted(site: Site) -> None:
    """With caps on: what the budget needs stays, and says so; with a budget that bears the nameplates all is reset."""
    with site.measured("domains deleted with caps on") as notes:
        site.control.kubectl("delete", "powerdomain", *scene.BUDGETS_W, "--wait=false")
        for name in scene.BUDGETS_W:
            site.wait(partial(_kept, site, name), f"{name} says why it stays", SOON_S)
        site.expect(site.clocks(high_mhz=HIGH_MHZ, low_mhz=DEEP_MHZ), "the caps of a deleted domain stay")
        for name, budget_w in scene.BUDGETS_W.items():
            site.budget(name, 2 * budget_w)
        gone_s = site.wait(lambda: not any(site.domain(name) for name in scene.BUDGETS_W), "the domains gone", SOON_S)
        for name in scene.BUDGETS_W:
            site.monitor.hold(name, None)
        site.wait(lambda: site.stock, "clocks and limits of every board reset", SOON_S)
        notes.append(f"held until the budget bore the nameplates, gone {gone_s:.0f} s later, all boards reset")


def _kept(site: Site, domain: str) -> bool:
    return site.condition(domain, "Released") == ("False", "ReleaseBlocked")
