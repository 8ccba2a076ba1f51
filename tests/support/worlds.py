"""A service step by step, from `replay.world.Engine`: the oracle of the kernel; and worlds to hold both against.

Written apart from the kernel: every request is an object, every replica an engine that walks each step of each
request. A `Script` is a whole run (trace, replicas, caps, drains), played on either by the same words.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from capstan.model.profile import Profile
from capstan.model.workload import Request
from capstan.replay import kernel
from capstan.replay.runs import Floats, Ints, Requests
from capstan.replay.world import Engine
from support import builders


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
        self, requests: Requests, profiles: tuple[Profile, ...], *, slots: int, pools: int, request_class: Ints
    ) -> None:
        count = len(requests)
        self.now_s = 0.0
        self.slots: list[Replica | None] = [None] * slots
        self.first_s, self.finish_s, self.max_tbt_s = (np.full(count, math.nan) for _ in range(3))
        self.refused = self.preemptions = 0
        self.joules = {"serving": 0.0, "idle": 0.0, "transition": 0.0}
        self.ends = [0] * count
        self._requests = requests
        self._profiles = profiles
        self._class_of = request_class
        self._class_pool: Sequence[int] = range(pools)
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
        engine = Engine(p, now_s=now_s, chunk_tokens=p.chunk_tokens, max_num_seqs=p.max_num_seqs)
        self.slots[slot] = Replica(engine, profile, pool, now_s, max(now_s, ready_s))
        return slot

    def drain(self, slot: int) -> None:
        replica = self._replica(slot)
        replica.draining = True
        if replica.inside == 0:
            self._leave(slot, self.now_s)

    def cap(self, slot: int, now_s: float, cap_ratio: float, limit_w: float) -> None:
        engine = self._replica(slot).engine
        mhz = None if cap_ratio == 1.0 else cap_ratio * engine.profile.clocks.max_mhz
        engine.set_caps(now_s, clock_cap_mhz=mhz, power_limit_w=None if limit_w == math.inf else limit_w)

    def advance(self, to_s: float) -> None:
        while True:
            arrival_s = self._requests.arrival_s
            due_s = float(arrival_s[self._arrived]) if self._arrived < len(arrival_s) else math.inf
            ready_s = min((r.ready_s for r in self._unserved()), default=math.inf)
            if min(due_s, ready_s) > to_s:
                break
            if ready_s <= due_s:
                self._release(max(ready_s, self.now_s))
            else:
                self._arrived += 1
                self._route(self._arrived - 1, due_s)
        self._play(to_s)
        self.now_s = to_s

    def route(self, class_pool: Sequence[int]) -> None:
        self._class_pool = class_pool
        self._reroute()

    def weigh(self, pool: int, weights: Sequence[float]) -> None:
        self._weights[pool] = list(weights)

    def spill(self, next_pool: Sequence[int | None], cap: Sequence[float]) -> None:
        self._next, self._cap = list(next_pool), list(cap)
        self._reroute()

    def _reroute(self) -> None:
        held = sorted(request for requests in self._held for request in requests)
        self._held = [[] for _ in self._held]
        for request in held:
            self._route(request, self.now_s)

    def take_gone(self) -> list[int]:
        slots, self._gone = self._gone, []
        self._free |= set(slots)
        return slots

    @property
    def unfinished(self) -> int:
        return len(self.ends) - sum(self.ends) - self.refused

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
                    self._route(request, now_s)

    def _route(self, request: int, now_s: float) -> None:
        self._play(now_s)
        home = self._class_pool[int(self._class_of[request])]
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
        chosen.engine.submit(asked, now_s)

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
                self._leave(slot, max(replica.last_s.values()))
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
            if e.finished:
                self.finish_s[e.request_id] = e.t_s
                self.ends[e.request_id] += 1

    def _leave(self, slot: int, now_s: float) -> None:
        replica = self._replica(slot)
        transition_j = replica.transition_j(now_s)
        self.joules["serving"] += replica.engine.serving_j
        self.joules["idle"] += replica.engine.idle_j - transition_j
        self.joules["transition"] += transition_j
        self.preemptions += replica.engine.preemptions_total
        self.slots[slot] = None
        self._gone.append(slot)

    def _replica(self, slot: int) -> Replica:
        replica = self.slots[slot]
        assert replica is not None
        return replica


class Playable(Protocol):
    """What a script needs of a world."""

    @property
    def unfinished(self) -> int: ...
    def create(self, profile: int, *, now_s: float, ready_s: float, pool: int = 0) -> int: ...
    def drain(self, slot: int) -> None: ...
    def cap(self, slot: int, now_s: float, cap_ratio: float, limit_w: float) -> None: ...
    def advance(self, to_s: float) -> None: ...
    def route(self, class_pool: Sequence[int]) -> None: ...
    def weigh(self, pool: int, weights: Sequence[float]) -> None: ...
    def spill(self, next_pool: Sequence[int | None], cap: Sequence[float]) -> None: ...
    def take_gone(self) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Event:
    """Something done to a world at `t_s`. Replicas are named by the order in which they are made."""

    t_s: float
    verb: str  # create, drain, cap, route, weigh, spill
    replica: int = -1
    profile: int = 0
    pool: int = 0
    startup_s: float = 0.0
    cap_mhz: float = math.inf
    limit_w: float = math.inf
    class_pool: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    next_pool: tuple[int | None, ...] = ()
    caps: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """A whole run. `end_s` is late enough for everything to have ended."""

    requests: Requests
    request_class: Ints  # as many classes as pools; at first each class has the pool of its number
    profiles: tuple[Profile, ...]
    events: tuple[Event, ...]
    pools: int
    slots: int

    @property
    def end_s(self) -> float:
        """Until when bins are kept."""
        return float(self.requests.arrival_s[-1]) + 400.0

    def world(self, *, compile_it: bool) -> kernel.World:
        """Return a kernel's world for it."""
        return kernel.World(
            self.requests, self.profiles, slots=self.slots, end_s=self.end_s, pools=self.pools,
            request_class=self.request_class, class_pool=range(self.pools), compile_it=compile_it,
        )  # fmt: skip

    def naive(self) -> Naive:
        """Return the oracle's world for it."""
        return Naive(self.requests, self.profiles, slots=self.slots, pools=self.pools, request_class=self.request_class)


