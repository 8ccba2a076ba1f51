"""What happens to a site in `make e2e`: processes killed and stopped, networks cut, objects deleted, budgets cut.

Who calls it: `e2e/test_power_proof.py` and `python -m rig power proof`, in the order of `ALL`. Each begins at full
load with caps on (HighCap), or says that it begins without load.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial

from rig.nvml.state import Call
from rig.proof import processes, scenarios, scene
from rig.proof.monitor import P1_S
from rig.proof.scenarios import DEEP_MHZ, HIGH_MHZ, SOON_S
from rig.proof.site import START_S, Site

READY_S = 5.0  # a new replica's caches, on a machine that does other things at once
OUTAGE_S = 14.0  # nobody can renew a Lease for longer than 10 s: nobody leads
QUIET_S = 10.0  # of watching that nothing happens
CUT_RATIO = 0.8  # R14: the budget falls by a fifth in one step
WRITE_S = 0.8  # a driver call that takes its time: somebody can die in the middle of it

Scenario = Callable[[Site], None]


def roll_out(site: Site) -> None:
    """Without load: both replicas are replaced, one after the other, as a rolling update does; nothing is capped."""
    began_s = time.monotonic()
    with site.measured("roll-out of a new version") as notes:
        leader = site.leader()
        for old in sorted(site.power.names, key=lambda name: name == leader):  # the standby first
            site.power.start()
            time.sleep(READY_S)
            site.power.stop(old)
        took_s = site.wait(lambda: site.leader() in site.power.names, "a new replica leads", SOON_S)
        time.sleep(READY_S)
        capped = [change for change in site.plant.changes if change.at_s >= began_s]
        site.expect(not capped, "no board is set to anything by a roll-out")
        notes.append(f"a new one led {took_s:.1f} s after the last old one ended; no board was touched")


def load_in_an_api_outage(site: Site) -> None:
    """Without load at first: the API server hangs, nobody leads any more, then the load comes."""
    with site.measured("full load while the API server hangs") as notes:
        site.control.supervisor.signal("kube-apiserver", signal.SIGSTOP)
        try:
            time.sleep(OUTAGE_S)
            site.expect(site.stock, "an outage alone caps nothing")
            site.plant.load(scene.FULL)
            site.wait(lambda: site.monitor.above, "the budget crossed", SOON_S)
            took_s = site.wait(lambda: not site.monitor.above, "below the budget again", P1_S)
            notes.append(f"a standby tightened within {took_s:.1f} s; nobody led")
            time.sleep(READY_S)
        finally:
            site.control.supervisor.signal("kube-apiserver", signal.SIGCONT)
    scenarios.loaded(site)


def everybody_killed(site: Site) -> None:
    """Operator and both replicas of power: every node goes to its safe setting by itself."""
    site.note_safe()
    with site.measured("kill -9 of the operator and every power") as notes:
        for name in (*site.power.names, processes.OPERATOR):
            site.power.kill(name)
        took_s = site.wait(site.safe, "every node in its safe setting", P1_S)
        notes.append(f"all nodes in the safe setting after {took_s:.1f} s")
    for _ in range(2):
        site.power.start()
    site.wait(lambda: site.leader() in site.power.names, "a new leader", START_S)
    site.stays(lambda: site.clocks(high_mhz=HIGH_MHZ, low_mhz=DEEP_MHZ), "the caps are what they were", READY_S)


def api_server_stopped(site: Site) -> None:
    """With caps on: they stay, and no node goes to its safe setting."""
    began_s = time.monotonic()
    with site.measured("API server stopped, caps on") as notes:
        site.control.supervisor.signal("kube-apiserver", signal.SIGSTOP)
        try:
            time.sleep(OUTAGE_S)
        finally:
            site.control.supervisor.signal("kube-apiserver", signal.SIGCONT)
        site.expect(not site.plant.loosened(began_s), "no board is loosened")
        site.expect(site.clocks(high_mhz=HIGH_MHZ, low_mhz=DEEP_MHZ), "the caps are as before")
        notes.append("caps stayed as they were")
    scenarios.loaded(site)


def prometheus_stopped(site: Site) -> None:
    """The row's meter goes silent: nothing changes."""
    began_s = time.monotonic()
    with site.measured("Prometheus stopped") as notes:
        site.control.supervisor.signal("prometheus", signal.SIGSTOP)
        try:
            time.sleep(QUIET_S)
        finally:
            site.control.supervisor.signal("prometheus", signal.SIGCONT)
        changed = [change for change in site.plant.changes if change.at_s >= began_s]
        site.expect(not changed, "no board is set to anything")
        notes.append("no effect")


def agent_stopped(site: Site) -> None:
    """One agent hangs: its setter's watchdog brings the node to safety."""
    site.note_safe()
    name = site.servers[0].name
    with site.measured("SIGSTOP of one agent") as notes, _stopped(site, f"agent-{name}"):
        took_s = site.wait(lambda: site.safe(name), "the node in its safe setting", P1_S)
        time.sleep(READY_S)
        notes.append(f"the setter's watchdog: safe after {took_s:.1f} s")
    scenarios.loaded(site)


