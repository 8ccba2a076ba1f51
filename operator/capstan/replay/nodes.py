"""The servers of a fleet and who has their GPUs.

Who calls it: `replay.pool` and `replay.plant`; `replay.load` and the rig make the nodes. Must not know: requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capstan.model.profile import Profile


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
    """GPUs of the fleet and who has them. A replica's GPUs lie on one node. `away`: nodes that are lost."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes
        self.free = [node.gpus for node in nodes]
        self.away: set[int] = set()

    def take(self, gpus: int, gpu_products: tuple[str, ...], ranks: Sequence[int] = ()) -> int | None:
        """Return the index of the node with the least free GPUs that still has room (best fit), or None.

        Best fit, as bin-packing schedulers do for GPUs: whole nodes stay free for replicas of a larger tp. Where nodes
        have `ranks`, one of a lower rank comes first, as with a preferred node affinity.
        """
        best: int | None = None
        for index in (
            sorted(range(len(self.nodes)), key=lambda index: ranks[index]) if ranks else range(len(self.nodes))
        ):
            fits = self.free[index] >= gpus and self.nodes[index].gpu_product in gpu_products
            better = best is None or self.free[index] < self.free[best]
            if best is not None and ranks and ranks[index] > ranks[best]:
                break
            if fits and better:
                best = index
        if best is not None:
            self.free[best] -= gpus
        return best

    def give(self, node: int, gpus: int) -> None:
        """Return GPUs to a node."""
        if node not in self.away:
            self.free[node] += gpus

    def lose(self, node: int) -> None:
        """Let a node be gone: nobody is placed on it, and it draws nothing."""
        self.away.add(node)
        self.free[node] = 0

    def back(self, node: int) -> None:
        """Let a node be there again, empty."""
        self.away.discard(node)
        self.free[node] = self.nodes[node].gpus
