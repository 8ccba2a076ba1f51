"""A node's GPUs: who they are, who holds them, what they drew."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass, field

from rig.simulator.pods import NodeView

UUID_SPACE = uuid.UUID("6f1c1a52-5b0e-4d0c-9a55-0c6a70757300")  # any constant: ids depend on the node's name alone
POWER_WINDOW_TICKS = 10  # NVML reports power averaged over 1 s on Ampere and later; the meter ticks each 100 ms


@dataclass(frozen=True, slots=True)
class GpuId:
    """The names of one GPU."""

    index: int
    uuid: str
    pci_bus_id: str


@dataclass(slots=True)
class GpuMeter:
    """What one GPU shows: energy since the simulator began, and the last second's watts."""

    energy_j: float = 0.0
    sm_clock_mhz: float = 0.0
    busy: bool = False
    _recent_w: deque[float] = field(default_factory=lambda: deque(maxlen=POWER_WINDOW_TICKS))

    def book(self, power_w: float, elapsed_s: float) -> None:
        """Add `elapsed_s` at a mean of `power_w`."""
        self.energy_j += power_w * elapsed_s
        self._recent_w.append(power_w)

    @property
    def power_w(self) -> float:
        """Mean watts of the last second; 0 before the first tick."""
        return sum(self._recent_w) / len(self._recent_w) if self._recent_w else 0.0


class Node:
    """GPUs of one node and the pods (by uid) that hold them."""

    def __init__(self, view: NodeView) -> None:
        self.view = view
        self.gpus = tuple(gpu_id(view.name, index) for index in range(view.gpus))
        self.meters = tuple(GpuMeter() for _ in self.gpus)
        self._holders: list[str | None] = [None] * view.gpus

    def assign(self, uid: str, count: int) -> tuple[int, ...] | None:
        """Return the indices of `count` GPUs now held by the pod, the lowest free ones; None where too few are free."""
        held = self.held_by(uid)
        if held:
            return held
        free = [index for index, holder in enumerate(self._holders) if holder is None][:count]
        if len(free) < count:
            return None
        for index in free:
            self._holders[index] = uid
        return tuple(free)

    def release(self, uid: str) -> None:
        """Free what the pod holds; nothing where it holds nothing."""
        self._holders = [None if holder == uid else holder for holder in self._holders]

    def held_by(self, uid: str) -> tuple[int, ...]:
        """Return the indices that the pod holds."""
        return tuple(index for index, holder in enumerate(self._holders) if holder == uid)

    def holder(self, index: int) -> str | None:
        """Return the uid of the pod that holds a GPU, or None."""
        return self._holders[index]


def gpu_id(node: str, index: int) -> GpuId:
    """Return the names of a GPU: the same for the same node and index, in every run."""
    return GpuId(index, f"GPU-{uuid.uuid5(UUID_SPACE, f'{node}/{index}')}", f"00000000:{16 + index:02X}:00.0")
