"""Worlds to hold the kernel and its oracle against each other, by hand or drawn at random.

A `Script` is a whole run (trace, replicas, caps, drains, tables), played on either by the same words.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from capstan.model.profile import Profile
from capstan.replay import kernel
from capstan.replay.runs import Floats, Ints, Requests
from capstan.replay.waiting import Order
from support import builders
from support.naive import Naive


class Playable(Protocol):
    """What a script needs of a world."""

    @property
    def unfinished(self) -> int: ...
    def create(self, profile: int, *, now_s: float, ready_s: float, pool: int = 0) -> int: ...
    def drain(self, slot: int) -> None: ...
    def move(self, slot: int, pool: int) -> None: ...
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
    verb: str  # create, drain, cap, move, route, weigh, spill
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
    emergency: kernel.Emergency | None = None
    hand_over: kernel.HandOver | None = None

    @property
    def end_s(self) -> float:
        """Until when bins are kept."""
        return float(self.requests.arrival_s[-1]) + 400.0

    def world(self, *, compile_it: bool) -> kernel.World:
        """Return a kernel's world for it."""
        return kernel.World(
            self.requests, self.profiles, slots=self.slots, end_s=self.end_s, pools=self.pools,
            request_class=self.request_class, class_pool=range(self.pools), emergency=self.emergency,
            hand_over=self.hand_over, compile_it=compile_it,
        )  # fmt: skip

    def naive(self) -> Naive:
        """Return the oracle's world for it."""
        return Naive(
            self.requests, self.profiles, slots=self.slots, pools=self.pools, request_class=self.request_class,
            emergency=self.emergency, hand_over=self.hand_over,
        )  # fmt: skip


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
        elif event.verb == "move":
            world.move(slot, event.pool)
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
    hand_over = _hand_over(rng, pools)
    events += _changes(rng, pools, span_s, () if hand_over is None else hand_over.decode_pool)
    slots = sum(event.verb == "create" for event in events)
    return Script(trace, request_class, profiles, in_order(events), pools, slots, _emergency(rng, count), hand_over)


def in_order(events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Return events by time; what happens at one moment stays in its order."""
    return tuple(sorted(events, key=lambda event: event.t_s))


def _emergency(rng: np.random.Generator, count: int) -> kernel.Emergency | None:
    """Return limits between what nearly everybody keeps and what few do; most worlds mind nothing."""
    if rng.random() < 0.6:
        return None
    order = Order.LEAST_LAXITY if rng.random() < 0.6 else Order.FIFO
    ttft_s = rng.choice([0.05, 0.3, 1.0, 4.0], count)
    return kernel.Emergency(ttft_s, order, float(rng.choice([1.0, 1.5, math.inf])))


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


def _hand_over(rng: np.random.Generator, pools: int) -> kernel.HandOver | None:
    """Return some pools that only prefill, over links slow enough to matter; the others decode."""
    decoding = int(rng.integers(0, pools))
    if rng.random() < 0.5 or pools == 1:
        return None
    lands = (int(pool) if pool != decoding else None for pool in range(pools))
    decode_pool = tuple(decoding if pool is not None and rng.random() < 0.7 else None for pool in lands)
    return kernel.HandOver(decode_pool, float(rng.choice([1e7, 1e9, 1e12])), float(rng.choice([0.0, 0.001, 0.1])))


def _changes(
    rng: np.random.Generator, pools: int, span_s: float, decode_pool: tuple[int | None, ...]
) -> tuple[Event, ...]:
    """Return changes of who gets what: tables, weights, spill; and the end of some pool's last sure replica."""
    events = []
    for _ in range(int(rng.choice([0, 1, 4]))):
        table = tuple(int(pool) for pool in rng.integers(0, pools, pools))
        events.append(Event(float(rng.uniform(0, span_s)), "route", class_pool=table))
    for _ in range(int(rng.choice([0, 0, 3]))):
        moved, pool = (int(each) for each in rng.integers(0, pools, 2))
        events.append(Event(float(rng.uniform(0, span_s)), "move", moved, pool=pool))
    if rng.random() < 0.3:
        events.append(Event(float(rng.uniform(0, span_s)), "drain", int(rng.integers(0, pools))))
    for _ in range(int(rng.choice([0, 0, 3]))):
        weights = tuple(float(weight) for weight in rng.choice([0.5, 1.0, 2.0, 2.7], 2))
        events.append(Event(float(rng.uniform(0, span_s)), "weigh", pool=int(rng.integers(0, pools)), weights=weights))
    for _ in range(int(rng.choice([0, 1, 3]))):
        order = [int(pool) for pool in rng.permutation(pools)]
        after: dict[int, int | None] = dict.fromkeys(order)
        for a, b in itertools.pairwise(order):
            hands_over = bool(decode_pool) and decode_pool[b] is not None  # what has landed must not get there
            if rng.random() < 0.7 and not hands_over:
                after[a] = b
        caps = tuple(float(cap) for cap in rng.choice([1, 3, 10, math.inf], pools))
        next_pool = tuple(after[pool] for pool in range(pools))
        events.append(Event(float(rng.choice([0.0, rng.uniform(0, span_s)])), "spill", next_pool=next_pool, caps=caps))
    return tuple(events)
