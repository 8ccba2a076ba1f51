"""The replicas of one service in virtual time, request by request, as fast as one core goes.

Who calls it: `replay.engine`, once per tick, and the searches. Must not know: policies, nodes, why a replica is made.

The rules are those of the design page; `replay.world.Engine` says them step by step and is the oracle. What is
played between two calls does not depend on how often there is a call: times are equal to the last bit, joules to the
rounding of an integral. A request that is larger than the KV cache of the replica that it is routed to is refused.
"""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capstan.model.profile import Profile
from capstan.replay.kernel import entries, joules, labels, layout, play, routes, rules
from capstan.replay.kernel.layout import DRAINING, FREE, LEAP, STARTING, Classes, Floats, Ints, Records
from capstan.replay.kernel.rules import Emergency, HandOver
from capstan.replay.runs import Requests
from capstan.replay.waiting import Order
from capstan.replay.world import CLOCK_SWITCH_S


@dataclass(frozen=True, slots=True)
class Totals:
    """All replicas of a service together, up to the last `advance`. `kv_usage` is the fullest cache's, 0 to 1."""

    running: int
    waiting: int
    kv_usage: float
    serving_j: float
    idle_j: float
    transition_j: float

    @property
    def energy_j(self) -> float:
        """Joules of all GPUs that the service had."""
        return self.serving_j + self.idle_j + self.transition_j


def warm_up(profile: Profile) -> None:
    """Compile everything, or read it from the cache; a world does it by itself with its first calls."""
    one = Requests(np.array([0.0]), np.array([1]), np.array([1]))
    world = World(one, (profile,), slots=1, end_s=1.0)
    slot = world.create(0, now_s=0.0, ready_s=0.0)
    world.cap(slot, 0.0, 1.0, math.inf)
    world.drain(slot)
    world.advance(0.0)


