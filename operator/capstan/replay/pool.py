"""Replicas of one service in virtual time: several pools, placement on nodes, start-up, change of tp, drain.

Who calls it: `replay.engine`. Must not know: why a count or a cap was chosen.

A starting replica draws loaded-idle watts on all its GPUs from the moment its pod exists (it loads weights; nobody
has published watts of that phase) and serves nothing. A draining one takes no new request, finishes what it has and
is then gone. A pod that no node has room for stays pending: it draws nothing and is tried again at every tick.
Which pool a replica serves is a label on its pod: it moves to another pool at once, with what it has in hand. That
holds for prefill and decode pools, too: an engine that takes keys and values as well as it sends them is assumed.
Replicas of another tp are started first; each that is Ready lets its share of the old ones drain. Where the fleet has
no room for even one of them, the fewest old ones of one node drain first, and the others serve until it is Ready.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from capstan.model.headroom import Place
from capstan.model.plan import PowerPlan
from capstan.model.profile import Profile
from capstan.model.workload import Phase
from capstan.replay import kernel, places
from capstan.replay.nodes import Seats
from capstan.replay.places import Kind, Pod
from capstan.replay.runs import Ints
from capstan.replay.seen import Want

Caps = tuple[float | None, float | None]
"""Clock in MHz and board limit in watts of a node; None: none."""

STANDS_AND_DRAINS = 2  # pools of the split in force, and as many that still drain
LEAST_POOLS = 2  # prefill and decode


def pool_count(classes: int) -> int:
    """Return how many pools a world needs for a service of so many request classes."""
    return STANDS_AND_DRAINS * max(classes, LEAST_POOLS)


class Pool:
    """The replicas of one service. `wants` is what its workloads' specs say, one per class pool and tp."""

    def __init__(
        self,
        world: kernel.World,
        profiles: tuple[Profile, ...],
        seats: Seats,
        *,
        startup_s: float,
        classes: int = 1,
    ) -> None:
        self.world = world
        self.pods: list[Pod] = []
        self.wants: tuple[Want, ...] = (Want("", profiles[0].tp, 0),)
        self.reconfigurations = 0
        self.clock_changes = 0
        self.gpu_seconds = 0.0
        self._profiles = profiles
        self._index = {profile.tp: index for index, profile in enumerate(profiles)}
        self._seats = seats
        self._startup_s = startup_s
        self._classes = classes
        self._lanes: dict[str, int] = {}
        self._asked: tuple[object, ...] = ()  # caps in force, so that the same ones cost nothing
        self._fresh = False  # a pod has come or moved since caps were brought into force
        self._ranks: tuple[int, ...] = ()  # of nodes: a lower one is preferred for new replicas

    @property
    def want(self) -> Want:
        """All pools as one: all replicas, the tp and the clock of those with most GPUs."""
        main = max(self.wants, key=lambda want: (want.replicas * want.tp, -want.tp))
        known = [want.expected_w for want in self.wants if want.expected_w is not None]
        watts = sum(known) if known else None
        return dataclasses.replace(main, replicas=sum(want.replicas for want in self.wants), expected_w=watts)

    @property
    def gpus(self) -> int:
        """GPUs that have a pod."""
        return _gpus(self.pods)

    # --- what the outside does ---------------------------------------------------------------------

    def start_ready(self, wants: Sequence[Want], now_s: float) -> None:
        """Place what stands ready when the run begins."""
        self.wants = tuple(wants)
        self._route()
        self._create(now_s, ready_s=now_s)

    def scale(self, wants: Sequence[Want], now_s: float) -> None:
        """Ask for replicas per pool and degree: pods change pools, pending and starting ones go, then least loaded."""
        before, self.wants = self.wants, tuple(wants)
        caps = {(want.pool, want.tp): want.clock_cap_mhz for want in before}
        self.clock_changes += any(
            caps.get((want.pool, want.tp), want.clock_cap_mhz) != want.clock_cap_mhz for want in wants
        )
        if _shape(before) == _shape(self.wants):
            return
        self.reconfigurations += 1
        self._route()
        if self._startup_s > 0:  # else a new replica is there at once, and nothing has to be carried over
            self._move()
        self._shrink()
        self._release(now_s)
        self._create(now_s, ready_s=now_s + self._startup_s)

    def lose(self, node: int, now_s: float) -> None:
        """Let every replica on a node be gone at once with the requests in it; what is wanted then starts elsewhere."""
        for pod in self.pods:
            if pod.node == node:
                self.world.lose(pod.slot, now_s)
        self._release(now_s)

    def cap(self, now_s: float, nodes: Sequence[Caps] = ()) -> None:
        """Cap every replica at the tighter of its pool's plan and its node's caps, also those that will come."""
        plans = {(want.pool, want.tp): want.clock_cap_mhz for want in self.wants}
        asked = (tuple(plans.items()), tuple(nodes))
        if asked == self._asked and not self._fresh:
            return
        self._asked, self._fresh = asked, False
        for pod in self.pods:
            plan_mhz = plans.get(pod.kind, self._cap_of(pod.lane))
            node_mhz, limit_w = nodes[pod.node] if nodes else (None, None)
            clocks = self._profiles[self._index[pod.tp]].clocks
            ratio = min(clocks.ratio(plan_mhz), clocks.ratio(node_mhz))
            self.world.cap(pod.slot, now_s, ratio, math.inf if limit_w is None else limit_w)

    def prefer(self, ranks: Sequence[int]) -> None:
        """Place new replicas on nodes of a low rank first."""
        self._ranks = tuple(ranks)

    def follow(self, power: PowerPlan, homes: Sequence[str]) -> None:
        """Route, shed and move as a plan says while power domains cap; `homes` has each node's innermost domain."""
        self.world.shed(power.shed_ratio)
        staying = self._staying()
        for move in power.moves:
            if places.has_room(move, self._seats, homes, self._profiles[self._index[move.tp]].gpu_products):
                places.leave(move, staying, self.world.replicas, homes)
        places.weigh(power.shares, self.pods, self.world.replicas, homes)

    def places(self, homes: Sequence[str]) -> tuple[Place, ...]:
        """Return the replicas that stay by power domain and degree."""
        return places.of(self.pods, self.world.replicas, homes)

    def settle(self, now_s: float) -> None:
        """Let drained replicas go, place pending ones, and move on with a change of tp."""
        self._release(now_s)
        if self._missing():
            self._create(now_s, ready_s=now_s + self._startup_s)
        if self._surplus():
            self._hand_over()
            self._release(now_s)
        leaving = [pod for pod in self.pods if pod.leaving and not pod.draining]
        if leaving and not self._unready():  # what replaces them is Ready
            for pod in leaving:
                self._drain(pod)
            self._release(now_s)

    # --- what the outside sees ---------------------------------------------------------------------

    def counts(self, kind: Kind | None = None) -> tuple[int, int, int]:
        """Return (ready, starting or pending, draining) of all replicas, or of those of one pool and tp."""
        states = self.world.replicas["state"]
        own = [pod for pod in self.pods if kind in (None, pod.kind)]
        ready = sum(bool(states[pod.slot] == kernel.READY) for pod in own if not pod.draining)
        draining = sum(pod.draining for pod in own)
        missing = self._missing()
        pending = sum(missing.values()) if kind is None else missing.get(kind, 0)
        return ready, len(own) - draining - ready + pending, draining

    def pending(self, kind: Kind) -> int:
        """Return the replicas of a pool and tp that no node has room for."""
        return self._missing().get(kind, 0)

    def standing(self, lane: str) -> tuple[int, int, float | None]:
        """Return (tp, replicas, clock cap) of what serves in a pool: a mix as the degree that has most of it."""
        states = self.world.replicas["state"]
        gpus: dict[int, int] = {}
        for pod in self._staying():
            if pod.lane == lane and states[pod.slot] == kernel.READY:
                gpus[pod.tp] = gpus.get(pod.tp, 0) + pod.tp
        tp = max(gpus, key=lambda tp: (gpus[tp], -tp), default=self.want.tp)
        return tp, math.ceil(sum(gpus.values()) / tp), self._cap_of(lane)

    # --- pools -------------------------------------------------------------------------------------

    def _cap_of(self, lane: str) -> float | None:
        """Return the cap of a pool's first plan: that of old replicas that still serve in it."""
        return next((want.clock_cap_mhz for want in self.wants if want.pool == lane), None)

    def _route(self) -> None:
        """Let requests go to the pools that their classes now belong to."""
        wanted = {want.pool for want in self.wants}
        held = wanted | {pod.lane for pod in self.pods}
        self._lanes = {name: index for name, index in self._lanes.items() if name in held}
        free = (index for index in range(pool_count(self._classes)) if index not in self._lanes.values())
        for name in sorted(wanted - self._lanes.keys()):
            self._lanes[name] = next(free)
        table: Ints = np.zeros(self._classes, dtype=np.int64)
        for want in self.wants:
            for code in want.classes or range(self._classes if want.phase is not Phase.DECODE else 0):
                table[code] = self._lanes[want.pool]
        if self._classes == 1 and len(wanted) == 1:
            return
        self.world.hand_over(self._handing())
        self.world.route(table.tolist())
        for name in wanted:
            weights = {want.tp: want.weight_ratio for want in self.wants if want.pool == name}
            self.world.weigh(self._lanes[name], [weights.get(profile.tp, 1.0) for profile in self._profiles])
        self._spill()

    def _handing(self) -> kernel.HandOver:
        """Return that pools which only prefill hand over to the one that decodes."""
        decode = next((self._lanes[want.pool] for want in self.wants if want.phase is Phase.DECODE), None)
        prefill = {self._lanes[want.pool] for want in self.wants if want.phase is Phase.PREFILL}
        pools = range(pool_count(self._classes))
        return kernel.HandOver(tuple(decode if index in prefill else None for index in pools))

    def _spill(self) -> None:
        """Let a pool without a ready replica send its requests to the pool of the next longer prompts, never back.

        Prompts that no replica is ready to prefill are computed where they are decoded.
        """
        longest = {want.pool: max(want.classes, default=0) for want in self.wants}
        order = sorted(longest, key=lambda name: longest[name])
        following = {self._lanes[name]: self._lanes[after] for name, after in itertools.pairwise(order)}
        pools = range(pool_count(self._classes))
        self.world.spill([following.get(index) for index in pools], [math.inf] * len(pools))

    def _move(self) -> None:
        """Give replicas that a pool has too many of to pools that want more of the same degree, ready ones first.

        What is left over where no class is served any more helps the pool that lacks most until that has its own.
        """
        missing, states = self._missing(), self.world.replicas["state"]
        for pod in sorted(self._surplus(), key=lambda pod: bool(states[pod.slot] != kernel.READY)):
            lane = next((lane for (lane, tp), count in missing.items() if tp == pod.tp and count > 0), None)
            if lane is not None:
                missing[lane, pod.tp] -= 1
                self._relabel(pod, lane)
        served = {want.pool for want in self.wants}
        lacking = max(missing, key=lambda kind: missing[kind] * kind[1], default=None)
        if lacking is not None and missing[lacking] > 0:
            for pod in self._surplus():
                if pod.lane not in served:
                    self._relabel(pod, lacking[0])

    def _relabel(self, pod: Pod, lane: str) -> None:
        if pod.lane != lane:
            pod.lane = lane
            self.world.move(pod.slot, self._lanes[lane])
            self._fresh = True

    # --- replicas ----------------------------------------------------------------------------------

    def _staying(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.draining and not pod.leaving]

    def _missing(self) -> dict[Kind, int]:
        """Return the pods that no node has had room for, by pool and tp."""
        held: dict[Kind, int] = {}
        for pod in self._staying():
            held[pod.kind] = held.get(pod.kind, 0) + 1
        counts = {(want.pool, want.tp): want.replicas - held.get((want.pool, want.tp), 0) for want in self.wants}
        return {kind: count for kind, count in counts.items() if count > 0}

    def _surplus(self) -> list[Pod]:
        """Return the replicas that are more than their pool wants of their degree: starting ones, then least loaded."""
        wanted = {(want.pool, want.tp): want.replicas for want in self.wants}
        rows = self.world.replicas
        by_kind: dict[Kind, list[Pod]] = {}
        for pod in self._staying():
            by_kind.setdefault(pod.kind, []).append(pod)

        def rank(pod: Pod) -> tuple[bool, int]:
            row = rows[pod.slot]
            return bool(row["state"] == kernel.READY), int(row["running"]) + int(row["waiting"])

        found: list[Pod] = []
        for kind, pods in by_kind.items():
            more = len(pods) - wanted.get(kind, 0)
            found += sorted(pods, key=rank)[:more] if more > 0 else []
        return found

    def _shrink(self) -> None:
        """Drain what nobody has to wait for: surplus that serves nobody yet, or of a pool that lacks nothing else."""
        lacking = {lane for lane, _ in self._unready()}
        states = self.world.replicas["state"]
        for pod in self._surplus():
            if pod.lane not in lacking or states[pod.slot] != kernel.READY:
                self._drain(pod)

    def _unready(self) -> dict[Kind, int]:
        """Return the replicas that are wanted and not Ready, by pool and tp."""
        states = self.world.replicas["state"]
        ready: dict[Kind, int] = {}
        for pod in self._staying():
            if states[pod.slot] == kernel.READY:
                ready[pod.kind] = ready.get(pod.kind, 0) + 1
        counts = {(want.pool, want.tp): want.replicas - ready.get((want.pool, want.tp), 0) for want in self.wants}
        return {kind: count for kind, count in counts.items() if count > 0}

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

    def _hand_over(self) -> None:
        """Drain as many old replicas as Ready new ones replace; where no new one finds a node, those in its way."""
        unready, missing = self._unready(), self._missing()
        surplus = self._surplus()
        for lane in dict.fromkeys(pod.lane for pod in surplus):
            old = [pod for pod in surplus if pod.lane == lane]
            wanted = sum(want.replicas for want in self.wants if want.pool == lane)
            lacking = sum(count for (name, _), count in unready.items() if name == lane)
            for pod in old[: len(old) - (math.ceil(len(old) * lacking / wanted) if wanted else 0)]:
                self._drain(pod)
        for (lane, tp), count in missing.items():
            starting = unready.get((lane, tp), 0) - count  # while one starts, what is left of the old ones serves
            if not starting and not any(pod.draining for pod in surplus):
                for pod in self._in_the_way(tp, surplus):
                    self._drain(pod)

    def _in_the_way(self, tp: int, old: list[Pod]) -> list[Pod]:
        """Return the fewest old replicas of one node that must go before a new one fits; none while room is coming."""
        products = self._profiles[self._index[tp]].gpu_products
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
        for (lane, tp), count in self._missing().items():
            products = self._profiles[self._index[tp]].gpu_products
            for _ in range(count):
                node = self._seats.take(tp, products, self._ranks)
                if node is None:
                    break
                slot = self.world.create(self._index[tp], now_s=now_s, ready_s=ready_s, pool=self._lanes[lane])
                self.pods.append(Pod(slot, node, tp, now_s, lane))
                self._fresh = True


def _gpus(pods: Sequence[Pod]) -> int:
    return sum(pod.tp for pod in pods)


def _shape(wants: Sequence[Want]) -> frozenset[tuple[str, tuple[int, ...], int, int]]:
    """Return everything of wants that is not a clock or a word about it."""
    return frozenset((want.pool, want.classes, want.tp, want.replicas) for want in wants)
