"""What happens to a site whose domains have strategy Guaranteed: grants move, everybody dies, budgets are cut.

Who calls it: the tests and `python -m rig power proof --strategy Guaranteed`, in the order of `ALL`. Two monitors watch
throughout: true watts, and what the limits in force allow at worst. The second may be above a budget only after a cut,
until the donors have followed. The arithmetic: 14,200 W over eight servers are 1,775 W each, and a limit of
(0.94 x 1,775 x 0.97 - 500) / (2 x 1.05) = 532 W.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial

from rig.nvml.state import Caps
from rig.proof import scene
from rig.proof.monitor import P1_S, Seen
from rig.proof.scenarios import SOON_S, TAKEN_S
from rig.proof.site import GUARANTEED, START_S, STATISTICAL, Row, Site

EVEN_W = 532.0
EVEN_RATIO = 0.03  # who is short by less than 2 % of a grant is not short
MOVED_S = 60.0  # a limit doubles in five rounds of five seconds; needs of the last half minute are kept
OUTAGE_S = 14.0  # nobody can renew a Lease for longer than 10 s: nobody leads
WATCH_S = 8.0
CUT_RATIO = 0.8

Scenario = Callable[[Site], None]


@contextlib.contextmanager
def guarded(site: Site, name: str, *, cut: bool = False) -> Iterator[list[str]]:
    """Put what happens meanwhile into the table; what limits allow stays below every budget, except after a cut."""
    began_s = time.monotonic()
    with site.measured(name) as notes:
        yield notes
        site.wait(lambda: not site.limits.above, f"{name}: limits that fit every budget", P1_S)
        allowed = site.limits.seen(began_s)
        notes.append(_allowed(allowed))
        site.expect(allowed.held if cut else allowed.longest_s == 0, f"{name}: limits fit the budget: {allowed}")
    row: Row = site.rows[-1]
    site.expect(cut or row.seen.joules == 0, f"{name}: no joule above a budget")


def _allowed(seen: Seen) -> str:
    above = f", above for {seen.longest_s:.1f} s" if seen.longest_s else ""
    return f"limits allow at most {seen.worst_ratio:.3f} of a budget{above}"


def full_load(site: Site) -> None:
    """All boards busy at once: nobody is above anything, and nobody had to act."""
    with guarded(site, "full load at once") as notes:
        site.plant.load(scene.FULL)
        time.sleep(WATCH_S)
        notes.append(f"boards at {site.limit_w(0):.0f} W")


def moved(site: Site) -> None:
    """One server busy, all others idle: it has its boards' full limit in the end, and gives back when all are busy."""
    site.plant.load(scene.QUIET)
    with guarded(site, "one busy, then all") as notes:
        site.plant.load(scene.FULL, site.servers[-1].name)
        took_s = site.wait(lambda: site.limit_w(-1) == scene.STOCK_W, "full limit for the one that is busy", MOVED_S)
        notes.append(f"700 W a board after {took_s:.0f} s")
        site.plant.load(scene.FULL)
        every = range(len(site.servers))
        back_s = site.wait(lambda: all(_even(site.limit_w(at)) for at in every), "even limits again", 2 * MOVED_S)
        notes.append(f"even again {back_s:.0f} s after all were busy")


def everybody_killed(site: Site) -> None:
    """Both replicas of power at once: no board changes, and the next ones find the ledger."""
    site.plant.load(scene.FULL)
    with guarded(site, "kill -9 of every power") as notes:
        before = site.plant.caps()
        for name in site.power.names:
            site.power.kill(name)
        time.sleep(WATCH_S)
        site.expect(_limits(site.plant.caps()) == _limits(before), "every limit stays as it was")
        for _ in range(2):
            site.power.start()
        took_s = site.wait(lambda: site.leader() in site.power.names, "a new leader", START_S)
        site.wait(lambda: site.granting, "grants in force under the new leader", TAKEN_S)
        notes.append(f"led again after {took_s:.0f} s; no limit moved meanwhile")


