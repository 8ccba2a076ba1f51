"""What each node may run at: caps of all its domains joined, as NodeCap documents and lease calls.

Who calls it: `cycle`. The sequence of a node grows with every change; the epoch is the Lease's, so that a controller of
yesterday is refused by the agents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from capstan.power.ports import Document, NodePower
from capstan.powercap.domains import NO_CAPS, ClassCaps, SafeSetting

LEASE_S = 4  # DESIGN 6: 4 s lease + 1 s tick + 3 s actuation and settling stay under promise P1's 10 s


@dataclass(frozen=True, slots=True)
class NodeWish:
    """What a node should hold: caps, its High pods, and the safe setting it falls back to."""

    node: str
    caps: ClassCaps
    high_pods: tuple[tuple[str, str], ...]
    safe: SafeSetting


@dataclass(frozen=True, slots=True)
class Held:
    """The newest (epoch, sequence) that we gave a node, for which wish, and whether the API server has it."""

    epoch: int
    sequence: int
    wish: NodeWish
    written: bool = False


def body(wish: NodeWish) -> Document:
    """Return the part of `spec.power` that a wish decides; whole numbers that never loosen."""
    return {
        "leaseSeconds": LEASE_S,
        "caps": caps_document(wish.caps),
        "highPods": [{"namespace": namespace, "name": name} for namespace, name in wish.high_pods],
        "safe": {
            "clockMegahertz": math.floor(wish.safe.clock_mhz),
            "powerLimitWatts": math.floor(wish.safe.power_limit_w),
        },
    }


def caps_document(caps: ClassCaps) -> Document:
    """Return caps as the contract has them: a missing field is no cap."""
    pairs = (
        ("lowMegahertz", caps.low_mhz),
        ("highMegahertz", caps.high_mhz),
        ("powerLimitWatts", caps.power_limit_w),
    )
    return {name: math.floor(value) for name, value in pairs if value is not None}


def document(held: Held) -> Document:
    """Return the apply document of a node's `spec.power`."""
    power: Document = {"epoch": held.epoch, "sequence": held.sequence, **body(held.wish)}
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "NodeCap",
        "metadata": {"name": held.wish.node},
        "spec": {"power": power},
    }


NO_LIMIT = SafeSetting(clock_mhz=10_000, power_limit_w=100_000)
"""Above any GPU: the setter clamps to what the device accepts, so this is stock."""


def released(node: str) -> NodeWish:
    """Return the wish of a node that no armed domain holds any more."""
    return NodeWish(node, NO_CAPS, (), NO_LIMIT)


def restricts(power: NodePower) -> bool:
    """Return whether a stored `spec.power` holds a node below stock."""
    stock = body(released(""))
    return any(power.document.get(field) != stock[field] for field in ("caps", "safe") if field in power.document)


class Ledger:
    """Gives every change of a node's wish the next sequence, and remembers what the API server took."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._held: dict[str, Held] = {}

    def hold(self, wish: NodeWish, stored: Mapping[str, NodePower]) -> Held:
        """Return what a node holds after this wish: the same when nothing changed."""
        held = self._held.get(wish.node)
        if held is None:
            held = self._adopted(wish, stored.get(wish.node))
        elif held.wish != wish:
            held = Held(self.epoch, held.sequence + 1, wish)
        self._held[wish.node] = held
        return held

    def wrote(self, held: Held) -> None:
        """Note that the API server has it."""
        if self._held.get(held.wish.node) == held:
            self._held[held.wish.node] = Held(held.epoch, held.sequence, held.wish, written=True)

    def forget(self, nodes: frozenset[str]) -> None:
        """Forget nodes that are in no armed domain any more."""
        self._held = {node: held for node, held in self._held.items() if node in nodes}

    def _adopted(self, wish: NodeWish, stored: NodePower | None) -> Held:
        """Return the first holding of this process: a new epoch is written once, even where nothing else changed."""
        if stored is None:
            return Held(self.epoch, 1, wish)
        sequence = stored.sequence + 1 if stored.epoch >= self.epoch else 1
        return Held(max(self.epoch, stored.epoch), sequence, wish)
