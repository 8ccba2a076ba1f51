"""What PowerDomains leave to policies, as `decide` sees it: headroom, caps per class, and where pods lie.

Who calls it: `cycle`, once per cycle. Read-only: `power` writes a domain's status, on transitions and at most once a
minute besides. Safe direction when blind: a domain that acts and whose status or spec says nothing grants nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from capstan.api import convert_power
from capstan.api.errors import Invalid
from capstan.model import headroom
from capstan.model.headroom import OUTSIDE, DomainSeen, Place
from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Missing, Sample
from capstan.powercap import levels
from capstan.powercap.domains import Domain, Level
from capstan.serving import domains, manifest
from capstan.serving.cluster import Node
from capstan.serving.manifest import Manifest
from capstan.serving.view import View

Key = tuple[str, int]
"""A domain's uid and the generation of its spec."""


class Headrooms:
    """The domains of one cycle; what a spec says is read once per generation."""

    def __init__(self) -> None:
        self._parsed: dict[Key, Domain | None] = {}
        self._raws: tuple[Manifest, ...] = ()
        self._acting: tuple[str, ...] = ()
        self._parents: dict[str, str] = {}

    def look(self, raws: tuple[Manifest, ...]) -> tuple[DomainSeen, ...]:
        """Return the domains that act."""
        self._raws = raws
        self._parents = {manifest.key(raw): manifest.text(raw, "spec", "parentName") for raw in raws}
        acting = tuple(raw for raw in raws if _acts(raw))
        self._acting = tuple(manifest.key(raw) for raw in acting)
        keys = {_key(raw): raw for raw in acting}
        self._parsed = {key: self._parsed.get(key) or _domain(raw) for key, raw in keys.items()}
        return tuple(self._seen(raw) for raw in acting)

    def places(self, view: View, nodes: Mapping[str, Node]) -> tuple[Place, ...]:
        """Return where the pods of a policy lie; none while no domain acts."""
        if not self._acting:
            return ()
        ready: Counter[tuple[str, int]] = Counter()
        starting: Counter[tuple[str, int]] = Counter()
        for pool in view.pools:
            for pod in pool.pods:
                if pod.node in nodes and not pod.draining:
                    counts = ready if pod.serving else starting
                    counts[self._home(nodes[pod.node].labels), pool.tp] += 1
        return tuple(Place(*key, ready[key], starting[key]) for key in sorted({*ready, *starting}))

    def _seen(self, raw: Manifest) -> DomainSeen:
        name, domain = manifest.key(raw), self._parsed[_key(raw)]
        if domain is None:  # `power` says what is wrong with it; here nothing may be drawn more
            return DomainSeen(name, 1.0, Missing(Reason.INVALID_SPEC), self._above(name))
        if domains.held_by_grants(raw):
            # What limits allow beyond what is drawn needs nobody's leave and is no threshold's reserve.
            supplies = domain.supply_efficiency_ratio
            return DomainSeen(
                name, domain.budget_w, _headroom_w(raw), self._above(name), supply_efficiency_ratio=supplies
            )
        caps = levels.caps_at(domain, Level(manifest.text(raw, "status", "state")))  # at their tightest
        return DomainSeen(
            name,
            domain.budget_w,
            _headroom_w(raw),
            self._above(name),
            domain.thresholds.low_ratio,
            domain.thresholds.high_ratio,
            domain.thresholds.brake_ratio,
            domain.supply_efficiency_ratio,
            low_mhz=caps.low_mhz,
            high_mhz=caps.high_mhz,
        )

    def _home(self, labels: Mapping[str, str]) -> str:
        """Return the innermost domain that acts of a node with these labels."""
        selected = (raw for raw in self._raws if manifest.matches(_selector(raw), labels))
        lines = [headroom.above(manifest.key(raw), self._parents) for raw in selected]
        deepest = max(lines, key=len, default=())
        return next((name for name in deepest if name in self._acting), OUTSIDE)

    def _above(self, name: str) -> str | None:
        """Return the nearest domain above that acts."""
        return next((above for above in headroom.above(name, self._parents)[1:] if above in self._acting), None)


def _acts(raw: Manifest) -> bool:
    """Return whether a domain is armed: one that only advises, or is not admitted yet, caps nobody."""
    state = manifest.text(raw, "status", "state")
    return manifest.text(raw, "spec", "mode") == "Act" and state in set(Level) - {Level.DISARMED}


def _key(raw: Manifest) -> Key:
    return manifest.text(raw, "metadata", "uid"), manifest.number(raw, "metadata", "generation") or 0


def _domain(raw: Manifest) -> Domain | None:
    try:
        return convert_power.power_domain({**raw, "status": {}}, (), timed=True)
    except Invalid:
        return None


def _headroom_w(raw: Manifest) -> Sample[float]:
    """Return what the status says is left; how old that is it does not say, and blind is another state."""
    left_w = manifest.number(raw, "status", "headroomWatts")
    if manifest.text(raw, "status", "state") == Level.FAIL_SAFE:
        return Missing(Reason.TELEMETRY_LOST)
    return Missing(Reason.NO_DATA) if left_w is None else Fresh(float(left_w), 0.0)


def _selector(raw: Manifest) -> Manifest:
    return manifest.mapping(raw, "spec", "nodeSelector")
