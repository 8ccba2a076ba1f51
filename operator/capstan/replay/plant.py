"""The watts of the fleet in virtual time: GPUs of every node, and the AC draw of every power domain.

Who calls it: `replay.engine`. Must not know: requests, decisions.

True AC draw of a domain = (GPUs with a pod + GPUs without one + typical non-GPU watts of its nodes) / efficiency,
as the mean over one slice of time, taken from the engines' exact joules. Agents see less: the mean of the last
second, as a Hopper driver reports it (facts/polca.md 3.1) and as the rig's simulator does.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capstan.model.profile import Draw, Profile
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing
from capstan.powercap import readings
from capstan.powercap.domains import Domain, NodeSample
from capstan.replay.nodes import Seats
from capstan.replay.pool import Pool
from capstan.replay.runs import Floats, Ints

SAMPLE_AGE_S = 0.5  # the middle of the second that a sample is the mean of


@dataclass(frozen=True, slots=True)
class _Standing:
    """A domain's samples without their watts: which nodes are `away`, the rows of its nodes, who of them is heard."""

    away: frozenset[int]
    samples: readings.Samples
    rows: Ints
    heard: npt.NDArray[np.bool_]


class Plant:
    """Reads the pools' joules once per slice."""

    def __init__(
        self, seats: Seats, pools: Sequence[Pool], profiles: Sequence[Profile], *, slices_per_sample: int
    ) -> None:
        self._seats = seats
        self._pools = pools
        self._index = {node.name: index for index, node in enumerate(seats.nodes)}
        self._recent: deque[Floats] = deque(maxlen=slices_per_sample)
        draws: dict[str, Draw] = {product: p.draw for p in reversed(profiles) for product in p.gpu_products}
        self._draws = [draws[node.gpu_product] for node in seats.nodes]
        self._unloaded_w = np.array([draw.unloaded_w for draw in self._draws])
        self._known: dict[str, _Standing] = {}
        self._booked_j = [np.zeros(len(pool.world.replicas)) for pool in pools]

    def unassigned_w(self) -> float:
        """Return the watts of all GPUs that have no pod now."""
        return float(np.dot(self._unloaded_w, self._seats.free))

    def measure(self, slice_s: float) -> None:
        """Take the mean watts per node since the last call, `slice_s` ago; before drained replicas are let go."""
        by_node = self._unloaded_w * self._seats.free
        for pool, booked_j in zip(self._pools, self._booked_j, strict=True):
            energy_j = pool.world.energy_j()
            for pod in pool.pods:
                by_node[pod.node] += (energy_j[pod.slot] - booked_j[pod.slot]) / slice_s
            booked_j[:] = energy_j
        self._recent.append(by_node)

    def draw_w(self, domain: Domain) -> float:
        """Return the AC draw at a domain's meter in the newest slice."""
        newest = self._recent[-1]
        gpus_w = sum(float(newest[self._index[node]]) for node in domain.nodes)
        there = sum(self._index[node] not in self._seats.away for node in domain.nodes)
        return (gpus_w + domain.non_gpu_typical_w * there) / domain.supply_efficiency_ratio

    def samples(self, domain: Domain) -> readings.Samples:
        """Return what the agents of a domain's nodes say; there is none before the first `measure`."""
        mean_w = np.mean(self._recent, axis=0)
        there = self._standing(domain)
        heard_w = np.where(there.heard, mean_w[there.rows], np.nan)
        return dataclasses.replace(there.samples, heard_w=heard_w)

    def _standing(self, domain: Domain) -> _Standing:
        """Return what of a domain's samples stays as it is from second to second, until a node goes or comes back."""
        away = frozenset(self._seats.away)
        known = self._known.get(domain.name)
        if known is None or known.away != away or known.samples.nodes != domain.nodes:
            samples = readings.of([self._sample(name, 0.0) for name in domain.nodes])
            rows = np.array([self._index[name] for name in domain.nodes], dtype=np.int64)
            known = self._known[domain.name] = _Standing(away, samples, rows, ~np.isnan(samples.heard_w))
        return known

    def _sample(self, name: str, gpus_w: float) -> NodeSample:
        index = self._index[name]
        gpus, draw = self._seats.nodes[index].gpus, self._draws[index]
        return NodeSample(
            node=name,
            gpus_w=Missing(Reason.NO_DATA) if index in self._seats.away else Fresh(gpus_w, SAMPLE_AGE_S),
            worst_case_w=gpus * draw.limit_w,
            gpus=gpus,
            min_limit_w=draw.min_limit_w,
        )
