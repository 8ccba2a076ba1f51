"""Leaps: many decode steps of an unchanging batch as one event, in closed form.

Who calls it: `kernel.steps` and `kernel.play`. Compiled. At a fixed batch a step is affine in the context, so the
k-th of a leap lasts `first_step_s + growth_s k` and the boundaries are a quadratic in k. A leap keeps its origin:
every boundary is the origin plus the closed form, never a sum of pieces, so ticks do not change a bit of it.
"""

from __future__ import annotations

import math

import numpy as np

from capstan.model import latency
from capstan.model.profile import Profile
from capstan.replay.kernel import heap, joules
from capstan.replay.kernel.layout import ID_BITS, LEAP, NOBODY, Index, Records


def begin(r: np.void, d: np.void, p: Profile, now_s: float) -> None:
    """Leap from a step boundary to the first finish, or to the last step whose tokens the KV cache holds."""
    batch = r["decoding"]
    fixed_s, per_context_token_s = latency.decode_parts(p, float(batch), r["x"])
    r["mode"] = LEAP
    r["origin_s"] = now_s
    r["first_step_s"] = fixed_s + per_context_token_s * (r["kv"] + batch)
    r["growth_s"] = per_context_token_s * batch
    r["booked_steps"] = 0
    finishing = (d["heap"][0] >> ID_BITS) - r["steps"]
    shorten(r, min(finishing, (p.kv_tokens - r["kv"]) // batch))


def shorten(r: np.void, steps: Index) -> None:
    """End the leap in progress after so many steps."""
    r["leap_steps"] = steps
    r["next_s"] = joules.leap_end_s(r, float(steps))


def done(r: np.void, now_s: float) -> int:
    """Return how many steps of the leap in progress are over at `now_s`."""
    since_s = now_s - r["origin_s"]
    if since_s <= 0:
        return 0
    linear_s = r["first_step_s"] - r["growth_s"] / 2
    root = math.sqrt(linear_s * linear_s + 2 * r["growth_s"] * since_s)  # this form of the root cancels nothing
    steps = int(2 * since_s / (linear_s + root))
    while joules.leap_end_s(r, float(steps)) > now_s:  # the forward formula has the last word
        steps -= 1
    while joules.leap_end_s(r, float(steps + 1)) <= now_s:
        steps += 1
    return steps


def cut(r: np.void, at_s: float, now_s: float) -> None:
    """End the leap in progress at its first boundary that is not before `at_s` and after `now_s`."""
    if r["next_s"] <= at_s:
        return
    steps = done(r, at_s)
    end_s = joules.leap_end_s(r, float(steps))
    if end_s < at_s or end_s <= now_s:
        steps += 1
    if steps < r["leap_steps"]:
        shorten(r, steps)


def close(r: np.void, d: np.void, q: Records) -> None:
    """Take the leap's steps into the engine's counts; its joules are booked."""
    steps = r["leap_steps"]
    r["steps"] += steps
    r["kv"] += steps * r["decoding"]
    heap.note(r, d, q, r["steps"], r["first_step_s"] + r["growth_s"] * (steps - 1))


def blocked(r: np.void, p: Profile, q: Records) -> bool:
    """Return whether the queue's head cannot be admitted before something finishes, whatever the time."""
    if r["minding"] != 0:
        return False  # time alone changes whose turn it is
    head = r["head"]
    budget = p.chunk_tokens - r["decoding"]
    if head == NOBODY or budget <= 0 or r["running"] >= p.max_num_seqs:
        return True
    needed = q[head]["prompt"] + q[head]["made"]
    if q[head]["joined"] != NOBODY:  # it brings no KV: a first chunk is enough
        needed = min(budget, needed)
    return bool(r["kv"] + r["decoding"] + needed > p.kv_tokens)
