"""What each node may run at: caps of all its domains joined, as NodeCap documents and lease calls.

Who calls it: `cycle`. The sequence of a node grows with every change; the epoch is the Lease's, so that a controller of
yesterday is refused by the agents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from capstan.power.ports import Document, NodePower
from capstan.powercap.domains import NO_CAPS, ClassCaps, SafeSetting, tightest, tightest_safe

LEASE_S = 4  # DESIGN 6: 4 s lease + 1 s tick + 3 s actuation and settling stay under promise P1's 10 s


SEEN_S = 10.0  # what we wrote is in our cache again within a second; ten are for a watch that began anew


@dataclass(frozen=True, slots=True)
class Granted:
    """What a ledger grants a node, and the board limit that it comes to."""

    ledger: str
    sequence: int
    grant_w: float
    limit_w: int


@dataclass(frozen=True, slots=True)
class NodeWish:
    """What a node should hold: caps, its High pods, the safe setting it falls back to, and the grants in both."""

    node: str
    caps: ClassCaps
    high_pods: tuple[tuple[str, str], ...]
    safe: SafeSetting
    grants: tuple[Granted, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """The newest (epoch, sequence) that we gave a node, for which wish, and whether the API server has it."""

    epoch: int
    sequence: int
    wish: NodeWish
    written: bool = False


def body(wish: NodeWish) -> Document:
    """Return the part of `spec.power` that a wish decides; whole numbers that never loosen.

    No caps is no field: an applied `caps: {}` whose entries we owned before reaches the API server's validation as
    null and is refused, and a release would never arrive (seen on v1.35).
    """
    made: Document = {
        "leaseSeconds": LEASE_S,
        "safe": {
            "clockMegahertz": math.floor(wish.safe.clock_mhz),
            "powerLimitWatts": math.floor(wish.safe.power_limit_w),
        },
    }
    if wish.caps != NO_CAPS:
        made["caps"] = caps_document(wish.caps)
    if wish.high_pods:
        made["highPods"] = [{"namespace": namespace, "name": name} for namespace, name in wish.high_pods]
    if wish.grants:
        made["grants"] = [
            {"ledger": one.ledger, "sequence": one.sequence, "watts": int(one.grant_w)} for one in wish.grants
        ]
    return made


def caps_document(caps: ClassCaps) -> Document:
    """Return caps as the contract has them: a missing field is no cap."""
    pairs = (
        ("lowMegahertz", caps.low_mhz),
        ("highMegahertz", caps.high_mhz),
        ("powerLimitWatts", caps.power_limit_w),
    )
    return {name: math.floor(value) for name, value in pairs if value is not None}


def document(held: Held, version: str = "") -> Document:
    """Return the apply document of a node's `spec.power`.

    The version of what we saw is a precondition: a leader that was paused saw an old one, and its write fails.
    """
    power: Document = {"epoch": held.epoch, "sequence": held.sequence, **body(held.wish)}
    seen = {"resourceVersion": version} if version else {}
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "NodeCap",
        "metadata": {"name": held.wish.node, **seen},
        "spec": {"power": power},
    }


def caps_of(power: NodePower | None) -> ClassCaps:
    """Return the caps that a stored `spec.power` holds."""
    held = None if power is None else power.document.get("caps")
    low, high, limit = (_whole(held, name) for name in ("lowMegahertz", "highMegahertz", "powerLimitWatts"))
    return ClassCaps(*(None if value is None else float(value) for value in (low, high, limit)))


NO_LIMIT = SafeSetting(clock_mhz=10_000, power_limit_w=100_000)
"""Above any GPU: the setter clamps to what the device accepts, so this is stock."""


def with_grants(wish: NodeWish, grants: tuple[Granted, ...]) -> NodeWish:
    """Return a wish with the limits of grants, which hold alike with a leader and without: in caps and safe setting."""
    limit_w = float(min(one.limit_w for one in grants))
    safe = SafeSetting(wish.safe.clock_mhz, min(wish.safe.power_limit_w, limit_w))
    return NodeWish(wish.node, tightest(wish.caps, ClassCaps(power_limit_w=limit_w)), wish.high_pods, safe, grants)


def grants_of(power: NodePower) -> tuple[Granted, ...]:
    """Return the grants of a stored `spec.power`, each with the limit that all of them, and any brake, came to."""
    listed = power.document.get("grants")
    limit_w = _whole(power.document.get("caps"), "powerLimitWatts")
    found = (one for one in (listed if isinstance(listed, list) else []) if isinstance(one, dict))
    return tuple(
        Granted(str(one.get("ledger")), sequence, float(watts), limit_w)
        for one in found
        if (watts := _whole(one, "watts")) and (sequence := _whole(one, "sequence")) is not None and limit_w
    )


def granted_w(power: NodePower, ledger: str) -> float | None:
    """Return what a stored `spec.power` says that a ledger granted; None: nothing."""
    return next((grant.grant_w for grant in grants_of(power) if grant.ledger == ledger), None)


def released(node: str) -> NodeWish:
    """Return the wish of a node that no armed domain holds any more."""
    return NodeWish(node, NO_CAPS, (), NO_LIMIT)


def restricts(power: NodePower) -> bool:
    """Return whether a stored `spec.power` holds a node below stock."""
    stock = body(released(""))
    return bool(power.document.get("caps")) or power.document.get("safe", stock["safe"]) != stock["safe"]


def safe_of(stored: Iterable[NodePower]) -> SafeSetting | None:
    """Return the tightest safe setting that nodes hold; None where none does."""
    return tightest_safe(
        SafeSetting(clock_mhz, limit_w)
        for power in stored
        if (clock_mhz := _whole(power.document.get("safe"), "clockMegahertz"))
        and (limit_w := _whole(power.document.get("safe"), "powerLimitWatts"))
    )


def holds_clock(stored: Iterable[NodePower], clock_mhz: float) -> bool:
    """Return whether any node holds low priority at or below a clock."""
    held = (_whole(power.document.get("caps"), "lowMegahertz") for power in stored)
    return any(low_mhz is not None and low_mhz <= clock_mhz for low_mhz in held)


def _whole(document: object, name: str) -> int | None:
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, int) else None


class Ledger:
    """Gives every change of a node's wish the next sequence, and remembers what the API server took.

    A node that comes to us with an epoch above ours keeps it: somebody deleted our Lease, which then counts anew, or
    the node moved here from a domain of another Lease. Later a higher epoch is another leader, and stays above ours.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._held: dict[str, Held] = {}
        self._wrote_s: dict[str, float] = {}

    def newest(self, stored: NodePower | None, said: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        """Return the newest (epoch, sequence) of a node: by its NodeCap, its own word, or our Lease."""
        return max((self.epoch, 0), said, (0, 0) if stored is None else (stored.epoch, stored.sequence))

    def hold(self, wish: NodeWish, stored: NodePower | None, now_s: float, *, said: tuple[int, int] = (0, 0)) -> Held:
        """Return what a node holds after this wish: the same when nothing changed.

        The first holding of this process is written once, with our epoch, even where nothing else changed.
        """
        held = self._held.get(wish.node)
        if held is None:
            epoch, sequence = self.newest(stored, said)
            held = Held(epoch, sequence + 1, wish)
        elif held.wish != wish:
            held = Held(held.epoch, held.sequence + 1, wish)
        elif held.written and self._lost(held, stored, now_s):
            held = Held(held.epoch, held.sequence, wish)
        self._held[wish.node] = held
        return held

    def again(self, held: Held) -> Held:
        """Give the same wish the next sequence: its NodeCap loosens what a standby tightened meanwhile."""
        self._held[held.wish.node] = Held(held.epoch, held.sequence + 1, held.wish)
        return self._held[held.wish.node]

    def wrote(self, held: Held, now_s: float) -> None:
        """Note that the API server has it."""
        if self._held.get(held.wish.node) == held:
            self._held[held.wish.node] = Held(held.epoch, held.sequence, held.wish, written=True)
            self._wrote_s[held.wish.node] = now_s

    def forget(self, nodes: frozenset[str]) -> None:
        """Forget nodes that are in no armed domain any more."""
        self._held = {node: held for node, held in self._held.items() if node in nodes}

    def _lost(self, held: Held, stored: NodePower | None, now_s: float) -> bool:
        """Return whether what we wrote is no longer there: deleted, or overwritten by an older leader."""
        if now_s - self._wrote_s.get(held.wish.node, now_s) < SEEN_S:
            return False  # our own cache may lag
        return stored is None or (stored.epoch, stored.sequence) < (held.epoch, held.sequence)
