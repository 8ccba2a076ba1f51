"""One replica's engine: what a step works on, how it begins and ends (rules 1 to 6 of the design page).

Who calls it: `kernel.play`. Compiled. `replay.world.Engine` says the same step by step. Running requests are a linked
list in order of admission. A prompt takes all the budget that is left, so at a boundary only one can be part-way, and
nobody behind it runs; everybody before it decodes. `np.int64` around a literal or a 32-bit field keeps the compiler
from making a second version of what is called.
"""

from __future__ import annotations

import math

import numpy as np

from capstan.model import latency, power
from capstan.model.profile import Profile
from capstan.replay.kernel import handover, heap, joules, leaps, urgency
from capstan.replay.kernel.layout import (
    FINISH,
    FIRST,
    GAP,
    ID_BITS,
    ID_MASK,
    IDLE,
    MIND_LAXITY,
    MIND_PATIENCE,
    NOBODY,
    STEP,
    Floats,
    Index,
    Ints,
    Records,
)  # fmt: skip


def enqueue(r: np.void, p: Profile, q: Records, request: Index, now_s: float) -> None:
    """Queue a request that arrives now; what the replica is doing goes on until it can be scheduled."""
    q[request]["ready_s"] = now_s
    if q[request]["joined"] != NOBODY:  # who brings its KV was tokenised before
        q[request]["ready_s"] = now_s + p.timing.queue_host_s
    q[request]["next"] = NOBODY
    if r["waiting"] > 0:
        q[r["tail"]]["next"] = request
    else:
        r["head"] = request
    r["tail"] = request
    r["waiting"] += 1
    if r["waiting"] == 1:
        _await_head(r, p, q, now_s)


def _await_head(r: np.void, p: Profile, q: Records, now_s: float) -> None:
    """Let an idle stretch or a leap end when the queue's head can be scheduled."""
    if r["mode"] == STEP or r["waiting"] == 0:
        return
    ready_s = q[r["head"]]["ready_s"]
    if r["mode"] == IDLE:
        r["next_s"] = max(ready_s, now_s)
    elif not leaps.blocked(r, p, q):
        leaps.cut(r, ready_s, now_s)


def end(r: np.void, d: np.void, p: Profile, w: np.void, q: Records, out: Floats, log: Ints, bins: Floats) -> None:
    """End the mode in progress at its time: book its joules and its tokens."""
    now_s = r["next_s"]
    if r["mode"] == IDLE:
        r["idle_j"] += joules.rest(r, p, w, bins, now_s)
        return
    if r["mode"] == STEP:
        joules.step(r, w, bins)
        w["generation_tokens"] += r["decoding"]
        r["steps"] += 1
        r["kv"] += r["decoding"] + r["chunk_tokens"]
        heap.note(r, d, q, r["steps"], r["step_s"])
    else:
        joules.leap(r, p, w, bins, r["leap_steps"])
        leaps.close(r, d, q)
    while r["decoding"] > 0 and d["heap"][0] >> ID_BITS == r["steps"]:
        _finish_decoding(r, d, w, q, out, log, now_s)
    if r["mode"] == STEP:
        for _ in range(r["completing"]):
            _complete_prompt(r, d, p, w, q, out, log, now_s)
        r["prefilled_tokens"] = r["left_tokens"]


def _finish_decoding(r: np.void, d: np.void, w: np.void, q: Records, out: Floats, log: Ints, now_s: float) -> None:
    request = heap.take(r, d, np.int64(0)) & ID_MASK
    _longer(out, request, heap.longest_s(r, d, np.int64(q[request]["joined"])))
    r["kv"] -= q[request]["prompt"] + q[request]["output"] - 1
    _finish(r, w, q, out, log, request, now_s)


def _complete_prompt(
    r: np.void, d: np.void, p: Profile, w: np.void, q: Records, out: Floats, log: Ints, now_s: float
) -> None:
    """Make the token that ends a prompt: the first, or after a preemption the next."""
    request = r["prefilling"]
    s = q[request]
    r["prefilling"] = s["next"]
    s["made"] += 1
    made = s["made"]
    w["generation_tokens"] += 1
    if made == 1:
        out[FIRST, request] = now_s
        w["prompt_tokens"] += s["prompt"]
    else:
        _longer(out, request, now_s - s["ready_s"])
    if made == s["output"]:
        r["kv"] -= s["prompt"] + made - 1
        _finish(r, w, q, out, log, request, now_s)
    elif made == 1 and r["hands_to"] != NOBODY:
        r["kv"] -= s["prompt"]
        _unlink(r, q, request)
        handover.send(r, p, w, q, request, now_s)
    else:
        s["joined"] = r["steps"]
        heap.push(r, d, heap.key(r["steps"] + s["output"] - made, request))


