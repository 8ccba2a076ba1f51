"""Who gets a request: routing within a pool and beyond it, holding before one, and its release (rule 7).

Who calls it: `kernel.play` and `kernel.world`. Compiled, but for `remap` and `wake`, which are rare. A pool's replicas
are played up to the moment only when they are asked, so pools that nobody asks for cost nothing.
"""

from __future__ import annotations

import math

import numpy as np

from capstan.model.profile import Profile
from capstan.replay.kernel import joules, steps
from capstan.replay.kernel.layout import (
    EVERY,
    NOBODY,
    READY,
    STARTING,
    Classes,
    Floats,
    Index,
    Ints,
    Records,
)  # fmt: skip


def ask(
    w: np.void,
    pools: Records,
    members: Ints,
    rows: Records,
    profiles: tuple[Profile, ...],
    q: Records,
    home: Index,
    pool: Index,
    full: Index,
    request: Index,
    now_s: float,
) -> tuple[int, int]:
    """Ask a pool to take a request; where it does not, return who is asked next. Its replicas are played up to now.

    `home` is the request's own pool, where it is held while nobody in the chain is ready. `full` is the first ready
    replica that was found beyond its pool's cap: it takes what all others refuse. Returned are the next pool of the
    chain, NOBODY where the request is settled, and `full`.
    """
    slot = _least(pools, members, rows, pool)
    if slot == NOBODY or _load(rows[slot]) > pools[pool]["cap"]:
        full = slot if full == NOBODY else full
        if pools[pool]["next"] != NOBODY:
            return int(pools[pool]["next"]), int(full)
        slot = int(full)
    if slot == NOBODY:
        hold(w, pools[home], q, request)
    else:
        _give(w, pools, rows[slot], profiles, q, home, request, now_s)
    return NOBODY, NOBODY


def _give(
    w: np.void,
    pools: Records,
    r: np.void,
    profiles: tuple[Profile, ...],
    q: Records,
    home: Index,
    request: Index,
    now_s: float,
) -> None:
    """Give a request to a replica."""
    if r["pool"] != home:
        pools[home]["spilled"] += 1
    p = profiles[r["profile"]]
    if q[request]["prompt"] + q[request]["output"] > p.kv_tokens:
        w["refused"] += 1
    else:
        steps.enqueue(r, p, q, request, now_s)


def _least(pools: Records, members: Ints, rows: Records, pool: Index) -> int:
    """Return a pool's ready replica with the least load, the lowest slot on a tie; NOBODY where none is ready."""
    chosen, least = NOBODY, math.inf
    for at in range(pools[pool]["members"]):
        slot = members[pool, at]
        if rows[slot]["state"] == READY:
            load = _load(rows[slot])
            if load < least:
                chosen, least = slot, load
    return chosen


def _load(r: np.void) -> float:
    """Return the requests that would be inside with one more, per unit of weight."""
    return float((r["running"] + r["waiting"] + 1) / r["weight"])


def hold(w: np.void, pool: np.void, q: Records, request: Index) -> None:
    """Keep a request before its pool, in order of arrival."""
    q[request]["next"] = NOBODY
    if pool["held"] > 0:
        q[pool["tail"]]["next"] = request
    else:
        pool["head"] = request
    pool["tail"] = request
    pool["held"] += 1
    w["held"] += 1


def let_ready(
    w: np.void,
    pools: Records,
    members: Ints,
    rows: Records,
    profiles: tuple[Profile, ...],
    bins: Floats,
    now_s: float,
) -> None:
    """Let started replicas serve, and begin to give them what was held for them."""
    w["next_ready_s"] = math.inf
    for pool in range(len(pools)):
        for at in range(pools[pool]["members"]):
            r = rows[members[pool, at]]
            if r["state"] != STARTING:
                continue
            if r["ready_s"] <= now_s:
                r["transition_j"] += joules.rest(r, profiles[r["profile"]], w, bins, now_s)
                r["state"] = READY
            else:
                w["next_ready_s"] = min(w["next_ready_s"], r["ready_s"])
    w["released_s"] = now_s
    w["releasing"] = serving(pools, members, rows, w["releasing"])


def serving(pools: Records, members: Ints, rows: Records, after: int) -> int:
    """Return the next pool after one (EVERY: of all) in which requests are held and whose chain has a ready replica."""
    for pool in range(after + 1, len(pools)):
        at = pool if pools[pool]["held"] > 0 else NOBODY
        while at != NOBODY:
            if _least(pools, members, rows, at) != NOBODY:
                return pool
            at = pools[at]["next"]
    return EVERY


# --- another table -----------------------------------------------------------------------------------


def remap(w: np.void, pools: Records, q: Records, request_class: Classes, class_pool: Ints) -> None:
    """Hold what is held before the pool that the table names now, still in order of arrival.

    Who brings its KV was sent to its pool and stays there, before those who come anew.
    """
    held: list[int] = []
    for pool in pools:
        request, count = int(pool["head"]), int(pool["held"])
        w["held"] -= count
        pool["held"] = 0
        for _ in range(count):
            behind = int(q[request]["next"])
            if q[request]["joined"] == NOBODY:
                hold(w, pool, q, request)
            else:
                held.append(request)
            request = behind
    for request in sorted(held):
        hold(w, pools[class_pool[request_class[request] if len(request_class) > 0 else 0]], q, request)


def wake(w: np.void, pools: Records, members: Ints, rows: Records) -> None:
    """Let the next `advance` begin with what is held and has found a ready replica."""
    if serving(pools, members, rows, EVERY) != EVERY:
        w["next_ready_s"] = w["now_s"]