def agent_and_setter_stopped(site: Site) -> None:
    """Both hang, and the driver is loaded anew: the node draws what it can, and N-1 has room for it."""
    name = site.servers[-1].name
    with (
        site.measured("SIGSTOP of agent and setter, driver reloaded") as notes,
        _stopped(site, f"agent-{name}"),
        _stopped(site, f"setter-{name}"),
    ):
        site.plant.reload(name)
        time.sleep(P1_S)
        held = {(gpu.clock_cap_mhz, gpu.power_limit_w) for key, gpu in site.plant.caps().items() if key[0] == name}
        site.expect(held == {(None, scene.STOCK_W)}, "nobody controls that node")
        notes.append("uncapped at full load; the others made room")
    scenarios.loaded(site)


def network_cut(site: Site) -> None:
    """One node's agent is heard by nobody and hears nobody."""
    site.note_safe()
    name = site.servers[1].name
    with site.measured("network of one agent cut") as notes:
        site.networks[name].calls.shut()
        site.networks[name].api.shut()
        took_s = site.wait(lambda: site.safe(name), "the node in its safe setting", P1_S)
        notes.append(f"safe after {took_s:.1f} s")
        site.networks[name].calls.open()
        site.networks[name].api.open()
    scenarios.loaded(site)


def node_caps_deleted(site: Site) -> None:
    """Somebody deletes every NodeCap: nothing is loosened, and they are written anew."""
    began_s = time.monotonic()
    with site.measured("every NodeCap deleted") as notes:
        site.control.kubectl("delete", "nodecaps", *(server.name for server in site.servers))
        names = {server.name for server in site.servers}
        took_s = site.wait(lambda: site.node_caps() >= names, "every NodeCap written again", 2 * SOON_S)
        site.expect(not site.plant.loosened(began_s), "no board is loosened")
        notes.append(f"written again after {took_s:.0f} s, nothing loosened")


def agent_killed_in_a_write(site: Site) -> None:
    """Without load at first: killed while the setter waits for the driver to take the caps; the next one takes over."""
    name = site.servers[2].name
    for index in range(scene.GPUS):
        site.plant.state(name).script_delay(index, Call.SET_LOCKED_CLOCKS, WRITE_S)
    with site.measured("kill -9 of an agent in the middle of a write") as notes:
        site.plant.load(scene.FULL)
        others = [(server.name, 0) for server in site.servers if server.name != name]
        site.wait(lambda: any(site.plant.caps()[key].clock_cap_mhz for key in others), "the first caps", SOON_S)
        site.control.supervisor.signal(f"agent-{name}", signal.SIGKILL)
        site.control.supervisor.restart(f"agent-{name}")
        for index in range(scene.GPUS):
            site.plant.state(name).script_delay(index, Call.SET_LOCKED_CLOCKS, 0)
        scenarios.loaded(site)
        notes.append("its successor holds the caps")


def budget_cut(site: Site) -> None:
    """At full load the row loses a fifth of its budget, by kubectl patch."""
    with site.measured("budget -20 % at full load") as notes:
        site.budget(scene.ROW, round(scene.BUDGETS_W[scene.ROW] * CUT_RATIO))
        site.wait(lambda: site.braked, "the brake on every board of low priority", SOON_S)
        site.wait(lambda: not site.monitor.above, "below the budget again", SOON_S)
        notes.append("braked")
    site.budget(scene.ROW, scene.BUDGETS_W[scene.ROW])
    scenarios.loaded(site)


def budget_cut_in_a_blackout(site: Site) -> None:
    """No agent answers power any more, and then the same cut. NodeCaps still arrive, and leases run out."""
    time.sleep(READY_S)  # so that the last that was heard is full load
    with site.measured("budget -20 % in a blackout of telemetry") as notes:
        for server in site.servers:
            site.networks[server.name].calls.shut()
        try:
            site.budget(scene.ROW, round(scene.BUDGETS_W[scene.ROW] * CUT_RATIO))
            site.wait(lambda: site.monitor.above, "the budget crossed", SOON_S)
            site.wait(lambda: not site.monitor.above, "below the budget again", SOON_S)
            time.sleep(READY_S)
            notes.append("no answer from any agent")
        finally:
            for server in site.servers:
                site.networks[server.name].calls.open()
            site.budget(scene.ROW, scene.BUDGETS_W[scene.ROW])
    scenarios.loaded(site)


class _stopped:  # noqa: N801 - used as a verb
    """SIGSTOP for as long as the block lasts."""

    def __init__(self, site: Site, name: str) -> None:
        self._send = partial(site.control.supervisor.signal, name)

    def __enter__(self) -> None:
        self._send(signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        self._send(signal.SIGCONT)


ALL: dict[str, Scenario] = {
    "roll-out": roll_out,
    "up-and-back": scenarios.up_and_back,
    "agent-killed-in-a-write": agent_killed_in_a_write,
    "load-in-api-outage": load_in_an_api_outage,
    "leader-killed": scenarios.leader_killed,
    "everybody-killed": everybody_killed,
    "api-stopped": api_server_stopped,
    "prometheus-stopped": prometheus_stopped,
    "agent-stopped": agent_stopped,
    "agent-and-setter-stopped": agent_and_setter_stopped,
    "network-cut": network_cut,
    "node-caps-deleted": node_caps_deleted,
    "budget-cut": budget_cut,
    "budget-cut-in-a-blackout": budget_cut_in_a_blackout,
    "deleted": scenarios.deleted,
}
WITHOUT_LOAD = frozenset({"roll-out", "up-and-back", "agent-killed-in-a-write", "load-in-api-outage"})


def play(site: Site, name: str) -> None:
    """Play one scenario of `ALL`, from where it begins."""
    if name in WITHOUT_LOAD:
        site.calm()
    else:
        scenarios.loaded(site)
    ALL[name](site)