def _longer(out: Floats, request: int, gap_s: float) -> None:
    if not out[GAP, request] >= gap_s:  # NaN: the first gap
        out[GAP, request] = gap_s


def _finish(r: np.void, w: np.void, q: Records, out: Floats, log: Ints, request: int, now_s: float) -> None:
    _unlink(r, q, request)
    out[FINISH, request] = now_s
    log[w["finished"]] = request
    w["finished"] += 1


def _unlink(r: np.void, q: Records, request: int) -> None:
    """Take a request out of the running ones."""
    before, behind = q[request]["prev"], q[request]["next"]
    if before != NOBODY:
        q[before]["next"] = behind
    if behind != NOBODY:
        q[behind]["prev"] = before
    else:
        r["newest"] = before
    r["running"] -= 1


# --- the next step -----------------------------------------------------------------------------------


def begin(r: np.void, d: np.void, p: Profile, w: np.void, q: Records, out: Floats) -> None:
    """Begin the next step, leap or idle stretch at the end of the last."""
    now_s = r["next_s"]
    _take_caps(r, d, now_s)
    if r["minding"] & MIND_PATIENCE and r["waiting"] > 0:
        urgency.give_up(r, w, q, out, now_s)
    preempted = _make_room(r, d, p, w, q, out, now_s)
    _fill(r, d, p, q, out, now_s, preempted)
    if r["running"] == 0:
        r["mode"] = IDLE
        r["booked_s"] = now_s
        r["next_s"] = math.inf
        _await_head(r, p, q, now_s)
        return
    if r["kv"] + r["decoding"] + r["chunk_tokens"] > p.kv_tokens:
        w["kv_overruns"] += 1
    if r["chunk_tokens"] > 0 or r["limit_w"] < p.draw.limit_w:
        if r["landed"] > 0:
            handover.first_gaps(r, q, out, r["next_s"])
        return
    r["x"] = r["cap_ratio"]
    leaps.begin(r, d, p, now_s)
    if r["landed"] > 0:
        handover.first_gaps(r, q, out, joules.leap_end_s(r, 1.0))
    if preempted or (r["minding"] != 0 and r["waiting"] > 0 and q[r["head"]]["ready_s"] <= now_s):
        leaps.shorten(r, np.int64(1))  # this step admitted nobody, or not him; the next may
    if r["pending"] > 0:
        leaps.cut(r, r["pending_s"], now_s)
    if r["waiting"] > 0 and q[r["head"]]["ready_s"] > now_s:
        _await_head(r, p, q, now_s)


def _take_caps(r: np.void, d: np.void, now_s: float) -> None:
    """Bring into force what was asked for long enough ago."""
    if r["pending_s"] > now_s:
        return
    taken = effective(r, d, now_s)
    r["cap_ratio"] = d["ratio"][taken - 1]
    r["limit_w"] = d["watts"][taken - 1]
    drop_caps(r, d, taken)


def effective(r: np.void, d: np.void, now_s: float) -> int:
    """Return how many pending caps hold for a step that begins now; the last of them is in force."""
    count = 0
    while count < r["pending"] and d["effective_s"][count] <= now_s:
        count += 1
    return count


def drop_caps(r: np.void, d: np.void, count: int) -> None:
    """Forget the first pending caps."""
    left = r["pending"] - count
    for at in range(left):
        d["effective_s"][at] = d["effective_s"][at + count]
        d["ratio"][at] = d["ratio"][at + count]
        d["watts"][at] = d["watts"][at + count]
    r["pending"] = left
    r["pending_s"] = d["effective_s"][0] if left > 0 else math.inf


def _make_room(r: np.void, d: np.void, p: Profile, w: np.void, q: Records, out: Floats, now_s: float) -> bool:
    """Preempt from the newest on until the KV cache holds what the running ones take; return whether any was."""
    before = w["preemptions"]
    while r["kv"] + r["decoding"] > p.kv_tokens:
        _preempt(r, d, w, q, out, now_s)
    if r["prefilling"] != NOBODY:
        s = q[r["prefilling"]]
        take = min(p.chunk_tokens - r["decoding"], s["prompt"] + s["made"] - r["prefilled_tokens"])
        if r["kv"] + r["decoding"] + take > p.kv_tokens:
            _preempt(r, d, w, q, out, now_s)
    return bool(w["preemptions"] > before)


