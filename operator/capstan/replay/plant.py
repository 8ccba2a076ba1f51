"""The watts of the fleet in virtual time: GPUs of every node, and the AC draw of every power domain.

Who calls it: `replay.engine`. Must not know: requests, decisions.

True AC draw of a domain = (GPUs with a pod + GPUs without one + typical non-GPU watts of its nodes) / efficiency,
as the mean over one slice of time, taken from the engines' exact joules. Agents see less: the mean of the last
second, as a Hopper driver reports it (facts/polca.md 3.1) and as the rig's simulator does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capstan.model.profile import Profile
from capstan.model.sample import Fresh
from capstan.powercap.domains import Domain, NodeSample
from capstan.replay.pool import Pool, Seats

SAMPLE_SLICES = 10  # of 100 ms: a sample is the mean of a second
SAMPLE_AGE_S = 0.5  # the middle of that second


@dataclass(frozen=True, slots=True)
class Watts:
    """Means over one slice: GPU watts per node (pods or not) and per pool, and those of GPUs without a pod."""

    by_node: Mapping[str, float]
    by_pool: Mapping[str, float]
    unassigned_w: float


class Plant:
    """Reads the pools' joules once per slice."""

    def __init__(self, seats: Seats, pools: Mapping[str, Pool], profiles: Sequence[Profile]) -> None:
        self._seats = seats
        self._pools = pools
        self._recent: deque[Mapping[str, float]] = deque(maxlen=SAMPLE_SLICES)
        self._draws = {product: p.draw for p in reversed(profiles) for product in p.gpu_products}

    def measure(self, slice_s: float) -> Watts:
        """Return the mean watts since the last call, `slice_s` ago. Call it before drained replicas are let go."""
        free_w = {
            node.name: self._seats.free(node.name) * self._draws[node.gpu_product].unloaded_w
            for node in self._seats.nodes
        }
        by_node, by_pool = dict(free_w), dict.fromkeys(self._pools, 0.0)
        for key, pool in self._pools.items():
            for replica in pool.replicas:
                energy_j = replica.engine.energy_j
                mean_w = (energy_j - replica.booked_j) / slice_s
                replica.booked_j = energy_j
                by_node[replica.node] += mean_w
                by_pool[key] += mean_w
        self._recent.append(by_node)
        return Watts(by_node, by_pool, sum(free_w.values()))

    def draw_w(self, domain: Domain, watts: Watts) -> float:
        """Return the AC draw at a domain's meter."""
        gpus_w = sum(watts.by_node[node] for node in domain.nodes)
        return (gpus_w + domain.non_gpu_typical_w * len(domain.nodes)) / domain.supply_efficiency_ratio

    def samples(self, domain: Domain) -> tuple[NodeSample, ...]:
        """Return what the agents of a domain's nodes say; there is none before the first `measure`."""
        nodes = {node.name: node for node in self._seats.nodes}
        return tuple(
            NodeSample(
                node=name,
                gpus_w=Fresh(sum(by_node[name] for by_node in self._recent) / len(self._recent), SAMPLE_AGE_S),
                worst_case_w=nodes[name].gpus * self._draws[nodes[name].gpu_product].limit_w,
                gpus=nodes[name].gpus,
                min_limit_w=self._draws[nodes[name].gpu_product].min_limit_w,
            )
            for name in domain.nodes
        )