def api_server_stopped(site: Site) -> None:
    """At full load, and the load moves: without a ledger to write nothing moves."""
    site.plant.load(scene.FULL)
    with guarded(site, "API server stopped, load moves") as notes:
        before = _limits(site.plant.caps())
        site.control.supervisor.signal("kube-apiserver", signal.SIGSTOP)
        try:
            for server in site.servers[1:]:
                site.plant.load(scene.QUIET, server.name)
            time.sleep(OUTAGE_S)
            site.expect(_limits(site.plant.caps()) == before, "no limit moves")
        finally:
            site.control.supervisor.signal("kube-apiserver", signal.SIGCONT)
        took_s = site.wait(lambda: site.limit_w(0) > EVEN_W + 50, "watts for the one that is busy", 2 * MOVED_S)
        notes.append(f"watts moved again {took_s:.0f} s after it came back")


def agent_stopped(site: Site) -> None:
    """One agent hangs while its server is idle and all others want watts: it keeps its own for as long as it hangs."""
    name = site.servers[2].name
    site.plant.load(scene.FULL)
    site.wait(lambda: site.granting, "grants in force", MOVED_S)
    with guarded(site, "SIGSTOP of one agent, idle") as notes:
        site.control.supervisor.signal(f"agent-{name}", signal.SIGSTOP)
        try:
            before_w = site.limit_w(2)
            site.plant.load(scene.QUIET, name)
            took_s = site.wait(lambda: _silent_w(site) > 0, "its watts called silent", SOON_S)
            time.sleep(WATCH_S)
            site.expect(site.limit_w(2) == before_w, "a silent node keeps its limit")
            notes.append(f"silent after {took_s:.0f} s, holds {_silent_w(site)} W of the row")
        finally:
            site.control.supervisor.signal(f"agent-{name}", signal.SIGCONT)
        site.wait(lambda: _silent_w(site) == 0, "it answers again", SOON_S)


def agent_and_setter_stopped(site: Site) -> None:
    """Both hang at full load: nobody is needed where the limit is in the boards."""
    name = site.servers[-1].name
    site.plant.load(scene.FULL)
    site.wait(lambda: site.granting, "grants in force", MOVED_S)
    with guarded(site, "SIGSTOP of agent and setter") as notes:
        for kind in ("agent", "setter"):
            site.control.supervisor.signal(f"{kind}-{name}", signal.SIGSTOP)
        before_w = site.limit_w(-1)
        try:
            time.sleep(P1_S)
            site.expect(site.limit_w(-1) == before_w, "its limit stays")
        finally:
            for kind in ("setter", "agent"):
                site.control.supervisor.signal(f"{kind}-{name}", signal.SIGCONT)
        notes.append(f"{before_w:.0f} W a board throughout")


def driver_reloaded(site: Site) -> None:
    """A driver that was loaded anew has forgotten the limit: the agent sets it again."""
    name = site.servers[0].name
    site.plant.load(scene.FULL)
    site.wait(lambda: site.granting, "grants in force", MOVED_S)
    with guarded(site, "driver of one server reloaded", cut=True) as notes:
        before_w = site.limit_w(0)
        site.plant.reload(name)
        site.wait(lambda: site.limit_w(0) == scene.STOCK_W, "the limit forgotten", SOON_S)
        took_s = site.wait(lambda: site.limit_w(0) <= before_w, "the limit set again", P1_S)
        notes.append(f"set again after {took_s:.1f} s")


