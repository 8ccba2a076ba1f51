"""The simulated boards: ten times a second what the setters wrote becomes watts, and watts go back into the driver.

Who calls it: `site`. A thread; its only peers are the state files of the fake driver and the monitor. A clock or limit
takes effect at its next tick; readings are the mean of the last second, as the rig's simulator shows them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from capstan.powercap import grants
from capstan.powercap.grants import Member
from rig.nvml.state import Caps, State
from rig.proof import physics
from rig.proof.monitor import Monitor
from rig.simulator.node import GpuMeter

TICK_S = 0.1  # DESIGN 7.2: true watts are scored at 100 ms
NON_GPU_W = 400.0  # DC, of a node of two boards; what `scene` declares as typical
WORST_RATIO = 1.25  # of the same at worst; facts/polca.md 2.5 has fans and host
SUPPLY_RATIO = 0.94  # DC over AC, as `scene` declares it


@dataclass(frozen=True, slots=True)
class Change:
    """A board was set to something else."""

    at_s: float
    node: str
    gpu: int
    before: Caps
    after: Caps

    @property
    def loosens(self) -> bool:
        """Return whether the board may draw more than before."""
        return _mhz(self.after) > _mhz(self.before) or self.after.power_limit_w > self.before.power_limit_w


@dataclass(slots=True)
class Node:
    """One server: its driver's state, its boards' meters, and how busy each board is."""

    name: str
    state: State
    meters: list[GpuMeter]
    load_ratio: float = 0.0
    caps: list[Caps] = field(default_factory=list)


class Plant:
    """All servers; a context manager that turns while it is entered.

    Args:
        states: The drivers.
        monitor: Watches true watts.
        limits: Watches the watts that the limits in force allow at worst, whatever is drawn.
    """

    def __init__(self, states: Mapping[str, State], monitor: Monitor, limits: Monitor) -> None:
        self.monitor = monitor
        self.limits = limits
        self.changes: list[Change] = []
        self._nodes = {
            name: Node(name, state, [GpuMeter() for _ in state.uuids], caps=_caps(state))
            for name, state in states.items()
        }
        self._profile = physics.board()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._turn, name="proof-plant", daemon=True)

    def __enter__(self) -> Plant:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def load(self, ratio: float, *nodes: str) -> None:
        """Set how busy the boards of some nodes are; of all where none is named."""
        for name in nodes or tuple(self._nodes):
            self._nodes[name].load_ratio = ratio

    def caps(self) -> dict[tuple[str, int], Caps]:
        """Return what every board was set to at the newest tick: whatever it shows is in `changes` already."""
        return {(node.name, i): caps for node in self._nodes.values() for i, caps in enumerate(node.caps)}

    def state(self, node: str) -> State:
        """Return the driver of a node, to script its faults."""
        return self._nodes[node].state

    def reload(self, node: str) -> None:
        """Load a node's driver anew: it forgets clocks and limits, and counts joules from nothing."""
        self._nodes[node].meters = [GpuMeter() for _ in self._nodes[node].meters]
        self._nodes[node].state.reload_driver()

    def loosened(self, since_s: float) -> list[Change]:
        """Return the changes since a time that let a board draw more."""
        return [change for change in tuple(self.changes) if change.at_s >= since_s and change.loosens]

    def _turn(self) -> None:
        last_s = time.monotonic()
        while not self._over.wait(max(last_s + TICK_S - time.monotonic(), 0.0)):
            now_s = time.monotonic()
            node_w = {name: self._node_w(node, now_s, now_s - last_s) for name, node in self._nodes.items()}
            self.monitor.sample(now_s, node_w)
            self.limits.sample(now_s, {name: worst_w(node.caps) for name, node in self._nodes.items()})
            last_s = now_s

    def _node_w(self, node: Node, now_s: float, elapsed_s: float) -> float:
        """Book a tick of one node and return its AC watts."""
        boards_w = 0.0
        for index, caps in enumerate(_caps(node.state)):
            if caps != node.caps[index]:
                self.changes.append(Change(now_s, node.name, index, node.caps[index], caps))
                node.caps[index] = caps
            drawn = physics.draw(self._profile, node.load_ratio, caps.clock_cap_mhz, caps.power_limit_w)
            meter = node.meters[index]
            meter.book(drawn.power_w, elapsed_s)
            node.state.report(index, power_w=meter.power_w, energy_j=meter.energy_j, sm_clock_mhz=drawn.sm_clock_mhz)
            boards_w += drawn.power_w
        return (boards_w + NON_GPU_W) / SUPPLY_RATIO


def worst_w(caps: list[Caps]) -> float:
    """Return the AC watts that a server may draw at worst under its boards' limits: what DESIGN 4 calls its grant."""
    non_gpu_w, limit_w = NON_GPU_W * WORST_RATIO, max(board.power_limit_w for board in caps)
    one = Member("", (), len(caps), non_gpu_w, SUPPLY_RATIO, limit_w, limit_w)
    return grants.grant_w(one, limit_w)


def _caps(state: State) -> list[Caps]:
    return [state.caps(index) for index in range(len(state.uuids))]


def _mhz(caps: Caps) -> float:
    return float("inf") if caps.clock_cap_mhz is None else caps.clock_cap_mhz
