"""Replicas in power domains: where they are, what they weigh there, and which one leaves.

Who calls it: `replay.pool`. Must not know: watts, why a share or a move was chosen. `homes` has the innermost domain of
every node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capstan.model.headroom import Place
from capstan.model.plan import Move, Share
from capstan.replay.kernel.layout import READY, Records
from capstan.replay.nodes import Seats

Kind = tuple[str, int]
"""Class pool and tp."""


@dataclass(slots=True)
class Pod:
    """One replica: its slot in the world, the node that its GPUs lie on, since when it exists, the pool it serves."""

    slot: int
    node: int
    tp: int
    created_s: float
    lane: str
    draining: bool = False
    leaving: bool = False  # it serves until another one, elsewhere, is Ready
    own_weight: float | None = None  # what it would weigh without its power domain's share; None: it does

    @property
    def kind(self) -> Kind:
        """Class pool and tp."""
        return self.lane, self.tp


def of(pods: Sequence[Pod], rows: Records, homes: Sequence[str]) -> tuple[Place, ...]:
    """Return the replicas that do not drain by domain and degree."""
    found: dict[tuple[str, int], list[int]] = {}
    for pod in pods:
        if not pod.draining:
            counts = found.setdefault((homes[pod.node], pod.tp), [0, 0])
            counts[0 if rows[pod.slot]["state"] == READY else 1] += 1
    return tuple(Place(domain, tp, *counts) for (domain, tp), counts in sorted(found.items()))


def weigh(shares: Sequence[Share], pods: Sequence[Pod], rows: Records, homes: Sequence[str]) -> None:
    """Give replicas the weights of their shares; those without one weigh what they did before."""
    weights = {(share.domain, share.tp): share.weight_ratio for share in shares}
    for pod in pods:
        weight = weights.get((homes[pod.node], pod.tp))
        if weight is None and pod.own_weight is not None:
            rows[pod.slot]["weight"], pod.own_weight = pod.own_weight, None
        elif weight is not None:
            pod.own_weight = float(rows[pod.slot]["weight"]) if pod.own_weight is None else pod.own_weight
            rows[pod.slot]["weight"] = weight


def has_room(move: Move, seats: Seats, homes: Sequence[str], gpu_products: tuple[str, ...]) -> bool:
    """Return whether a node of the domain that a replica moves to has room for it."""
    return any(
        home == move.target and free >= move.tp and node.gpu_product in gpu_products
        for home, free, node in zip(homes, seats.free, seats.nodes, strict=True)
    )


def leave(move: Move, staying: Sequence[Pod], rows: Records, homes: Sequence[str]) -> None:
    """Let the least loaded replica of a domain leave: it serves until its successor is Ready."""
    here = [pod for pod in staying if homes[pod.node] == move.source and pod.tp == move.tp]
    if here:
        least = min(here, key=lambda pod: int(rows[pod.slot]["running"]) + int(rows[pod.slot]["waiting"]))
        least.leaving = True
