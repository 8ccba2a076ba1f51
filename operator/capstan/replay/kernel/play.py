"""The world's events in order of time: arrivals, routing, start-up, drain, caps (rules 5, 7 and 8 of the design page).

Who calls it: `kernel.world`, compiled or as it stands. Replicas meet only where a request is routed, so each runs on
its own up to the next arrival. Must not know: policies, nodes, why a replica is made.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

from capstan.model.profile import Profile
from capstan.replay.kernel import handover, joules, leaps, routes, steps
from capstan.replay.kernel.layout import (
    DRAINING,
    EVERY,
    FREE,
    IDLE,
    LEAP,
    NOBODY,
    PENDING_CAPS,
    PREFILLING,
    READY,
    STARTING,
    STEP,
    Classes,
    Floats,
    Ints,
    Records,
)  # fmt: skip

Table = TypeVar("Table")


def borrowed(table: Table) -> Table:
    """Return a table as it is. Compiled, it is one that nobody counts references of (see `compiling`)."""
    return table


def advance(
    w: np.void,
    pools: Records,
    members: Ints,
    rows: Records,
    deeps: Records,
    profiles: tuple[Profile, ...],
    q: Records,
    out: Floats,
    log: Ints,
    bins: Floats,
    gone: Ints,
    arrival_s: Floats,
    request_class: Classes,
    class_pool: Ints,
    to_s: float,
) -> None:
    """Play everything up to and including `to_s`, and make what a watcher sees."""
    _advance(
        w, borrowed(pools), borrowed(members), borrowed(rows), borrowed(deeps), borrowed(profiles), borrowed(q),
        borrowed(out), borrowed(log), borrowed(bins), borrowed(gone), borrowed(arrival_s),
        borrowed(request_class), borrowed(class_pool), to_s,
    )  # fmt: skip


def _advance(
    w: np.void,
    pools: Records,
    members: Ints,
    rows: Records,
    deeps: Records,
    profiles: tuple[Profile, ...],
    q: Records,
    out: Floats,
    log: Ints,
    bins: Floats,
    gone: Ints,
    arrival_s: Floats,
    request_class: Classes,
    class_pool: Ints,
    to_s: float,
) -> None:
    request, home, asked, full = NOBODY, NOBODY, NOBODY, NOBODY
    now_s, over = 0.0, False
    while not over:
        if asked < 0:  # the request before is settled
            now_s, request, home = _next(
                w, pools, members, rows, profiles, q, bins, arrival_s, request_class, class_pool, to_s
            )
            asked, over = home, home == EVERY
        for one in range(max(asked, 0), asked + 1 if asked >= 0 else len(pools)):
            if asked == PREFILLING and pools[one]["hands_to"] == NOBODY:
                continue
            for at in range(pools[one]["members"]):  # the one place where engines run, so the compiler inlines them
                slot = members[one, at]
                r = rows[slot]
                if r["next_s"] <= now_s and (asked < 0 or r["state"] == READY):
                    _run(r, deeps[slot], profiles[r["profile"]], w, q, out, log, bins, now_s)
        if asked >= 0:
            asked, full = routes.ask(w, pools, members, rows, profiles, q, home, asked, full, request, now_s)
    for one in range(len(pools)):
        for at in range(pools[one]["members"]):
            r = rows[members[one, at]]
            _watch(r, profiles[r["profile"]], w, bins, to_s)
        _let_go(w, pools, members, rows, gone, one)
    w["now_s"] = to_s
    _total(w, rows, profiles)


def _next(
    w: np.void,
    pools: Records,
    members: Ints,
    rows: Records,
    profiles: tuple[Profile, ...],
    q: Records,
    bins: Floats,
    arrival_s: Floats,
    request_class: Classes,
    class_pool: Ints,
    to_s: float,
) -> tuple[float, int, int]:
    """Return the next request to route, when, and its pool; at the end nobody and every pool.

    Nobody and PREFILLING: until then these pools are to be played. They may run ahead of what lands: no KV lands in a
    pool that hands over, so nobody touches them before that time.
    """
    while True:
        if w["releasing"] != EVERY:  # replicas of this pool are ready since `released_s`: what was held goes to them
            pool = w["releasing"]
            if pools[pool]["held"] > 0:
                request = pools[pool]["head"]
                pools[pool]["head"] = q[request]["next"]
                pools[pool]["held"] -= 1
                w["held"] -= 1
                return w["released_s"], int(request), int(pool)
            w["releasing"] = routes.serving(w, pools, members, rows, pool)
            continue
        request = w["arrived"]
        due_s = arrival_s[request] if request < len(arrival_s) else math.inf
        ready_s = w["next_ready_s"]
        if w["handing"] != 0:
            first_s = min(due_s, ready_s, to_s)
            if w["prefilled_s"] < first_s:  # first it must be known which KV lands until then
                w["prefilled_s"] = first_s
                return first_s, NOBODY, PREFILLING
            lands_s = q[w["landing"]]["ready_s"] if w["landing"] != NOBODY else math.inf
            if lands_s <= first_s and lands_s < ready_s:
                pool = q[w["landing"]]["prev"]
                return lands_s, handover.land(w, q), int(pool)
        if min(due_s, ready_s) > to_s:
            return to_s, NOBODY, EVERY
        if ready_s <= due_s:
            routes.let_ready(w, pools, members, rows, profiles, bins, ready_s)
        else:
            w["arrived"] += 1
            if w["shed_ratio"] > 0 and _sheds(w):
                continue
            code = request_class[request] if len(request_class) > 0 else 0
            return due_s, int(request), int(class_pool[code])


def _sheds(w: np.void) -> bool:
    """Return whether the request that arrives is refused: every so many, so that a share of them is."""
    w["shed_owed"] += w["shed_ratio"]
    if w["shed_owed"] < 1 - 1e-9:  # ten tenths are one
        return False
    w["shed_owed"] -= 1
    w["refused"] += 1
    return True


def _run(
    r: np.void, d: np.void, p: Profile, w: np.void, q: Records, out: Floats, log: Ints, bins: Floats, to_s: float
) -> None:
    """Play one replica up to `to_s`; a draining one is gone with its last request."""
    while r["next_s"] <= to_s:
        steps.end(r, d, p, w, q, out, log, bins)
        steps.begin(r, d, p, w, q, out)
        if r["state"] == DRAINING and r["running"] + r["waiting"] == 0:
            _leave(r)


# --- what a watcher sees -----------------------------------------------------------------------------


def _watch(r: np.void, p: Profile, w: np.void, bins: Floats, now_s: float) -> None:
    """Bring joules and KV up to now. The step in progress stays open: its part is shown, not booked."""
    r["open_j"] = 0.0
    r["kv_tokens"] = r["kv"]
    if r["state"] == FREE:
        return
    if r["state"] == STARTING:
        r["transition_j"] += joules.rest(r, p, w, bins, now_s)
    elif r["mode"] == IDLE:
        r["idle_j"] += joules.rest(r, p, w, bins, now_s)
    elif r["mode"] == STEP:
        r["open_j"] = r["step_w"] * r["tp"] * (now_s - r["origin_s"])
    else:
        over = leaps.done(r, now_s)
        joules.leap(r, p, w, bins, over)
        r["open_j"] = joules.leap_w(r, p, float(over)) * (now_s - joules.leap_end_s(r, float(over)))
        r["kv_tokens"] = r["kv"] + over * r["decoding"]


def _total(w: np.void, rows: Records, profiles: tuple[Profile, ...]) -> None:
    """Sum over the replicas, in order of slot."""
    running, waiting, usage = 0, w["held"], 0.0
    serving_j = idle_j = transition_j = 0.0
    for slot in range(len(rows)):
        r = rows[slot]
        serving_j += r["serving_j"] + r["open_j"]
        idle_j += r["idle_j"]
        transition_j += r["transition_j"]
        if r["state"] != FREE:
            running += r["running"]
            waiting += r["waiting"]
            usage = max(usage, r["kv_tokens"] / profiles[r["profile"]].kv_tokens)
    w["running"] = running
    w["waiting"] = waiting
    w["kv_usage"] = usage
    w["serving_j"] = serving_j
    w["idle_j"] = idle_j
    w["transition_j"] = transition_j


# --- replicas come and go ----------------------------------------------------------------------------


def create(
    w: np.void,
    pools: Records,
    members: Ints,
    r: np.void,
    p: Profile,
    profile: int,
    pool: int,
    weight: float,
    ready_s: float,
) -> None:
    """Make a replica in a free slot."""
    now_s = w["now_s"]
    r["state"] = READY if ready_s <= now_s else STARTING
    r["profile"] = profile
    r["pool"] = pool
    r["weight"] = weight
    r["tp"] = p.tp
    r["minding"] = w["minding"]
    r["hands_to"] = pools[pool]["hands_to"]
    r["created_s"] = r["booked_s"] = now_s
    r["ready_s"] = max(ready_s, now_s)
    r["mode"] = IDLE
    r["next_s"] = r["pending_s"] = math.inf
    r["cap_ratio"] = r["asked_ratio"] = 1.0
    r["limit_w"] = r["asked_limit_w"] = math.inf
    r["newest"] = r["prefilling"] = r["head"] = r["tail"] = NOBODY
    r["prefilled_tokens"] = r["pending"] = r["steps"] = r["longest"] = r["kv"] = r["kv_tokens"] = 0
    if r["state"] == STARTING or w["held"] > 0:
        w["next_ready_s"] = min(w["next_ready_s"], r["ready_s"])
    at = pools[pool]["members"]
    while at > 0 and members[pool, at - 1] > r["slot"]:
        members[pool, at] = members[pool, at - 1]
        at -= 1
    members[pool, at] = r["slot"]
    pools[pool]["members"] += 1


def drain(
    w: np.void, pools: Records, members: Ints, rows: Records, p: Profile, bins: Floats, gone: Ints, slot: int
) -> None:
    """Give a replica nothing more; an empty one is gone at once."""
    r = rows[slot]
    if r["state"] == STARTING:
        r["transition_j"] += joules.rest(r, p, w, bins, w["now_s"])
        _leave(r)
    elif r["running"] + r["waiting"] == 0:
        r["idle_j"] += joules.rest(r, p, w, bins, w["now_s"])
        _leave(r)
    else:
        r["state"] = DRAINING
    _let_go(w, pools, members, rows, gone, r["pool"])


def lose(w: np.void, pools: Records, members: Ints, rows: Records, bins: Floats, gone: Ints, slot: int) -> None:
    """Let a replica be gone at once, as of the last `advance`, with every request in it: none of them ever ends."""
    r = rows[slot]
    if r["open_j"] > 0:
        leaping = r["mode"] == LEAP
        start_s = joules.leap_end_s(r, float(r["booked_steps"])) if leaping else float(r["origin_s"])
        joules.spread(bins, float(w["bin_s"]), start_s, w["now_s"], r["open_j"] / (w["now_s"] - start_s), 0.0)
        r["serving_j"] += r["open_j"]
        r["open_j"] = 0.0
    w["refused"] += r["running"] + r["waiting"]
    r["running"] = r["waiting"] = r["decoding"] = 0
    _leave(r)
    _let_go(w, pools, members, rows, gone, r["pool"])


def _leave(r: np.void) -> None:
    r["state"] = FREE
    r["next_s"] = math.inf
    r["kv_tokens"] = 0


def _let_go(w: np.void, pools: Records, members: Ints, rows: Records, gone: Ints, pool: int) -> None:
    """Take replicas that have left out of their pool, and note their slots."""
    kept = 0
    for at in range(pools[pool]["members"]):
        slot = members[pool, at]
        if rows[slot]["state"] == FREE:
            gone[w["gone"]] = slot
            w["gone"] += 1
        else:
            members[pool, kept] = slot
            kept += 1
    pools[pool]["members"] = kept


def cap(r: np.void, d: np.void, cap_ratio: float, limit_w: float, now_s: float, effective_s: float) -> bool:
    """Ask for a clock cap and a board limit from a time on; False: too many are pending."""
    if r["asked_ratio"] == cap_ratio and r["asked_limit_w"] == limit_w:
        return True
    steps.drop_caps(r, d, max(steps.effective(r, d, now_s) - 1, 0))  # no step began under those before
    at = r["pending"]
    if at > 0 and d["effective_s"][at - 1] == effective_s:
        at -= 1
    if at == PENDING_CAPS:
        return False
    d["effective_s"][at] = effective_s
    d["ratio"][at] = cap_ratio
    d["watts"][at] = limit_w
    r["asked_ratio"] = cap_ratio
    r["asked_limit_w"] = limit_w
    r["pending"] = at + 1
    r["pending_s"] = d["effective_s"][0]
    if r["mode"] == LEAP and r["state"] != STARTING:
        leaps.cut(r, effective_s, now_s)
    return True
