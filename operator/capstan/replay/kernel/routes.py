"""Who gets a request: routing within a pool, holding before one, and what follows when a replica is ready (rule 7).

Who calls it: `kernel.play` and `kernel.world`. Compiled, but for `remap`, which is rare. A request belongs to a class,
a class to a pool by a table that may be replaced at any time.
"""

from __future__ import annotations

import math

import numpy as np

from capstan.model.profile import Profile
from capstan.replay.kernel import joules, steps
from capstan.replay.kernel.layout import EVERY, NOBODY, READY, STARTING, Classes, Floats, Ints, Records


def route(
    w: np.void,
    pools: Records,
    members: Ints,
    rows: Records,
    profiles: tuple[Profile, ...],
    q: Records,
    pool: int,
    request: int,
    now_s: float,
) -> None:
    """Give a request to the ready replica with the fewest inside, the lowest slot on a tie; hold it while none is."""
    chosen, fewest = NOBODY, 0
    for at in range(pools[pool]["members"]):
        slot = members[pool, at]
        r = rows[slot]
        inside = r["running"] + r["waiting"]
        if r["state"] == READY and (chosen == NOBODY or inside < fewest):
            chosen, fewest = slot, inside
    if chosen == NOBODY:
        hold(w, pools[pool], q, request)
        return
    p = profiles[rows[chosen]["profile"]]
    if q[request]["prompt"] + q[request]["output"] > p.kv_tokens:
        w["refused"] += 1
    else:
        steps.enqueue(rows[chosen], p, q, request, now_s)


def hold(w: np.void, pool: np.void, q: Records, request: int) -> None:
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
    """Return the next pool after one (EVERY: of all) in which requests are held and a replica is ready."""
    for pool in range(after + 1, len(pools)):
        if pools[pool]["held"] > 0:
            for at in range(pools[pool]["members"]):
                if rows[members[pool, at]]["state"] == READY:
                    return pool
    return EVERY


# --- another table -----------------------------------------------------------------------------------


def remap(
    w: np.void, pools: Records, members: Ints, rows: Records, q: Records, request_class: Classes, class_pool: Ints
) -> None:
    """Send what is held where the table says now, still in order of arrival; what finds a replica ready goes to it."""
    held: list[int] = []
    for pool in pools:
        request = pool["head"]
        for _ in range(pool["held"]):
            held.append(int(request))
            request = q[request]["next"]
        pool["held"] = 0
    w["held"] = 0
    for request in sorted(held):
        hold(w, pools[class_pool[request_class[request] if len(request_class) > 0 else 0]], q, request)
    if serving(pools, members, rows, EVERY) != EVERY:
        w["next_ready_s"] = w["now_s"]  # the next `advance` begins with them