class World:
    """Requests, replicas and what became of both. Ids are rows of the trace, slots are rows of `replicas`.

    Attributes:
        profiles: The physics; a replica's `profile` is an index into them.
        replicas: One record per slot (see `layout.REPLICA`), as of the last `advance`.
        first_s, finish_s, max_tbt_s: Per request; NaN: never.
        finished: Ids in the order in which they were booked, as far as `finished_count`. Those added by one
            `advance` finished up to its time and after the one before.
    """

    def __init__(
        self,
        requests: Requests,
        profiles: tuple[Profile, ...],
        *,
        slots: int,
        end_s: float,
        bin_s: float = 1.0,
        pools: int = 1,
        request_class: Ints | None = None,
        class_pool: Sequence[int] = (0,),
        emergency: Emergency | None = None,
        hand_over: HandOver | None = None,
        slow_start_s: float = 0.0,
        compile_it: bool = True,
    ) -> None:
        """Lay out the tables.

        Args:
            requests: The trace, ascending in time.
            profiles: What replicas can be made of.
            slots: Replicas that may exist at a time, those that drain included.
            end_s: Until when joules are binned; what is later goes into the last bin.
            bin_s: Length of a bin.
            pools: Requests and replicas are routed within a pool.
            request_class: The class of each request; None: all are of class 0.
            class_pool: The pool of each class, until `route` says otherwise.
            emergency: What engines do with who is late; None: nothing, they are as stock.
            hand_over: Which pools only prefill; None: none.
            slow_start_s: How long a replica that became ready during the run takes less than its share.
            compile_it: False runs the same source uncompiled, the kernel's oracle; so does NUMBA_DISABLE_JIT=1.
        """
        rules.check(requests, request_class, len(class_pool), emergency)
        compile_it = compile_it and os.environ.get("NUMBA_DISABLE_JIT", "0") in {"", "0"}
        count = len(requests)
        self.profiles = profiles
        self.replicas: Records = np.zeros(slots, layout.REPLICA)
        self.replicas["slot"] = np.arange(slots)
        self.finished: Ints = np.zeros(count, dtype=np.int64)
        self._functions = entries.functions(compile_them=compile_it)
        self._rows = layout.parameters(*profiles) if compile_it else profiles
        self._deeps: Records = np.zeros(slots, layout.deep(layout.seats_size(profiles)))
        self._world: Records = np.zeros(1, layout.WORLD)
        self._w = self._world[0]
        self._w["bin_s"], self._w["next_ready_s"] = bin_s, math.inf
        self._w["releasing"] = layout.EVERY
        self._w["slow_start_s"] = slow_start_s
        self._pools: Records = np.zeros(pools, layout.POOL)
        self._members: Ints = np.zeros((pools, slots), dtype=np.int64)
        self._weights: Floats = np.ones((pools, len(profiles)))
        self.hand_over(HandOver((None,) * pools) if hand_over is None else hand_over)
        self.spill([None] * pools, [math.inf] * pools)
        self._gone: Ints = np.zeros(slots, dtype=np.int64)
        self._free = list(range(slots))
        self._serial = 0
        self._out: Floats = np.full((3 if emergency is None else 5, count), math.nan)
        self._bins: Floats = np.zeros(max(math.ceil(end_s / bin_s), 1))
        self._requests: Records = np.zeros(count, layout.REQUEST)
        self._requests["prompt"], self._requests["output"] = requests.prompt_tokens, requests.output_tokens
        self._arrival_s: Floats = np.ascontiguousarray(requests.arrival_s, dtype=np.float64)
        self._request_class: Classes = np.array([] if request_class is None else request_class, dtype=np.int16)
        self._class_pool: Ints = np.zeros(len(class_pool), dtype=np.int64)
        self._set_route(class_pool)
        self.first_s, self.finish_s, self.max_tbt_s = self._out[:3]
        if emergency is not None:
            self._mind(emergency)
        self._tables = (
            self._w, self._pools, self._members, self.replicas, self._deeps, self._rows, self._requests, self._out,
            self.finished, self._bins, self._gone, self._arrival_s, self._request_class, self._class_pool,
        )  # fmt: skip

    # --- what the outside does ---------------------------------------------------------------------

    def create(self, profile: int, *, now_s: float, ready_s: float, pool: int = 0) -> int:
        """Make a replica of `profiles[profile]` and return its slot. Its watts count from now, requests from `ready_s`.

        Raises:
            RuntimeError: No slot is free; those that are gone are free once `take_gone` has told of them.
        """
        self._move_to(now_s)
        if not self._free:
            raise RuntimeError(f"all {len(self.replicas)} slots of the world hold a replica: give it more `slots`")
        slot = heapq.heappop(self._free)
        row = self.replicas[slot]
        row["serial"] = self._serial
        self._serial += 1
        weight = self._weights[pool, profile]
        play.create(
            self._w, self._pools, self._members, row, self.profiles[profile], profile, pool, weight, float(ready_s)
        )
        return slot

    def drain(self, slot: int) -> None:
        """Give a replica no new request; it is gone when it is empty, a starting one at once."""
        row = self.replicas[slot]
        if row["state"] in {FREE, DRAINING}:
            return
        profile = self.profiles[row["profile"]]
        play.drain(self._w, self._pools, self._members, self.replicas, profile, self._bins, self._gone, slot)

    def lose(self, slot: int, now_s: float) -> None:
        """Let a replica be gone at once; the requests in it are lost and counted as refused."""
        self._move_to(now_s)
        if self.replicas[slot]["state"] == FREE:
            return
        play.lose(self._w, self._pools, self._members, self.replicas, self._bins, self._gone, slot)
        self.advance(now_s)  # so that the totals are without it

    def move(self, slot: int, pool: int) -> None:
        """Let a replica serve another pool from now on, with what it has in hand; a draining one stays where it is."""
        row = self.replicas[slot]
        if row["state"] in {FREE, DRAINING} or row["pool"] == pool:
            return
        labels.move(self._pools, self._members, self.replicas, slot, pool)
        row["weight"] = self._weights[pool, row["profile"]]
        self._wake()

    def cap(self, slot: int, now_s: float, cap_ratio: float, limit_w: float) -> None:
        """Cap a replica's clock (as a ratio) and its boards' power (inf: the stock limit), from 50 ms later on."""
        self._move_to(now_s)
        row, deep = self.replicas[slot], self._deeps[slot]
        if row["state"] == FREE:
            return  # drained in the same breath: its owner is told by `take_gone`
        if not self._functions["cap"](row, deep, float(cap_ratio), float(limit_w), self.now_s, now_s + CLOCK_SWITCH_S):
            raise ValueError(f"more than {layout.PENDING_CAPS} caps of slot {slot} within {CLOCK_SWITCH_S} s")

    def advance(self, to_s: float) -> None:
        """Play everything up to and including `to_s`."""
        if to_s < self.now_s:
            raise ValueError(f"time runs backwards: at {self.now_s} s, asked for {to_s} s")
        self._functions["advance"](*self._tables, float(to_s))

    def route(self, class_pool: Sequence[int]) -> None:
        """Send the requests of each class to another pool from now on, those that are still held before one included.

        Raises:
            ValueError: Another number of classes than at the start, or a pool that is none.
        """
        self._set_route(class_pool)
        routes.remap(self._w, self._pools, self._requests, self._request_class, self._class_pool)
        self._wake()

    def weigh(self, pool: int, weights: Sequence[float]) -> None:
        """Give a pool's replicas, those to come included, a share of its requests by profile; 1 each at first.

        Raises:
            ValueError: Not one weight above zero per profile.
        """
        if len(weights) != len(self.profiles) or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"weights: finite and above zero, one for each of the {len(self.profiles)} profiles")
        self._weights[pool] = weights
        mine = self.replicas["pool"] == pool
        self.replicas["weight"][mine] = self._weights[pool][self.replicas["profile"][mine]]

    def shed(self, ratio: float) -> None:
        """Refuse a share (0 to 1) of the requests that arrive from now on, as a router that answers 429."""
        self._w["shed_ratio"] = rules.share(ratio)

    def spill(self, next_pool: Sequence[int | None], cap: Sequence[float]) -> None:
        """Say per pool who takes what is too much for it.

        Args:
            next_pool: Whom a request goes to where no replica of the pool is ready below its cap; None: to nobody.
            cap: Requests inside a replica, per unit of its weight; inf: never too much.

        Raises:
            ValueError: Not one of each per pool, a pool that is none, a chain without an end, or a cap that is not > 0.
        """
        pools = len(self._pools)
        if len(next_pool) != pools or len(cap) != pools or not all(each > 0 for each in cap):
            raise ValueError(f"next_pool and cap must have one row for each of the {pools} pools, and a cap be above 0")
        rules.check_chains(next_pool)
        rules.check_landings(self._hand_over.decode_pool, next_pool)
        self._pools["next"] = rules.numbers(next_pool)
        self._pools["cap"] = cap
        self._wake()

    def hand_over(self, hand_over: HandOver) -> None:
        """Say which pools only prefill from now on, and where that is decoded; then who may spill is said anew.

        Raises:
            ValueError: Not one row per pool, or KV that would be handed over again where it lands.
        """
        labels.hand_over(self._w, self._pools, self.replicas, hand_over)
        self._hand_over = hand_over

    def take_gone(self) -> list[int]:
        """Return the slots whose replicas are gone since the last call; from here on they are used again."""
        slots: list[int] = self._gone[: self._w["gone"]].tolist()
        self._w["gone"] = 0
        for slot in slots:
            heapq.heappush(self._free, slot)
        return slots

    # --- what the outside sees ---------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """The time of the last `advance`."""
        return float(self._w["now_s"])

    @property
    def finished_count(self) -> int:
        """Requests that are done."""
        return int(self._w["finished"])

    @property
    def refused(self) -> int:
        """Requests that fit in no cache, were lost with their replica, or were shed."""
        return int(self._w["refused"])

    @property
    def squashed(self) -> int:
        """Requests that were given up because they were late."""
        return int(self._w["squashed"])

    @property
    def unfinished(self) -> int:
        """Requests that have still to end, those to come included."""
        return len(self._arrival_s) - self.finished_count - self.refused - self.squashed

    @property
    def unrouted(self) -> int:
        """Requests that wait before their pool because no replica is ready."""
        return int(self._w["held"])

    @property
    def moving(self) -> int:
        """Requests whose KV is on its way from one replica to another."""
        return int(self._w["moving"])

    @property
    def handed(self) -> int:
        """Requests whose KV was sent to another replica, those on their way included."""
        return int(self._w["handed"])

    @property
    def spilled(self) -> Ints:
        """Requests of each pool that another one took, `[pool]`."""
        spilled: Ints = self._pools["spilled"].copy()
        return spilled

    @property
    def prompt_tokens(self) -> int:
        """Tokens of prompts that were finished; what a preempted one computes again does not count again."""
        return int(self._w["prompt_tokens"])

    @property
    def generation_tokens(self) -> int:
        """Output tokens made."""
        return int(self._w["generation_tokens"])

    @property
    def preemptions(self) -> int:
        """How often a request lost its KV cache to older ones."""
        return int(self._w["preemptions"])

    @property
    def next_event_s(self) -> float:
        """When the state next changes by itself: a step ends, a replica is ready, a request or its KV arrives."""
        arrived = int(self._w["arrived"])
        arrival_s = float(self._arrival_s[arrived]) if arrived < len(self._arrival_s) else math.inf
        live = self.replicas["state"] > STARTING
        landing = int(self._w["landing"])
        lands_s = math.inf if landing == layout.NOBODY else float(self._requests["ready_s"][landing])
        step_s = float(self.replicas["next_s"].min(where=live, initial=math.inf))
        return min(arrival_s, lands_s, float(self._w["next_ready_s"]), step_s)

    def energy_j(self) -> Floats:
        """Return joules per slot, of every replica that it has held, up to the last `advance`."""
        rows = self.replicas
        joined: Floats = rows["serving_j"] + rows["open_j"] + rows["idle_j"] + rows["transition_j"]
        return joined

    def totals(self) -> Totals:
        """Return the sums over all replicas as of the last `advance`."""
        w = self._w
        return Totals(
            int(w["running"]), int(w["waiting"]), float(w["kv_usage"]),
            float(w["serving_j"]), float(w["idle_j"]), float(w["transition_j"]),
        )  # fmt: skip

    def bins_j(self) -> Floats:
        """Return joules per bin of all the service's GPUs, up to the last `advance`."""
        bins = self._bins.copy()
        for row in self.replicas[self.replicas["open_j"] > 0]:
            leaping = row["mode"] == LEAP
            start_s = joules.leap_end_s(row, float(row["booked_steps"])) if leaping else float(row["origin_s"])
            open_w = float(row["open_j"]) / (self.now_s - start_s)
            joules.spread(bins, float(self._w["bin_s"]), start_s, self.now_s, open_w, 0.0)
        return bins

    def check(self) -> None:
        """Hold the tables against each other; for tests and for who doubts a result.

        Raises:
            AssertionError: Something that can never be is.
        """
        energy_j = float(self.energy_j().sum())
        binned_j = float(self.bins_j().sum())
        if not math.isclose(energy_j, binned_j, rel_tol=1e-9, abs_tol=1e-6):
            raise AssertionError(f"{energy_j} J of replicas, {binned_j} J in bins")
        if self._w["kv_overruns"]:
            raise AssertionError(f"{self._w['kv_overruns']} steps began without room in the KV cache")
        for row in self.replicas[self.replicas["state"] != FREE]:
            profile = self.profiles[row["profile"]]
            if not 0 <= row["kv_tokens"] <= profile.kv_tokens or not 0 <= row["running"] <= profile.max_num_seqs:
                raise AssertionError(f"slot {row['slot']}: {row['kv_tokens']} tokens, {row['running']} requests")
        inside = int(self.replicas["running"].sum() + self.replicas["waiting"].sum()) + self.unrouted + self.moving
        ended = self.finished_count + self.refused + self.squashed
        if inside + ended != self._w["arrived"]:
            raise AssertionError(f"{self._w['arrived']} requests arrived, {ended} ended, {inside} are inside")

    def _set_route(self, class_pool: Sequence[int]) -> None:
        if len(class_pool) != len(self._class_pool) or not all(0 <= pool < len(self._pools) for pool in class_pool):
            raise ValueError(
                f"class_pool must name one pool for each of the {len(self._class_pool)} classes, "
                f"each between 0 and {len(self._pools) - 1}"
            )
        self._class_pool[:] = class_pool

    def _mind(self, emergency: Emergency) -> None:
        self._out[layout.DEADLINE] = self._arrival_s + emergency.ttft_s
        self._out[layout.PATIENCE] = self._arrival_s + emergency.squash_ratio * emergency.ttft_s
        self._w["minding"] = layout.MIND_LAXITY * (emergency.order is Order.LEAST_LAXITY)
        self._w["minding"] |= layout.MIND_PATIENCE * (emergency.squash_ratio < math.inf)

    def _wake(self) -> None:
        routes.wake(self._w, self._pools, self._members, self.replicas)

    def _move_to(self, now_s: float) -> None:
        if now_s != self._w["now_s"]:
            self.advance(now_s)
