"""A prompt computed on one replica and decoded on another (rule 10 of the design page); off unless asked for.

Who calls it: `kernel.steps` and `kernel.play`. Compiled. A request that brings its KV is one whose `joined` is NOBODY:
on its way, held or in a queue. On its way `prev` is the pool that it goes to; the list is in order of landing.
"""

from __future__ import annotations

import numpy as np

from capstan.model.profile import Profile
from capstan.replay.kernel import heap
from capstan.replay.kernel.layout import FIRST, GAP, NOBODY, Floats, Index, Records


def send(r: np.void, p: Profile, w: np.void, q: Records, request: Index, now_s: float) -> None:
    """Let the KV of a request whose prompt has ended go to the pool that its replica hands over to."""
    s = q[request]
    share_bytes = s["prompt"] * p.work.kv_bytes_per_token  # each GPU sends its own share over its own link
    lands_s = now_s + (w["link_setup_s"] + share_bytes / w["link_bytes_per_s"])
    s["joined"] = NOBODY
    s["prev"] = r["hands_to"]
    s["ready_s"] = lands_s
    before, behind = np.int64(NOBODY), np.int64(w["landing"])
    while behind != NOBODY and (q[behind]["ready_s"], behind) < (lands_s, request):
        before, behind = behind, np.int64(q[behind]["next"])
    s["next"] = behind
    if before == NOBODY:
        w["landing"] = request
    else:
        q[before]["next"] = request
    w["moving"] += 1
    w["handed"] += 1


def land(w: np.void, q: Records) -> int:
    """Take the next request whose KV lands off the list."""
    request = np.int64(w["landing"])
    w["landing"] = q[request]["next"]
    w["moving"] -= 1
    return int(request)


def admit(r: np.void, d: np.void, q: Records) -> None:
    """Let the queue's head decode with the KV that it brings, before those whose prompts are still computed."""
    request = np.int64(r["head"])
    s = q[request]
    r["head"] = s["next"]
    r["waiting"] -= 1
    behind = np.int64(r["prefilling"])
    before = np.int64(NOBODY)
    if behind != NOBODY:
        before = np.int64(q[behind]["prev"])
        q[behind]["prev"] = request
    else:
        before = np.int64(r["newest"] if r["running"] > 0 else NOBODY)
        r["newest"] = request
    if before != NOBODY:
        q[before]["next"] = request
    s["prev"] = before
    s["next"] = behind
    r["running"] += 1
    r["landed"] += 1
    r["kv"] += s["prompt"] + s["made"] - 1
    s["joined"] = r["steps"]
    heap.push(r, d, heap.key(r["steps"] + s["output"] - s["made"], int(request)))


def first_gaps(r: np.void, q: Records, out: Floats, end_s: float) -> None:
    """Note the gap from the first token, made elsewhere, to the next, which the step that has begun makes."""
    behind = r["prefilling"]
    request = np.int64(r["newest"] if behind == NOBODY else q[behind]["prev"])
    for _ in range(r["landed"]):
        out[GAP, request] = end_s - out[FIRST, request]
        request = np.int64(q[request]["prev"])
