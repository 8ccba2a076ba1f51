"""A service step by step, from `replay.world.Engine`: the oracle of the kernel.

Written apart from the kernel: every request is an object, every replica an engine that walks each step of each
request, and every pool is looked at anew for each request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from capstan.model.profile import Profile
from capstan.model.workload import Request
from capstan.replay.kernel import Emergency, HandOver
from capstan.replay.runs import Ints, Requests
from capstan.replay.waiting import Order
from capstan.replay.world import Engine


@dataclass(slots=True)
class Replica:
    """An engine with its life. `last_s` are the times of the last token of the requests inside."""

    engine: Engine
    profile: int
    pool: int
    created_s: float
    ready_s: float
    last_s: dict[int, float] = field(default_factory=dict)
    draining: bool = False

    @property
    def inside(self) -> int:
        return self.engine.running + self.engine.waiting

    def transition_j(self, now_s: float) -> float:
        """Return what it drew before it was ready; its engine counts that as idle."""
        p = self.engine.profile
        return (min(self.ready_s, now_s) - self.created_s) * p.draw.loaded_idle_w * p.tp


class Naive:
    """The same words as `kernel.World`, one step at a time."""

    def __init__(
        self,
        requests: Requests,
        profiles: tuple[Profile, ...],
        *,
        slots: int,
        pools: int,
        request_class: Ints,
        emergency: Emergency | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        count = len(requests)
        self.now_s = 0.0
        self.slots: list[Replica | None] = [None] * slots
        self.first_s, self.finish_s, self.max_tbt_s = (np.full(count, math.nan) for _ in range(3))
        self.refused = self.preemptions = self.squashed = 0
        self.joules = {"serving": 0.0, "idle": 0.0, "transition": 0.0}
        self.ends = [0] * count
        self._requests = requests
        self._profiles = profiles
        self._class_of = request_class
        self._class_pool: Sequence[int] = range(pools)
        self._order = Order.FIFO if emergency is None else emergency.order
        limits_s = np.full(count, math.inf) if emergency is None else emergency.ttft_s
        squash_ratio = math.inf if emergency is None else emergency.squash_ratio
        self._deadline_s = requests.arrival_s + limits_s
        self._patience_s = requests.arrival_s + squash_ratio * limits_s
        self._link = HandOver((None,) * pools) if hand_over is None else hand_over
        self._moving: list[tuple[float, int, int]] = []  # when a request's KV lands, its id, the pool
        self._landed: set[int] = set()
        self.handed = 0
        self._arrived = 0
        self._held: list[list[int]] = [[] for _ in range(pools)]
        self._weights = [[1.0] * len(profiles) for _ in range(pools)]
        self._next: list[int | None] = [None] * pools
        self._cap = [math.inf] * pools
        self.spilled = [0] * pools
        self._gone: list[int] = []
        self._free = set(range(slots))

    def create(self, profile: int, *, now_s: float, ready_s: float, pool: int = 0) -> int:
        slot = min(self._free)
        self._free.remove(slot)
        p = self._profiles[profile]
        seats = p.max_num_seqs
        engine = Engine(
            p, now_s=now_s, chunk_tokens=p.chunk_tokens, max_num_seqs=seats, order=self._order,
            hands_over=self._link.decode_pool[pool] is not None,
        )  # fmt: skip
        self.slots[slot] = Replica(engine, profile, pool, now_s, max(now_s, ready_s))
        return slot

    def drain(self, slot: int) -> None:
        replica = self._replica(slot)
        replica.draining = True
        if replica.inside == 0:
            self._leave(slot, self.now_s)

    def move(self, slot: int, pool: int) -> None:
        replica = self._replica(slot)
        if replica.draining:
            return
        replica.pool = pool
        replica.engine.hands_over = self._link.decode_pool[pool] is not None
        self._release(self.now_s)

    def cap(self, slot: int, now_s: float, cap_ratio: float, limit_w: float) -> None:
        engine = self._replica(slot).engine
        mhz = None if cap_ratio == 1.0 else cap_ratio * engine.profile.clocks.max_mhz
        engine.set_caps(now_s, clock_cap_mhz=mhz, power_limit_w=None if limit_w == math.inf else limit_w)

    def advance(self, to_s: float) -> None:
        while True:
            arrival_s = self._requests.arrival_s
            due_s = float(arrival_s[self._arrived]) if self._arrived < len(arrival_s) else math.inf
            ready_s = min((r.ready_s for r in self._unserved()), default=math.inf)
            lands_s = min((at_s for at_s, _, _ in self._moving), default=math.inf)
            prefill_s = min((r.engine.next_event_s for r in self._prefilling()), default=math.inf)
            first_s = min(due_s, ready_s, lands_s, prefill_s)
            if first_s > to_s:
                break
            if prefill_s == first_s:  # its KV may land before anything else happens
                self._play(prefill_s)
            elif ready_s == first_s:
                self._release(max(ready_s, self.now_s))
            elif lands_s == first_s:
                _, request, pool = min(self._moving)
                self._moving.remove(min(self._moving))
                self._landed.add(request)
                self._route(request, lands_s, pool)
            else:
                self._arrived += 1
                self._route(self._arrived - 1, due_s, self._home(self._arrived - 1))
        self._play(to_s)
        self.now_s = to_s

    def route(self, class_pool: Sequence[int]) -> None:
        self._class_pool = class_pool
        new = sorted(request for requests in self._held for request in requests if request not in self._landed)
        self._held = [[request for request in requests if request in self._landed] for requests in self._held]
        for request in new:
            self._held[self._home(request)].append(request)
        self._release(self.now_s)

    def weigh(self, pool: int, weights: Sequence[float]) -> None:
        self._weights[pool] = list(weights)

    def spill(self, next_pool: Sequence[int | None], cap: Sequence[float]) -> None:
        self._next, self._cap = list(next_pool), list(cap)
        self._release(self.now_s)

    def take_gone(self) -> list[int]:
        slots, self._gone = self._gone, []
        self._free |= set(slots)
        return slots

    @property
    def unfinished(self) -> int:
        return len(self.ends) - sum(self.ends) - self.refused - self.given_up

    @property
    def given_up(self) -> int:
        return self.squashed + sum(r.engine.squashed_total for r in self.slots if r is not None)

    def energy(self) -> tuple[float, float, float]:
        """Return (serving, idle, transition) joules of all replicas, gone ones included."""
        live = [replica for replica in self.slots if replica is not None]
        transition_j = sum(replica.transition_j(self.now_s) for replica in live)
        return (
            self.joules["serving"] + sum(r.engine.serving_j for r in live),
            self.joules["idle"] + sum(r.engine.idle_j for r in live) - transition_j,
            self.joules["transition"] + transition_j,
        )

    def _unserved(self) -> Iterator[Replica]:
        """Yield live replicas that somebody who is held could be given to."""
        waited_for = {pool for home, held in enumerate(self._held) if held for pool in self._chain(home)}
        for replica in self.slots:
            if replica is not None and not replica.draining and replica.pool in waited_for:
                yield replica

    def _chain(self, pool: int | None) -> list[int]:
        return [] if pool is None else [pool, *self._chain(self._next[pool])]

    def _release(self, now_s: float) -> None:
        for pool, held in enumerate(self._held):
            if any(r.pool in self._chain(pool) and r.ready_s <= now_s for r in self._unserved()):
                requests, self._held[pool] = list(held), []
                for request in requests:
                    self._route(request, now_s, pool)

    def _home(self, request: int) -> int:
        return self._class_pool[int(self._class_of[request])]

    def _prefilling(self) -> Iterator[Replica]:
        """Yield what has KV to hand over sooner or later."""
        for replica in self.slots:
            if replica is not None and self._link.decode_pool[replica.pool] is not None:
                yield replica

    def _route(self, request: int, now_s: float, home: int) -> None:
        self._play(now_s)
        chosen = self._chosen(home, now_s)
        if chosen is None:
            self._held[home].append(request)
            return
        self.spilled[home] += chosen.pool != home
        lengths = int(self._requests.prompt_tokens[request]), int(self._requests.output_tokens[request])
        asked = Request(request, float(self._requests.arrival_s[request]), *lengths)
        if not chosen.engine.fits(asked):
            self.refused += 1
            return
        if request in self._landed:
            chosen.last_s[request] = float(self.first_s[request])
            chosen.engine.land(asked, now_s)
            return
        limits = {"deadline_s": float(self._deadline_s[request]), "patience_s": float(self._patience_s[request])}
        chosen.engine.submit(asked, now_s, **limits)

    def _chosen(self, home: int, now_s: float) -> Replica | None:
        """Return the best of each pool in the chain that has one: the first below its cap, else the first."""
        best: list[tuple[bool, Replica]] = []
        for pool in self._chain(home):
            ready = [r for r in self.slots if r is not None and r.pool == pool and not r.draining]
            loads = [(self._load(r), index) for index, r in enumerate(ready) if r.ready_s <= now_s]
            if loads:
                load, index = min(loads)
                best.append((load > self._cap[pool], ready[index]))
        return min(best, key=lambda one: one[0])[1] if best else None

    def _load(self, replica: Replica) -> float:
        return (replica.inside + 1) / self._weights[replica.pool][replica.profile]

    def _play(self, to_s: float) -> None:
        for slot, replica in enumerate(self.slots):
            if replica is None:
                continue
            while replica.engine.next_event_s <= to_s:
                self._tokens(replica, replica.engine.next_event_s)
                if replica.draining and replica.inside == 0:
                    break
            if replica.draining and replica.inside == 0:
                self._leave(slot, max(replica.last_s.values(), default=self.now_s))
            else:
                self._tokens(replica, to_s)

    def _tokens(self, replica: Replica, to_s: float) -> None:
        for e in replica.engine.advance(to_s):
            if e.first:
                self.first_s[e.request_id] = e.t_s
            else:
                gap_s = e.t_s - replica.last_s[e.request_id]
                self.max_tbt_s[e.request_id] = np.fmax(self.max_tbt_s[e.request_id], gap_s)
            replica.last_s[e.request_id] = e.t_s
            if e.handed:
                self._send(replica, e.request_id, e.t_s)
            if e.finished:
                self.finish_s[e.request_id] = e.t_s
                self.ends[e.request_id] += 1

    def _send(self, replica: Replica, request: int, now_s: float) -> None:
        pool = self._link.decode_pool[replica.pool]
        assert pool is not None
        kv_bytes = int(self._requests.prompt_tokens[request]) * replica.engine.profile.work.kv_bytes_per_token
        lands_s = now_s + (self._link.link_setup_s + kv_bytes / self._link.link_bytes_per_s)
        self._moving.append((lands_s, request, pool))
        self.handed += 1

    def _leave(self, slot: int, now_s: float) -> None:
        replica = self._replica(slot)
        transition_j = replica.transition_j(now_s)
        self.joules["serving"] += replica.engine.serving_j
        self.joules["idle"] += replica.engine.idle_j - transition_j
        self.joules["transition"] += transition_j
        self.preemptions += replica.engine.preemptions_total
        self.squashed += replica.engine.squashed_total
        self.slots[slot] = None
        self._gone.append(slot)

    def _replica(self, slot: int) -> Replica:
        replica = self.slots[slot]
        assert replica is not None
        return replica