def play(script: Script, world: Playable, *, tick_s: float = math.inf, check: bool = False) -> list[int]:
    """Play a script to its end, watching every `tick_s`; return the slots in the order in which they were gone."""
    made: dict[int, tuple[int, int]] = {}
    gone: list[int] = []
    now_s, ticks = 0.0, 1

    def move(to_s: float) -> None:
        nonlocal now_s, ticks
        while ticks * tick_s < to_s:
            world.advance(ticks * tick_s)
            ticks += 1
            if check and isinstance(world, kernel.World):
                world.check()
        now_s = to_s
        world.advance(to_s)
        gone.extend(world.take_gone())

    for event in script.events:
        move(event.t_s)
        if event.verb == "create":
            slot = world.create(event.profile, now_s=now_s, ready_s=now_s + event.startup_s, pool=event.pool)
            made[event.replica] = (slot, event.profile)
            continue
        if event.verb in {"route", "weigh", "spill"}:
            _change(world, event)
            continue
        slot, profile = made[event.replica]
        if slot in gone:
            continue
        if event.verb == "drain":
            world.drain(slot)
        else:
            ratio = script.profiles[profile].clocks.ratio(event.cap_mhz)
            world.cap(slot, now_s, ratio, event.limit_w)
    move(script.end_s)
    return gone


def _change(world: Playable, event: Event) -> None:
    if event.verb == "route":
        world.route(event.class_pool)
    elif event.verb == "weigh":
        world.weigh(event.pool, event.weights)
    else:
        world.spill(event.next_pool, event.caps)


def random_script(seed: int, *, requests: int = 60) -> Script:
    """Return a small world of any kind: pools, tiny caches, few seats, caps, limits, scaling and changes of tp."""
    rng = np.random.default_rng(seed)
    pools = int(rng.integers(1, 4))
    profiles = tuple(_profile(rng, tp) for tp in (4, 8))
    largest = min(profile.kv_tokens for profile in profiles)
    count = int(rng.integers(1, requests + 1))
    gaps_s = rng.exponential(rng.choice([0.01, 0.1, 0.5]), count)
    gaps_s[rng.random(count) < 0.2] = 0.0  # several at one moment
    arrivals: Floats = np.cumsum(gaps_s)
    prompts = 1 + rng.integers(0, max(int(largest * 0.5), 2), count)
    outputs = 1 + rng.integers(0, max(min(int(largest * 0.6), 300), 2), count)
    trace = Requests(arrivals, prompts, outputs)
    span_s = float(arrivals[-1]) + 5.0
    events = _events(rng, pools, span_s)
    request_class = rng.integers(0, pools, count)
    events += _changes(rng, pools, span_s)
    slots = sum(event.verb == "create" for event in events)
    return Script(trace, request_class, profiles, in_order(events), pools, slots)