def budget_cut(site: Site) -> None:
    """At full load the row loses a fifth of its budget: limits follow in seconds, the draw never needs longer."""
    site.plant.load(scene.FULL)
    site.wait(lambda: site.granting, "grants in force", MOVED_S)
    with guarded(site, "budget -20 % at full load", cut=True):
        site.budget(scene.ROW, round(scene.BUDGETS_W[scene.ROW] * CUT_RATIO))
        site.wait(lambda: site.limits.above, "what limits allow is above the new budget", SOON_S)
        site.wait(lambda: not site.limits.above, "limits below it again", SOON_S)
    site.budget(scene.ROW, scene.BUDGETS_W[scene.ROW])
    site.wait(lambda: site.granting, "grants in force", MOVED_S)


def strategies_changed(site: Site) -> None:
    """Armed and at full load to Statistical and back: true watts are held by one or the other throughout."""
    site.plant.load(scene.QUIET)
    with site.measured("Guaranteed -> Statistical -> Guaranteed") as notes:
        for name in scene.BUDGETS_W:
            site.limits.hold(name, None)
        site.strategy(STATISTICAL)
        there_s = site.wait(lambda: _holds(site, STATISTICAL) and site.stock, "thresholds hold, limits gone", SOON_S)
        site.plant.load(scene.FULL)
        site.wait(lambda: site.monitor.above or _capped(site), "clock caps, or the budget crossed", SOON_S)
        site.strategy(GUARANTEED)
        back_s = site.wait(lambda: _holds(site, GUARANTEED) and site.granting, "grants hold", MOVED_S)
        site.wait(lambda: not _capped(site), "clock caps gone", SOON_S)
        notes.append(f"{there_s:.0f} s and {back_s:.0f} s")
    for name, budget_w in scene.BUDGETS_W.items():
        site.limits.hold(name, budget_w)


def deleted(site: Site) -> None:
    """What the budget needs stays, and says so; with a budget that bears the nameplates everything is reset."""
    site.plant.load(scene.FULL)
    with site.measured("domains deleted under grants") as notes:
        site.control.kubectl("delete", "powerdomain", *scene.BUDGETS_W, "--wait=false")
        for name in scene.BUDGETS_W:
            site.wait(partial(_kept, site, name), f"{name} says why it stays", SOON_S)
        site.expect(not site.limits.above, "limits stay inside")
        for name, budget_w in scene.BUDGETS_W.items():
            site.budget(name, 2 * budget_w)
        gone_s = site.wait(lambda: not any(site.domain(name) for name in scene.BUDGETS_W), "domains gone", 2 * SOON_S)
        for name in scene.BUDGETS_W:
            site.monitor.hold(name, None)
            site.limits.hold(name, None)
        site.wait(lambda: site.stock, "every limit reset", SOON_S)
        notes.append(f"gone {gone_s:.0f} s after the budget bore the nameplates, every limit reset")


def _even(limit_w: float) -> bool:
    return abs(limit_w - EVEN_W) <= EVEN_RATIO * EVEN_W


def _kept(site: Site, domain: str) -> bool:
    return site.condition(domain, "Released") == ("False", "ReleaseBlocked")


def _limits(caps: dict[tuple[str, int], Caps]) -> dict[tuple[str, int], float]:
    return {key: one.power_limit_w for key, one in caps.items()}


def _silent_w(site: Site) -> int:
    return int(((site.domain(scene.ROW) or {}).get("status") or {}).get("silentHeldWatts", 0))


def _holds(site: Site, strategy: str) -> bool:
    found = (((site.domain(name) or {}).get("status") or {}).get("strategy") for name in scene.BUDGETS_W)
    return all(word == strategy for word in found)


def _capped(site: Site) -> bool:
    return any(caps.clock_cap_mhz is not None for caps in site.plant.caps().values())


ALL: dict[str, Scenario] = {
    "full-load": full_load,
    "moved": moved,
    "everybody-killed": everybody_killed,
    "api-stopped": api_server_stopped,
    "agent-stopped": agent_stopped,
    "agent-and-setter-stopped": agent_and_setter_stopped,
    "driver-reloaded": driver_reloaded,
    "budget-cut": budget_cut,
    "strategies-changed": strategies_changed,
    "deleted": deleted,
}
