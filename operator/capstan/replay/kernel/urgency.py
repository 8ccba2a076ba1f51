"""Queues in an emergency: least laxity first, and giving up (rule 9 of the design page); off unless asked for.

Who calls it: `kernel.steps`, only where a replica minds something. Compiled. `replay.waiting` says the same plainly.
The queue stays a linked list in order of arrival; whose turn it is is moved to its head.
"""

from __future__ import annotations

import math

import numpy as np

from capstan.model import latency
from capstan.model.profile import Profile
from capstan.replay.kernel.layout import DEADLINE, NOBODY, PATIENCE, Floats, Records


def give_up(r: np.void, w: np.void, q: Records, out: Floats, now_s: float) -> None:
    """Refuse who is ready, has no token and whose patience is over."""
    before, request = np.int64(NOBODY), np.int64(r["head"] if r["waiting"] > 0 else NOBODY)
    while request != NOBODY and q[request]["ready_s"] <= now_s:
        behind = np.int64(q[request]["next"])
        if q[request]["made"] == 0 and now_s > out[PATIENCE, request]:
            _unlink(r, q, request, before)
            r["waiting"] -= 1
            w["squashed"] += 1
        else:
            before = request
        request = behind


def lead(r: np.void, p: Profile, q: Records, out: Floats, now_s: float) -> None:
    """Move to the head whose turn it is: who has tokens already, else who has least to spare and can be in time.

    Who can no longer be in time comes after those, by order of arrival.
    """
    best, before_best = np.int64(NOBODY), np.int64(NOBODY)
    least_s, lowest = math.inf, np.int64(NOBODY)
    before, request = np.int64(NOBODY), np.int64(r["head"])
    while request != NOBODY and q[request]["ready_s"] <= now_s:
        if q[request]["made"] > 0:
            best, before_best = request, before
            break
        laxity_s = out[DEADLINE, request] - now_s - latency.prefill_step_s(p, float(q[request]["prompt"]), 1.0)
        if laxity_s < 0:
            laxity_s = math.inf
        if best == NOBODY or laxity_s < least_s or (laxity_s == least_s and request < lowest):
            best, before_best, least_s, lowest = request, before, laxity_s, request
        before = request
        request = np.int64(q[request]["next"])
    if before_best != NOBODY:
        _unlink(r, q, best, before_best)
        q[best]["next"] = r["head"]
        r["head"] = best


def _unlink(r: np.void, q: Records, request: np.int64, before: np.int64) -> None:
    """Take a request out of the queue, behind another one (NOBODY: it is the head)."""
    if before == NOBODY:
        r["head"] = q[request]["next"]
    else:
        q[before]["next"] = q[request]["next"]
    if r["tail"] == request:
        r["tail"] = before
