"""A service's requests and replicas on virtual time: the class around the kernel's functions.

Who calls it: `replay.pool`, `replay.telemetry` and `replay.engine`, once per tick. Must not know: policies, plans, nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capstan.model.profile import Profile
from capstan.replay.kernel import build, events, layout
from capstan.replay.runs import Floats, Ints, Requests

Table = np.recarray[tuple[int], np.dtype[np.void]]


@dataclass(frozen=True, slots=True)
class Totals:
    """All replicas of a world at its last `advance`. Joules count from time 0; `kv_usage` is that of the fullest."""

    running: int
    waiting: int
    kv_usage: float
    serving_j: float
    idle_j: float
    transition_j: float

    @property
    def energy_j(self) -> float:
        """Joules of all GPUs."""
        return self.serving_j + self.idle_j + self.transition_j


class World:
    """One service. Time only moves in `advance`; how often it is called changes no time of any request.

    Args:
        requests: The trace; ids are its rows.
        profiles: The physics of each degree; `create` names one by its index.
        slots: Replicas that can exist at once.
        end_s: Watts are kept per `bin_s` up to here.
        pools: How many pools there are; `request_pool` says which one each request goes to (default: the first).
        compiled: False runs the same source as Python: slow, and the oracle of the other.
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
        request_pool: Ints | None = None,
        compiled: bool = True,
    ) -> None:
        self.now_s = 0.0
        self.profiles = profiles
        self.bin_s = bin_s
        self._reqs = _request_table(requests)
        seats = max(profile.max_num_seqs for profile in profiles)
        self._reps: Table = np.zeros(slots, dtype=layout.replica(seats)).view(np.recarray)
        self._shared: Table = np.zeros(1, dtype=layout.SHARED).view(np.recarray)
        self._shared.unfinished[0] = len(requests)
        self._log: Ints = np.full(len(requests), layout.NOBODY, dtype=np.int64)
        self.bins_j: Floats = np.zeros(max(math.ceil(end_s / bin_s), 1))
        self._pools: Ints = np.zeros(0, np.int64) if request_pool is None else request_pool.astype(np.int64)
        self._held: Ints = np.full(pools, layout.NOBODY, dtype=np.int64)
        self._tails: Ints = np.full(pools, layout.NOBODY, dtype=np.int64)
        self._counts: Ints = np.zeros(pools, dtype=np.int64)
        self._kv_tokens = np.array([profile.kv_tokens for profile in profiles])
        self._serial = 0
        self._compiled = compiled
        self._advance = build.compiled() if compiled else build.plain()
        self._physics = layout.filled(profiles) if compiled else profiles

    # --- what the outside does ---------------------------------------------------------------------

    def create(self, profile: int, *, now_s: float, ready_s: float, pool: int = 0) -> int:
        """Start a replica on the physics of `profiles[profile]` and return its slot; it serves from `ready_s` on.

        Raises:
            ValueError: No slot is free.
        """
        free = np.flatnonzero(self._reps.state == layout.FREE)
        if not len(free):
            raise ValueError(f"all {len(self._reps)} slots of the world are taken")
        slot = int(free[0])
        rep = self._reps[slot]
        spent = (rep.serving_j, rep.idle_j, rep.transition_j)
        rep.fill(0)
        rep.serving_j, rep.idle_j, rep.transition_j = spent
        rep.state = layout.READY if ready_s <= now_s else layout.STARTING
        rep.profile, rep.pool, rep.serial = profile, pool, self._serial
        rep.ready_s, rep.start_s, rep.booked_s, rep.next_s = ready_s, now_s, now_s, math.inf
        rep.mode, rep.cap_ratio, rep.limit_w = layout.IDLE, 1.0, math.inf
        for name in ("partial", "chunk_head", "chunk_tail", "queue_head", "queue_tail"):
            rep[name] = layout.NOBODY
        self._serial += 1
        return slot

    def drain(self, slot: int) -> None:
        """Send a replica no new request; it is gone when empty, which an idle one is at once."""
        rep = self._reps[slot]
        empty = rep.running + rep.waiting == 0
        rep.state = layout.GONE if empty else layout.DRAINING

    def cap(self, slot: int, now_s: float, cap_ratio: float, limit_w: float) -> None:
        """Ask for a clock cap and a board limit; they hold from the first step that begins 50 ms later."""
        rep = self._reps[slot]
        pending = int(rep.pending)
        if pending:
            asked = (rep.pending_ratio[pending - 1], rep.pending_w[pending - 1])
        else:
            asked = (rep.cap_ratio, rep.limit_w)
        if asked == (cap_ratio, limit_w):
            return
        at = min(pending, layout.PENDING - 1)
        rep.pending_s[at] = now_s + events.CLOCK_SWITCH_S
        rep.pending_ratio[at], rep.pending_w[at] = cap_ratio, limit_w
        rep.pending = at + 1
        if rep.mode == layout.LEAP:
            events.leap.cut(rep, float(rep.pending_s[0]))

    def advance(self, to_s: float) -> None:
        """Play everything that happens up to `to_s`."""
        self._advance(
            self._reps if not self._compiled else self._reps.view(np.ndarray),
            self._physics,
            self._reqs if not self._compiled else self._reqs.view(np.ndarray),
            self._shared[0] if not self._compiled else self._shared.view(np.ndarray)[0],
            self._log,
            self.bins_j,
            self.bin_s,
            self._pools,
            self._held,
            self._tails,
            self._counts,
            to_s,
        )
        self.now_s = to_s

    def take_gone(self) -> list[int]:
        """Return the slots of replicas that are gone since the last call; they are free from now on."""
        gone = np.flatnonzero(self._reps.state == layout.GONE).tolist()
        for slot in gone:
            self._reps[slot].state = layout.FREE
        return gone

    # --- what the outside sees ---------------------------------------------------------------------

    @property
    def replicas(self) -> Table:
        """The table of replicas, shape `[slot]`; `layout.replica` names its columns."""
        return self._reps

    @property
    def first_s(self) -> Floats:
        """When each request's first token appeared, shape `[request]`; NaN: not yet."""
        return np.asarray(self._reqs.first_s)

    @property
    def finish_s(self) -> Floats:
        """When each request finished; NaN: not yet, or refused."""
        return np.asarray(self._reqs.finish_s)

    @property
    def max_tbt_s(self) -> Floats:
        """The longest gap between two tokens of each finished request; NaN: it has not two."""
        return np.asarray(self._reqs.max_tbt_s)

    @property
    def finished(self) -> Ints:
        """Ids in the order in which their finishes were booked; the first `finished_count` are there."""
        return self._log

    @property
    def finished_count(self) -> int:
        """Requests that finished."""
        return int(self._shared.finished[0])

    @property
    def unfinished(self) -> int:
        """Requests that have neither finished nor been refused."""
        return int(self._shared.unfinished[0])

    @property
    def refused(self) -> int:
        """Requests that fit in no engine."""
        return int(self._shared.refused[0])

    @property
    def preemptions(self) -> int:
        """How often a request lost its KV."""
        return int(self._shared.preemptions[0])

    @property
    def unrouted(self) -> int:
        """Requests that wait because no replica is ready."""
        return int(self._shared.unrouted[0])

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt and output tokens computed so far."""
        return int(self._shared.prompt_tokens[0]), int(self._shared.output_tokens[0])

    def energy_j(self) -> Floats:
        """Return joules per slot from time 0 to the last `advance`, whoever was in it."""
        return np.asarray(self._reps.serving_j + self._reps.idle_j + self._reps.transition_j)

    def totals(self) -> Totals:
        """Return the sums over all replicas."""
        reps = self._reps
        usage = reps.kv_tokens / self._kv_tokens[reps.profile]
        return Totals(
            running=int(reps.running.sum()),
            waiting=int(reps.waiting.sum()) + self.unrouted,
            kv_usage=float(usage.max()),
            serving_j=float(reps.serving_j.sum()),
            idle_j=float(reps.idle_j.sum()),
            transition_j=float(reps.transition_j.sum()),
        )


def _request_table(requests: Requests) -> Table:
    table: npt.NDArray[np.void] = np.zeros(len(requests), dtype=layout.REQUEST)
    table["arrival_s"] = requests.arrival_s
    table["prompt"] = requests.prompt_tokens
    table["output"] = requests.output_tokens
    table["next"] = layout.NOBODY
    for name in ("first_s", "finish_s", "max_tbt_s"):
        table[name] = math.nan
    return table.view(np.recarray)