def in_order(events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Return events by time; what happens at one moment stays in its order."""
    return tuple(sorted(events, key=lambda event: event.t_s))


def _profile(rng: np.random.Generator, tp: int) -> Profile:
    base = builders.profile()
    host_s = float(rng.choice([0.0, 0.01]))
    return dataclasses.replace(
        base,
        tp=tp,
        timing=dataclasses.replace(base.timing, queue_host_s=host_s, host_s=float(rng.uniform(0.002, 0.006))),
        kv_tokens=int(rng.choice([12, 300, 2500, 450_000])) if tp == 4 else int(rng.choice([400, 5000, 450_000])),
        max_num_seqs=int(rng.choice([1, 2, 7, 64, 256])),
        chunk_tokens=int(rng.choice([64, 512, 8192])),
    )


def _events(rng: np.random.Generator, pools: int, span_s: float) -> tuple[Event, ...]:
    """Return lives of replicas: each pool keeps its first, which is capped but not drained."""
    events = []
    for replica in range(int(rng.integers(pools, 10))):
        first = replica < pools
        born_s = 0.0 if first else float(rng.uniform(0, span_s))
        pool = replica if first else int(rng.integers(0, pools))
        profile = int(rng.integers(0, 2))
        startup_s = float(rng.choice([0.0, 0.7, 3.0]))
        events.append(Event(born_s, "create", replica, profile=profile, pool=pool, startup_s=startup_s))
        often_s = float(rng.uniform(born_s, span_s))  # some caps come every 20 ms
        for at in range(int(rng.choice([0, 1, 3, 15]))):
            t_s = often_s + at * 0.02 if rng.random() < 0.5 else float(rng.uniform(born_s, span_s + 1))
            cap_mhz = float(rng.choice([345, 800, 1410, 1980]))
            limit_w = float(rng.choice([math.inf, 250, 400, 600]))
            events.append(Event(t_s, "cap", replica, cap_mhz=cap_mhz, limit_w=limit_w))
        if not first and rng.random() < 0.6:
            events.append(Event(float(rng.uniform(born_s, span_s + 1)), "drain", replica))
    return tuple(events)


def _changes(rng: np.random.Generator, pools: int, span_s: float) -> tuple[Event, ...]:
    """Return changes of who gets what: tables, weights, spill; and the end of some pool's last sure replica."""
    events = []
    for _ in range(int(rng.choice([0, 1, 4]))):
        table = tuple(int(pool) for pool in rng.integers(0, pools, pools))
        events.append(Event(float(rng.uniform(0, span_s)), "route", class_pool=table))
    if rng.random() < 0.3:
        events.append(Event(float(rng.uniform(0, span_s)), "drain", int(rng.integers(0, pools))))
    for _ in range(int(rng.choice([0, 0, 3]))):
        weights = tuple(float(weight) for weight in rng.choice([0.5, 1.0, 2.0, 2.7], 2))
        events.append(Event(float(rng.uniform(0, span_s)), "weigh", pool=int(rng.integers(0, pools)), weights=weights))
    for _ in range(int(rng.choice([0, 1, 3]))):
        order = [int(pool) for pool in rng.permutation(pools)]
        after: dict[int, int | None] = dict.fromkeys(order)
        after |= {a: b for a, b in itertools.pairwise(order) if rng.random() < 0.7}
        caps = tuple(float(cap) for cap in rng.choice([1, 3, 10, math.inf], pools))
        next_pool = tuple(after[pool] for pool in range(pools))
        events.append(Event(float(rng.choice([0.0, rng.uniform(0, span_s)])), "spill", next_pool=next_pool, caps=caps))
    return tuple(events)
