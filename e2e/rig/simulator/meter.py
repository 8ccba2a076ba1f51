"""The closed loop, ten times a second: caps from the NVML state files into the engines, watts back into the files.

The slowest GPU rules: a replica runs at the lowest clock cap and the lowest board limit of the GPUs that it holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rig.nvml.state import State
from rig.simulator.engines import Caps
from rig.simulator.fleet import Fleet, Tenant
from rig.simulator.node import Node
from rig.simulator.truth import Truth

TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Draw:
    """One GPU over one tick: mean watts, SM clock at its end."""

    power_w: float
    sm_clock_mhz: float
    busy: bool = False


class Meter:
    """Meters a fleet. `states` maps a node's name to its NVML state file."""

    def __init__(self, fleet: Fleet, states: Mapping[str, State], truth: Truth) -> None:
        self._fleet = fleet
        self._states = states
        self._truth = truth
        self._last_s: float | None = None

    def tick(self, now_s: float, unix_s: float) -> None:
        """Meter what happened since the last tick; the first one only starts the clock."""
        elapsed_s = 0.0 if self._last_s is None else now_s - self._last_s
        self._last_s = now_s
        for tenant in self._fleet.tenants.values():
            self._cap(tenant, now_s)
        if elapsed_s > 0:
            self._book(elapsed_s, now_s)
        self._truth.write_when_due(now_s, unix_s, self._fleet.tenants.values())

    def _cap(self, tenant: Tenant, now_s: float) -> None:
        if tenant.replica is not None:
            tenant.replica.set_caps(self._caps(tenant), now_s)

    def _caps(self, tenant: Tenant) -> Caps:
        told = [self._states[tenant.node.view.name].caps(index) for index in tenant.gpus]
        return tightest(Caps(gpu.clock_cap_mhz, gpu.power_limit_w) for gpu in told)

    def _book(self, elapsed_s: float, now_s: float) -> None:
        draws = {uid: self._draw(tenant, elapsed_s, now_s) for uid, tenant in self._fleet.tenants.items()}
        node_w = {name: self._book_node(node, draws, elapsed_s) for name, node in self._fleet.nodes.items()}
        policy_w: defaultdict[str, float] = defaultdict(float)
        for uid, tenant in self._fleet.tenants.items():
            policy_w[tenant.pod.policy] += draws[uid].power_w * len(tenant.gpus)
        unassigned_w = max(0.0, sum(node_w.values()) - sum(policy_w.values()))  # the rest, less rounding
        self._truth.book(elapsed_s, node_w, policy_w, unassigned_w)

    def _draw(self, tenant: Tenant, elapsed_s: float, now_s: float) -> Draw:
        """Return what each GPU of a tenant drew; a pod that is not Ready yet draws as loaded and idle."""
        replica = tenant.replica
        if replica is None:
            clocks = tenant.profile.clocks
            idle_mhz = clocks.ratio(self._caps(tenant).clock_cap_mhz) * clocks.max_mhz
            return Draw(tenant.profile.draw.loaded_idle_w, idle_mhz)
        replica.advance(now_s)
        energy_j = replica.engine.energy_j - tenant.booked_j
        tenant.booked_j += energy_j
        return Draw(energy_j / elapsed_s / len(tenant.gpus), replica.engine.sm_clock_mhz, not replica.engine.idle)

    def _book_node(self, node: Node, draws: Mapping[str, Draw], elapsed_s: float) -> float:
        """Book a node's GPUs, show them in its NVML state and return its watts (GPUs only)."""
        unassigned = self._unassigned(node)
        total_w = 0.0
        for gpu, meter in zip(node.gpus, node.meters, strict=True):
            draw = draws.get(node.holder(gpu.index) or "", unassigned)
            meter.book(draw.power_w, elapsed_s)
            meter.sm_clock_mhz, meter.busy = draw.sm_clock_mhz, draw.busy
            self._states[node.view.name].report(
                gpu.index, power_w=meter.power_w, energy_j=meter.energy_j, sm_clock_mhz=meter.sm_clock_mhz
            )
            total_w += draw.power_w
        return total_w

    def _unassigned(self, node: Node) -> Draw:
        """Return what a GPU without a pod draws: unloaded, at its lowest clock."""
        profile = self._fleet.profiles.of_gpu(node.view.gpu_product)
        return Draw(profile.draw.unloaded_w, profile.clocks.min_mhz)


def tightest(caps: Iterable[Caps]) -> Caps:
    """Return the lowest clock cap and the lowest board limit of several GPUs."""
    known = tuple(caps)
    clocks = [c.clock_cap_mhz for c in known if c.clock_cap_mhz is not None]
    limits = [c.power_limit_w for c in known if c.power_limit_w is not None]
    return Caps(min(clocks, default=None), min(limits, default=None))