def _preempt(r: np.void, d: np.void, w: np.void, q: Records, out: Floats, now_s: float) -> None:
    """Send the request that was admitted last back to the head of the queue, without its KV."""
    request = r["newest"]
    s = q[request]
    if r["prefilling"] == request:
        r["kv"] -= r["prefilled_tokens"]
        r["prefilling"] = NOBODY
        r["prefilled_tokens"] = 0
    else:
        finish_step = heap.take(r, d, heap.place(r, d, request)) >> ID_BITS
        s["made"] = s["output"] - (finish_step - r["steps"])
        r["kv"] -= s["prompt"] + s["made"] - 1
        if r["steps"] > s["joined"]:
            _longer(out, request, heap.longest_s(r, d, np.int64(s["joined"])))
        s["ready_s"] = now_s
    _unlink(r, q, request)
    s["next"] = r["head"] if r["waiting"] > 0 else NOBODY
    if r["waiting"] == 0:
        r["tail"] = request
    r["head"] = request
    r["waiting"] += 1
    w["preemptions"] += 1


def _fill(r: np.void, d: np.void, p: Profile, q: Records, out: Floats, now_s: float, preempted: bool) -> None:
    """Share what the decoding ones leave of the budget: the prompt under way, then the queue while it fits."""
    budget = p.chunk_tokens - r["decoding"]
    r["chunk_tokens"] = r["completing"] = r["left_tokens"] = r["landed"] = 0
    pairs = 0
    prior_context_tokens = r["prefilled_tokens"]
    if r["prefilling"] != NOBODY:
        s = q[r["prefilling"]]
        take = min(budget, s["prompt"] + s["made"] - prior_context_tokens)
        pairs = take * prior_context_tokens
        _add_chunk(r, take, prior_context_tokens + take, s["prompt"] + s["made"])
    while not preempted and r["waiting"] > 0 and r["running"] < p.max_num_seqs:
        if r["minding"] & MIND_LAXITY:
            urgency.lead(r, p, q, out, now_s)
        s = q[r["head"]]
        left = budget - r["chunk_tokens"] - r["landed"]
        brings = s["joined"] == NOBODY
        take = s["prompt"] + s["made"] if brings else min(left, s["prompt"] + s["made"])
        if left <= 0 or s["ready_s"] > now_s or r["kv"] + r["decoding"] + r["chunk_tokens"] + take > p.kv_tokens:
            break
        if brings:
            handover.admit(r, d, q)
        else:
            _admit(r, q)
            _add_chunk(r, take, take, s["prompt"] + s["made"])
    if r["running"] > 0 and (r["chunk_tokens"] > 0 or r["limit_w"] < p.draw.limit_w):
        _begin_step(r, p, now_s, float(pairs), float(prior_context_tokens))


def _add_chunk(r: np.void, take: int, computed_tokens: int, goal_tokens: int) -> None:
    r["chunk_tokens"] += take
    if computed_tokens == goal_tokens:
        r["completing"] += 1
    else:
        r["left_tokens"] = computed_tokens


def _admit(r: np.void, q: Records) -> None:
    """Move the queue's head to the end of the running ones."""
    request = r["head"]
    r["head"] = q[request]["next"]
    r["waiting"] -= 1
    newest = r["newest"] if r["running"] > 0 else NOBODY
    q[request]["prev"] = newest
    q[request]["next"] = NOBODY
    if newest != NOBODY:
        q[newest]["next"] = request
    if r["prefilling"] == NOBODY:
        r["prefilling"] = request
    r["newest"] = request
    r["running"] += 1


def _begin_step(r: np.void, p: Profile, now_s: float, pairs: float, prior_context_tokens: float) -> None:
    """Begin a single step, at the clock that cap and limit leave."""
    batch = float(r["decoding"])
    context_tokens = float(r["kv"] - r["prefilled_tokens"]) + batch
    chunk_tokens = float(r["chunk_tokens"])
    prior_tokens = pairs / chunk_tokens if chunk_tokens > 0 else 0.0
    x = power.limited_ratio(
        p, batch, context_tokens, chunk_tokens, prior_tokens, prior_context_tokens, r["cap_ratio"], r["limit_w"]
    )
    r["mode"] = STEP
    r["x"] = x
    r["origin_s"] = now_s
    step_s = latency.mixed_step_s(p, batch, context_tokens, chunk_tokens, prior_tokens, x)
    r["step_s"] = step_s
    r["step_w"] = power.step_w(p, batch + chunk_tokens, context_tokens + prior_context_tokens, step_s, x)
    r["next_s"] = now_s + step_s
