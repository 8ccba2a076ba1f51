"""Whether the caps that were sent are in force: by what the agents verified, GPU by GPU.

Who calls it: `cycle`, every tick. Nothing is ever counted at its cap: the machine acts on watts that were measured, and
a silent node counts at its worst. So a cap that is not in force lowers no forecast; it only must be known, because a
level saves less than the law counts on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from capstan.power.ports import AgentReport, GpuReport
from capstan.powercap.domains import NO_CAPS, ClassCaps

UNCONFIRMED_RATIO = 0.10
"""Of a domain's watts: beyond it FailSafe (facts/polca.md 5.3 leaves x open). The deep cap saves some 20 % of what it
holds (1.1), so a tenth that does not obey costs 2 of the 5 points of hysteresis, and 0.25 would cost all of them."""
GRID_MHZ = 15.0  # one step of the clock grid: a cap is set to the step below or at it
LIMIT_W = 1.0  # limits are read back in milliwatts


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """GPUs of a domain that do not show their caps.

    Attributes:
        gpus: Which, as `node/index`.
        settled_w: DC watts of those that had the time to.
        heard_w: DC watts of all GPUs heard.
    """

    gpus: tuple[str, ...] = ()
    settled_w: float = 0.0
    heard_w: float = 0.0

    @property
    def beyond(self) -> bool:
        """Return whether more watts do not obey than the law can do without."""
        return self.settled_w > UNCONFIRMED_RATIO * self.heard_w


@dataclass(slots=True)
class _Node:
    """Caps that a node was sent, the GPUs that do not show them, and when the last of them did."""

    caps: ClassCaps = NO_CAPS
    since_s: float = 0.0
    open: tuple[GpuReport, ...] = ()


class Confirmations:
    """Remembers what each node was sent, which GPUs do not show it, and since when."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._good: set[tuple[str, int]] = set()

    def take(
        self,
        reports: Mapping[str, AgentReport],
        sent: Mapping[str, ClassCaps],
        high: frozenset[tuple[str, str]],
        now_s: float,
    ) -> int:
        """Compare what was sent with what is reported; return how many caps were in force and no longer are."""
        self._nodes = {name: self._nodes.get(name, _Node(since_s=now_s)) for name in sent}
        drifted = 0
        for name, caps in sent.items():
            node = self._nodes[name]
            moved = node.caps != caps
            if moved:
                node.caps = caps
                self._good = {gpu for gpu in self._good if gpu[0] != name}
            if not node.open:
                node.since_s = now_s  # who did not show the caps before this one has had its time
            gpus = reports[name].gpus if name in reports else ()
            node.open = tuple(gpu for gpu in gpus if not in_force(gpu, caps, high=(gpu.namespace, gpu.pod) in high))
            drifted += sum(1 for gpu in node.open if (name, gpu.index) in self._good)
            self._good -= {(name, gpu.index) for gpu in node.open}
            if caps != NO_CAPS and not moved:
                self._good |= {(name, gpu.index) for gpu in gpus if gpu not in node.open}
        return drifted

    def of(
        self, nodes: Iterable[str], reports: Mapping[str, AgentReport], now_s: float, *, settle_s: float
    ) -> Unconfirmed:
        """Return what is not confirmed among some nodes."""
        named: list[str] = []
        settled_w = heard_w = 0.0
        for name in nodes:
            if name not in reports:
                continue
            heard_w += reports[name].gpus_w
            node = self._nodes.get(name)
            for gpu in node.open if node is not None else ():
                named.append(f"{name}/{gpu.index}")
                if node is not None and now_s - node.since_s >= settle_s:
                    settled_w += gpu.max_power_w if gpu.power_w is None else gpu.power_w
        return Unconfirmed(tuple(named), settled_w, heard_w)


def in_force(gpu: GpuReport, caps: ClassCaps, *, high: bool) -> bool:
    """Return whether a GPU shows what it was told; lower is legitimate, and no telling yet is no fault."""
    clock_mhz = caps.high_mhz if high else caps.low_mhz
    if clock_mhz is not None:
        unset = gpu.clock_cap_mhz is None or gpu.clock_cap_mhz > clock_mhz + GRID_MHZ
        if unset or gpu.clock_verified is False:
            return False
    if caps.power_limit_w is None:
        return True
    within_w = max(caps.power_limit_w, gpu.min_power_w)  # a board takes no lower one
    looser = gpu.enforced_limit_w is not None and gpu.enforced_limit_w > within_w + LIMIT_W
    return not looser and gpu.limit_verified is not False
