"""Replicas of one policy in virtual time: placement on nodes, start-up, least-loaded routing, drain.

Who calls it: `replay.engine`. Must not know: why a count or a cap was chosen.

A starting replica draws loaded-idle watts on all its GPUs from the moment its pod exists (it loads weights; nobody
has published watts of that phase) and serves nothing. A draining one takes no new request, finishes what it has and
is then gone. A pod that no node has room for stays pending: it draws nothing and is tried again on every slice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from capstan.model.profile import Profile
from capstan.model.workload import Request
from capstan.replay.world import Emission, Engine


@dataclass(frozen=True, slots=True)
class Node:
    """A server of the fleet. `labels` are what a PowerDomain selects by."""

    name: str
    gpus: int
    gpu_product: str
    labels: tuple[tuple[str, str], ...] = ()


def room(nodes: tuple[Node, ...], profile: Profile) -> int:
    """Return how many replicas of a profile an empty fleet has room for; a replica's GPUs lie on one node."""
    return sum(node.gpus // profile.tp for node in nodes if node.gpu_product in profile.gpu_products)


class Seats:
    """GPUs of the fleet and who has them. A replica's GPUs lie on one node."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes
        self._free = {node.name: node.gpus for node in nodes}

    def take(self, gpus: int, gpu_products: tuple[str, ...]) -> str | None:
        """Return the node with the most free GPUs that has room (first by order on a tie), or None."""
        fits = [n.name for n in self.nodes if n.gpu_product in gpu_products and self._free[n.name] >= gpus]
        if not fits:
            return None
        chosen = max(fits, key=lambda name: self._free[name])
        self._free[chosen] -= gpus
        return chosen

    def give(self, node: str, gpus: int) -> None:
        """Return GPUs to a node."""
        self._free[node] += gpus

    def free(self, node: str) -> int:
        """Return how many GPUs of a node have no pod."""
        return self._free[node]


@dataclass(slots=True)
class Replica:
    """One engine on one node. `booked_j` is what the plant has already counted of its energy."""

    engine: Engine
    node: str
    ready_s: float
    ready: bool = False
    draining: bool = False
    booked_j: float = 0.0

    @property
    def load(self) -> int:
        """Requests inside, which is what routing compares."""
        return self.engine.running + self.engine.waiting


class Pool:
    """The replicas of one policy. `desired` is what a Deployment's `spec.replicas` would say."""

    def __init__(self, profile: Profile, seats: Seats, *, startup_s: float) -> None:
        self.profile = profile
        self.replicas: list[Replica] = []
        self.desired = 0
        self.backlog: deque[Request] = deque()
        self._seats = seats
        self._startup_s = startup_s
        self._clock_cap_mhz: dict[str, float | None] = {}
        self._power_limit_w: dict[str, float | None] = {}
        self._gone_j = 0.0

    # --- what the outside does ---------------------------------------------------------------------

    def start_ready(self, count: int, now_s: float) -> None:
        """Place `count` replicas that are ready at once: the state in which a run begins."""
        self.desired = count
        self._create(now_s, ready_s=now_s)
        self.settle(now_s)

    def scale(self, count: int, now_s: float) -> None:
        """Ask for `count` replicas: starting ones go first, then the least loaded drain."""
        self.desired = count
        staying = [replica for replica in self.replicas if not replica.draining]
        surplus = len(staying) - count
        for replica in sorted(staying, key=lambda r: (r.ready, r.load))[: max(surplus, 0)]:
            replica.draining = True
        self._create(now_s, ready_s=now_s + self._startup_s)

    def submit(self, request: Request, now_s: float) -> bool:
        """Route a request to the least loaded ready replica; hold it while none is. False: it fits in no engine."""
        if request.prompt_tokens + request.output_tokens > self.profile.kv_tokens:
            return False
        ready = self.serving
        if not ready:
            self.backlog.append(request)
            return True
        min(ready, key=lambda replica: replica.load).engine.submit(request, now_s)
        return True

    def set_caps(self, now_s: float, node: str, *, clock_cap_mhz: float | None, power_limit_w: float | None) -> None:
        """Cap the replicas of a node, also those that will come."""
        self._clock_cap_mhz[node] = clock_cap_mhz
        self._power_limit_w[node] = power_limit_w
        for replica in self.replicas:
            if replica.node == node:
                replica.engine.set_caps(now_s, clock_cap_mhz=clock_cap_mhz, power_limit_w=power_limit_w)

    def advance(self, to_s: float) -> list[Emission]:
        """Play all engines up to `to_s`; first and last tokens, replica by replica."""
        return [emission for r in self.replicas for emission in r.engine.advance(to_s, tokens=False)]

    def settle(self, now_s: float) -> None:
        """Let started replicas serve, drained ones go, and pending ones be placed."""
        for replica in self.replicas:
            replica.ready = replica.ready or replica.ready_s <= now_s
        for replica in [r for r in self.replicas if r.draining and r.engine.idle]:
            self.replicas.remove(replica)
            self._gone_j += replica.engine.energy_j
            self._seats.give(replica.node, self.profile.tp)
        self._create(now_s, ready_s=now_s + self._startup_s)
        while self.backlog and self.serving:
            self.submit(self.backlog.popleft(), now_s)

    # --- what the outside sees ---------------------------------------------------------------------

    @property
    def serving(self) -> list[Replica]:
        """Replicas that take new requests."""
        return [replica for replica in self.replicas if replica.ready and not replica.draining]

    @property
    def gpu_product(self) -> str | None:
        """The GPUs that the replicas sit on; None while there is none."""
        products = {node.name: node.gpu_product for node in self._seats.nodes}
        return products[self.replicas[0].node] if self.replicas else None

    @property
    def starting(self) -> int:
        """Pods created or pending, not ready yet."""
        return max(self.desired - len(self.serving), 0)

    @property
    def terminating(self) -> int:
        """Replicas that drain."""
        return sum(replica.draining for replica in self.replicas)

    @property
    def running(self) -> int:
        """Sequences running in all replicas."""
        return sum(replica.engine.running for replica in self.replicas)

    @property
    def waiting(self) -> int:
        """Requests queued in all replicas and in front of them."""
        return len(self.backlog) + sum(replica.engine.waiting for replica in self.replicas)

    @property
    def energy_j(self) -> float:
        """Joules of all GPUs that this pool ever had, up to the last `advance`."""
        return self._gone_j + sum(replica.engine.energy_j for replica in self.replicas)

    def _create(self, now_s: float, *, ready_s: float) -> None:
        staying = sum(not replica.draining for replica in self.replicas)
        for _ in range(self.desired - staying):
            node = self._seats.take(self.profile.tp, self.profile.gpu_products)
            if node is None:
                return
            engine = Engine(
                self.profile,
                now_s=now_s,
                chunk_tokens=self.profile.chunk_tokens,
                max_num_seqs=self.profile.max_num_seqs,
            )
            clock_cap_mhz, power_limit_w = self._clock_cap_mhz.get(node), self._power_limit_w.get(node)
            engine.set_caps(now_s, clock_cap_mhz=clock_cap_mhz, power_limit_w=power_limit_w)
            self.replicas.append(Replica(engine, node, ready_s))
