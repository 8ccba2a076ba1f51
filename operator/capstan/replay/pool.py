"""Replicas of one service in virtual time: placement on nodes, start-up, change of tp, drain.

Who calls it: `replay.engine`. Must not know: why a count or a cap was chosen.

A starting replica draws loaded-idle watts on all its GPUs from the moment its pod exists (it loads weights; nobody
has published watts of that phase) and serves nothing. A draining one takes no new request, finishes what it has and
is then gone. A pod that no node has room for stays pending: it draws nothing and is tried again at every tick.
Replicas of another tp are started first; each that is Ready lets its share of the old ones drain. Where the fleet has
no room for even one of them, the fewest old ones of one node drain first, and the others serve until it is Ready.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from capstan.model.profile import Profile
from capstan.replay import kernel
from capstan.replay.nodes import Seats
from capstan.replay.seen import Want


@dataclass(slots=True)
class Pod:
    """One replica: its slot in the world, the node that its GPUs lie on, and since when it exists."""

    slot: int
    node: int
    tp: int
    created_s: float
    draining: bool = False


class Pool:
    """The replicas of one service. `want` is what its workload's spec says."""

    def __init__(self, world: kernel.World, profiles: tuple[Profile, ...], seats: Seats, *, startup_s: float) -> None:
        self.world = world
        self.pods: list[Pod] = []
        self.want = Want("", profiles[0].tp, 0)
        self.reconfigurations = 0
        self.clock_changes = 0
        self.gpu_seconds = 0.0
        self._profiles = profiles
        self._index = {profile.tp: index for index, profile in enumerate(profiles)}
        self._seats = seats
        self._startup_s = startup_s
        self._caps: dict[int, tuple[float, float]] = {}
        self._cap_everywhere = (1.0, math.inf)

    @property
    def profile(self) -> Profile:
        """The physics of the degree that is wanted."""
        return self._profiles[self._index[self.want.tp]]

    @property
    def gpus(self) -> int:
        """GPUs that have a pod."""
        return _gpus(self.pods)

    # --- what the outside does ---------------------------------------------------------------------

    def start_ready(self, want: Want, now_s: float) -> None:
        """Place what stands ready when the run begins."""
        self.want = want
        self._create(now_s, ready_s=now_s)

    def scale(self, want: Want, now_s: float) -> None:
        """Ask for replicas of a degree: pending and starting ones go first, then the least loaded drain."""
        changed = (want.tp, want.replicas) != (self.want.tp, self.want.replicas)
        self.clock_changes += want.clock_cap_mhz != self.want.clock_cap_mhz
        self.want = want
        if not changed:
            return
        self.reconfigurations += 1
        self._shrink(want.tp, want.replicas)
        self._release(now_s)
        self._create(now_s, ready_s=now_s + self._startup_s)

    def set_cap(self, now_s: float, clock_cap_mhz: float | None) -> None:
        """Cap every replica's clock, also those that will come."""
        caps = (self.profile.clocks.ratio(clock_cap_mhz), math.inf)
        if caps == self._cap_everywhere:
            return
        self._cap_everywhere = caps
        for pod in self.pods:
            self.world.cap(pod.slot, now_s, *caps)

    def set_caps(self, now_s: float, node: int, *, clock_cap_mhz: float | None, power_limit_w: float | None) -> None:
        """Cap the replicas of a node, also those that will come."""
        limit_w = math.inf if power_limit_w is None else power_limit_w
        caps = (self.profile.clocks.ratio(clock_cap_mhz), limit_w)
        if self._caps.get(node, self._cap_everywhere) == caps:
            return
        self._caps[node] = caps
        for pod in self.pods:
            if pod.node == node:
                self.world.cap(pod.slot, now_s, *caps)

    def settle(self, now_s: float) -> None:
        """Let drained replicas go, place pending ones, and move on with a change of tp."""
        self._release(now_s)
        old = [pod for pod in self.pods if pod.tp != self.want.tp and not pod.draining]
        if len(self._staying(self.want.tp)) < self.want.replicas:
            self._create(now_s, ready_s=now_s + self._startup_s)
        if old:
            self._hand_over(old)
            self._release(now_s)

    # --- what the outside sees ---------------------------------------------------------------------

    def counts(self) -> tuple[int, int, int]:
        """Return (ready, starting or pending, draining)."""
        states = self.world.replicas["state"]
        ready = sum(bool(states[pod.slot] == kernel.READY) for pod in self.pods if not pod.draining)
        draining = sum(pod.draining for pod in self.pods)
        starting = len(self.pods) - draining - ready
        pending = max(self.want.replicas - len(self._staying(self.want.tp)), 0)
        return ready, starting + pending, draining

    # --- inside ------------------------------------------------------------------------------------

    def _staying(self, tp: int) -> list[Pod]:
        return [pod for pod in self.pods if pod.tp == tp and not pod.draining]

    def _shrink(self, tp: int, count: int) -> None:
        """Drain what is above `count`: starting replicas first, then the least loaded."""
        rows = self.world.replicas
        staying = self._staying(tp)
        surplus = len(staying) - count
        if surplus <= 0:
            return

        def rank(pod: Pod) -> tuple[bool, int]:
            row = rows[pod.slot]
            return bool(row["state"] == kernel.READY), int(row["running"]) + int(row["waiting"])

        for pod in sorted(staying, key=rank)[:surplus]:
            self._drain(pod)

    def _release(self, now_s: float) -> None:
        """Give back the GPUs of replicas that are gone: an empty one's at once, else at the tick after its end."""
        for slot in self.world.take_gone():
            pod = next(pod for pod in self.pods if pod.slot == slot)
            self.pods.remove(pod)
            self.gpu_seconds += pod.tp * (now_s - pod.created_s)
            self._seats.give(pod.node, pod.tp)

    def _drain(self, pod: Pod) -> None:
        pod.draining = True
        self.world.drain(pod.slot)

    def _hand_over(self, old: list[Pod]) -> None:
        """Drain as many old replicas as Ready new ones replace; where no new one finds a node, those in its way."""
        new = self._staying(self.want.tp)
        states = self.world.replicas["state"]
        ready = sum(states[pod.slot] == kernel.READY for pod in new)
        wanted = self.want.replicas
        keep = 0 if wanted == 0 else math.ceil(len(old) * (1 - ready / wanted)) if ready < wanted else 0
        leaving = old[: len(old) - keep]
        if not leaving and ready == len(new) < wanted:  # while one starts, what is left of the old ones serves
            leaving = self._in_the_way(old)
        for pod in leaving:
            self._drain(pod)

    def _in_the_way(self, old: list[Pod]) -> list[Pod]:
        """Return the fewest old replicas of one node that must go before a new one fits; none while room is coming."""
        tp, products = self.want.tp, self.profile.gpu_products
        coming = list(self._seats.free)
        for pod in self.pods:
            coming[pod.node] += pod.tp if pod.draining else 0
        fitting: list[list[Pod]] = []
        for index, node in enumerate(self._seats.nodes):
            if node.gpu_product not in products:
                continue
            if coming[index] >= tp:
                return []
            theirs = [pod for pod in old if pod.node == index]
            gone = next((n for n in range(1, len(theirs) + 1) if coming[index] + _gpus(theirs[:n]) >= tp), None)
            fitting += [] if gone is None else [theirs[:gone]]
        return min(fitting, key=_gpus, default=[])

    def _create(self, now_s: float, *, ready_s: float) -> None:
        profile = self.profile
        for _ in range(self.want.replicas - len(self._staying(profile.tp))):
            node = self._seats.take(profile.tp, profile.gpu_products)
            if node is None:
                return
            slot = self.world.create(self._index[profile.tp], now_s=now_s, ready_s=ready_s)
            self.world.cap(slot, now_s, *self._caps.get(node, self._cap_everywhere))
            self.pods.append(Pod(slot, node, profile.tp, now_s))


def _gpus(pods: list[Pod]) -> int:
    return sum(pod.tp for pod in pods)
