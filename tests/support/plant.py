"""A plant for the power machine: what nodes draw under the caps in force, and what of it is heard. One tick a second.

Half of each node's GPUs is low priority, half high. A clock cap saves in proportion, a board limit bounds. Caps come
into force `latency_s` after they were ordered; a node that is not called for `LEASE_S` holds its safe setting alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from capstan.model.sample import Fresh, graded
from capstan.powercap.domains import NO_CAPS, ClassCaps, Domain, NodeSample, tightest
from capstan.powercap.safety import OVERSHOOT_RATIO

MAX_MHZ = 1980.0
GPUS = 8
WORST_W = 5600.0
MIN_LIMIT_W = 200.0
LEASE_S = 4.0  # DESIGN 6
STALE_S = 5.0


@dataclass
class Plant:
    """Nodes of one domain.

    Attributes:
        slope: What a clock cap saves: the draw at clock f is 1 - slope (1 - f / max) of the uncapped.
        demand_w: DC watts that the GPUs of a node would draw uncapped.
        deaf: Nodes that put nothing into force.
        unheard: Nodes whose agents nobody reaches.
    """

    domain: Domain
    latency_s: int = 3
    slope: float = 0.9
    now_s: float = 0.0
    demand_w: dict[str, float] = field(default_factory=dict)
    deaf: set[str] = field(default_factory=set)
    unheard: set[str] = field(default_factory=set)
    _orders: dict[str, list[tuple[float, ClassCaps]]] = field(default_factory=dict)
    _heard: dict[str, tuple[float, float]] = field(default_factory=dict)

    def draw_at(self, ratio: float) -> None:
        """Let every node ask for its share of a ratio of the budget, at the meter."""
        ac_w = ratio * self.domain.budget_w / len(self.domain.nodes)
        dc_w = ac_w * self.domain.supply_efficiency_ratio - self.domain.non_gpu_typical_w
        self.demand_w = dict.fromkeys(self.domain.nodes, dc_w)

    def order(self, caps: ClassCaps) -> None:
        """Send caps to every node that is reached."""
        for node in self.domain.nodes:
            if node not in self.unheard:
                self._orders.setdefault(node, []).append((self.now_s, caps))

    def held(self, node: str) -> ClassCaps:
        """Return the caps in force at a node."""
        orders = self._orders.get(node, [])
        if node in self.deaf or not orders:
            return NO_CAPS
        due = [caps for at_s, caps in orders if self.now_s - at_s >= self.latency_s]
        caps = due[-1] if due else NO_CAPS
        self._orders[node] = orders[max(len(due) - 1, 0) :]
        safe = self.domain.safe
        if safe is not None and self.now_s - orders[-1][0] >= LEASE_S + 1:  # a second to notice and set it
            return tightest(caps, ClassCaps(safe.clock_mhz, safe.clock_mhz, safe.power_limit_w))
        return caps

    def in_force(self, caps: ClassCaps) -> bool:
        """Return whether every node holds some caps."""
        return all(self.held(node) == caps for node in self.domain.nodes)

    def node_w(self, node: str) -> float:
        """Return DC watts of a node's GPUs."""
        caps = self.held(node)
        half_w = self.demand_w.get(node, 0.0) / 2
        asked_w = half_w * (self._speed(caps.low_mhz) + self._speed(caps.high_mhz))
        limit_w = WORST_W if caps.power_limit_w is None else caps.power_limit_w * GPUS
        return min(asked_w, limit_w * OVERSHOOT_RATIO)

    def draw_w(self) -> float:
        """Return AC watts at the domain's meter."""
        gpus_w = sum(self.node_w(node) + self.domain.non_gpu_typical_w for node in self.domain.nodes)
        return gpus_w / self.domain.supply_efficiency_ratio

    def samples(self) -> tuple[NodeSample, ...]:
        """Return what is known of the nodes that were ever heard."""
        for node in self.domain.nodes:
            if node not in self.unheard:
                self._heard[node] = (self.node_w(node), self.now_s)
        return tuple(self._sample(node) for node in self.domain.nodes if node in self._heard)

    def _sample(self, node: str) -> NodeSample:
        watts, at_s = self._heard[node]
        value = Fresh(watts, 0.0) if at_s == self.now_s else graded(watts, self.now_s - at_s, limit_s=STALE_S)
        return NodeSample(node, value, worst_case_w=WORST_W, gpus=GPUS, min_limit_w=MIN_LIMIT_W)

    def _speed(self, clock_mhz: float | None) -> float:
        return 1.0 if clock_mhz is None else 1.0 - self.slope * (1.0 - min(clock_mhz / MAX_MHZ, 1.0))
