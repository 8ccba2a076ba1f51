"""The events of a world: steps begin and end, requests arrive and are routed, replicas become ready and go.

Compiled by `kernel.build`, and run as it stands where nothing is compiled. The rules are those of
docs/designs/20261121-physics-and-replay.md, "The engine, defined once"; `replay.world` walks the same rules
step by step.
Disaggregated pools will be one event more: a finished prompt that is handed to another replica.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from capstan.model import latency, power
from capstan.replay.kernel import leap, sequences

if TYPE_CHECKING:
    from capstan.replay.kernel.types import (
        Floats,
        Ints,
        Physics,
        Physicses,
        Replica,
        Replicas,
        Request,
        Requests,
        Shared,
    )

NOBODY = -1
FREE, STARTING, READY, DRAINING, GONE = range(5)
IDLE, LEAP, MIX = range(3)
CLOCK_SWITCH_S = 0.050  # DESIGN 7.1, "clock switch 50 ms"
ID_BITS = 31


# --- energy ----------------------------------------------------------------------------------------


def spread(bins_j: Floats, bin_s: float, start_s: float, end_s: float, watts: float) -> None:
    """Add constant watts over a time to the bins that it falls into."""
    i = int(start_s / bin_s)
    while start_s < end_s and i < len(bins_j):
        edge_s = min((i + 1) * bin_s, end_s)
        if edge_s > start_s:
            bins_j[i] += watts * (edge_s - start_s)
            start_s = edge_s
        i += 1


def book(rep: Replica, p: Physics, bins_j: Floats, bin_s: float, t_s: float) -> None:
    """Count a replica's joules up to `t_s`, which lies inside its stretch or at its end."""
    if t_s <= rep.booked_s:
        return
    if rep.mode == LEAP:
        _book_leap(rep, p, bins_j, bin_s, t_s)
    elif rep.mode == MIX:
        watts = rep.step_w * p.tp
        rep.serving_j += watts * (t_s - rep.booked_s)
        spread(bins_j, bin_s, rep.booked_s, t_s, watts)
    else:
        watts = power.idle_w(p) * p.tp
        spread(bins_j, bin_s, rep.booked_s, t_s, watts)
        starting_s = min(max(rep.ready_s, rep.booked_s), t_s) - rep.booked_s
        rep.transition_j += watts * starting_s
        rep.idle_j += watts * (t_s - rep.booked_s - starting_s)
    rep.booked_s = t_s


def _book_leap(rep: Replica, p: Physics, bins_j: Floats, bin_s: float, t_s: float) -> None:
    """Count a leap bin by bin; joules are taken from its start each time, so that no rounding gathers."""
    i = int(rep.booked_s / bin_s)
    before_j = rep.booked_j
    while rep.booked_s < t_s:
        edge_s = t_s if i >= len(bins_j) else min((i + 1) * bin_s, t_s)
        if edge_s > rep.booked_s:
            until_j = leap.joules_by(rep, edge_s) * p.tp
            if i < len(bins_j):
                bins_j[i] += until_j - rep.booked_j
            rep.booked_j = until_j
            rep.booked_s = edge_s
        i += 1
    rep.serving_j += rep.booked_j - before_j


# --- steps begin -----------------------------------------------------------------------------------


def begin(rep: Replica, p: Physics, reqs: Requests, shared: Shared, now_s: float) -> None:
    """Start the next stretch: idle, a step with prompt tokens, or a leap of decode steps."""
    _apply_caps(rep, now_s)
    lost = sequences.make_room(rep, p, reqs, now_s)
    shared.preemptions += lost
    rep.chunk_head = NOBODY
    rep.chunk_tail = NOBODY
    tokens, pairs, prior = _chunks(rep, p, reqs, now_s, lost > 0)
    rep.start_s = now_s
    rep.booked_j = 0.0
    if tokens > 0:
        _begin_mix(rep, p, tokens, pairs, prior)
    elif rep.batch > 0:
        _begin_leap(rep, p, reqs, lost > 0)
    else:
        rep.mode = IDLE
        rep.next_s = math.inf
        if rep.queue_head != NOBODY:
            rep.next_s = max(reqs[rep.queue_head].last_s, now_s)


def _apply_caps(rep: Replica, now_s: float) -> None:
    """Bring caps into force that were asked for 50 ms ago or earlier."""
    done = 0
    while done < rep.pending and rep.pending_s[done] <= now_s:
        rep.cap_ratio = rep.pending_ratio[done]
        rep.limit_w = rep.pending_w[done]
        done += 1
    if done == 0:
        return
    rep.pending -= done
    for i in range(rep.pending):
        rep.pending_s[i] = rep.pending_s[i + done]
        rep.pending_ratio[i] = rep.pending_ratio[i + done]
        rep.pending_w[i] = rep.pending_w[i + done]


def _chunks(rep: Replica, p: Physics, reqs: Requests, now_s: float, lost: bool) -> tuple[int, float, int]:
    """Share the step's token budget (rule 2): (new prompt tokens, sum of new x prior tokens, sum of priors).

    `prefilled` counts what the step will have done when it ends.
    """
    budget = p.chunk_tokens - rep.batch
    tokens = 0
    pairs = 0.0
    prior = 0
    held = rep.context
    if rep.partial != NOBODY:
        head = reqs[rep.partial]
        take = min(budget, head.prompt + head.made - head.prefilled)
        held += head.prefilled
        if take > 0:
            pairs += 1.0 * take * head.prefilled
            prior += head.prefilled
            head.prefilled += take
            tokens += take
            budget -= take
            held += take
            _join_chunk(rep, reqs, rep.partial)
    while budget > 0 and not lost and rep.queue_head != NOBODY and rep.running < p.max_num_seqs:
        req = reqs[rep.queue_head]
        take = min(budget, req.prompt + req.made)
        if req.last_s > now_s or held + take > p.kv_tokens:
            break
        r = sequences.dequeue(rep, reqs)
        rep.running += 1
        req.prefilled = take
        tokens += take
        budget -= take
        held += take
        _join_chunk(rep, reqs, r)
        if take < req.prompt + req.made:
            rep.partial = r
    rep.kv_tokens = held
    return tokens, pairs, prior


def _join_chunk(rep: Replica, reqs: Requests, r: int) -> None:
    reqs[r].next = NOBODY
    if rep.chunk_head == NOBODY:
        rep.chunk_head = r
    else:
        reqs[rep.chunk_tail].next = r
    rep.chunk_tail = r


def _begin_mix(rep: Replica, p: Physics, tokens: int, pairs: float, prior: int) -> None:
    mean = pairs / tokens
    x = power.limited_ratio(p, rep.batch, rep.context, tokens, mean, prior, rep.cap_ratio, rep.limit_w)
    duration_s = latency.mixed_step_s(p, rep.batch, rep.context, tokens, mean, x)
    rep.mode = MIX
    rep.x = x
    rep.step_s = duration_s
    rep.growth_s = 0.0
    rep.count = 1
    rep.step_w = power.step_w(p, rep.batch + tokens, rep.context + prior, duration_s, x)
    rep.next_s = rep.start_s + duration_s


def _begin_leap(rep: Replica, p: Physics, reqs: Requests, lost: bool) -> None:
    """Leap to the next finish; sooner where KV ends, a cap changes, or the queue's head can be taken in."""
    limited = rep.limit_w < p.draw.limit_w
    x = rep.cap_ratio
    if limited:
        x = power.limited_ratio(p, rep.batch, rep.context, 0.0, 0.0, 0, rep.cap_ratio, rep.limit_w)
    fixed_s, per_token_s = latency.decode_parts(p, rep.batch, x)
    rep.mode = LEAP
    rep.x = x
    rep.step_s = fixed_s + per_token_s * rep.context
    rep.growth_s = per_token_s * rep.batch
    count = (rep.heap[0] >> ID_BITS) - rep.steps
    spare = p.kv_tokens - rep.context
    if rep.partial != NOBODY:
        spare -= reqs[rep.partial].prefilled
    count = min(count, spare // rep.batch + 1)
    if limited or lost:
        count = 1
    rep.count = count
    rep.next_s = rep.start_s + leap.span_s(rep.step_s, rep.growth_s, count)
    if rep.pending > 0:
        leap.cut(rep, rep.pending_s[0])
    if rep.queue_head != NOBODY and rep.running < p.max_num_seqs and rep.batch < p.chunk_tokens:
        ready_s = reqs[rep.queue_head].last_s
        if ready_s > rep.start_s:
            leap.cut(rep, ready_s)
    leap.price(rep, p)


# --- steps end -------------------------------------------------------------------------------------


def finish(  # noqa: PLR0913 - tables, for the compiler
    rep: Replica, p: Physics, reqs: Requests, shared: Shared, log: Ints, bins_j: Floats, bin_s: float
) -> None:
    """End the stretch in progress at its own time: tokens appear, requests finish, prompts join the batch."""
    now_s = rep.next_s
    book(rep, p, bins_j, bin_s, now_s)
    if rep.mode == IDLE:
        return
    if rep.batch > 0:
        rep.steps += rep.count
        longest_s = rep.step_s + rep.growth_s * (rep.count - 1)
        sequences.note_gap(rep, reqs, rep.steps, longest_s)
        rep.context += rep.batch * rep.count
        shared.output_tokens += rep.batch * rep.count
    while rep.finishing > 0 and rep.heap[0] >> ID_BITS == rep.steps:
        r = rep.heap[0] & sequences.ID_MASK
        sequences.heap_pop(rep)
        req = reqs[r]
        longest_s = sequences.longest_gap_s(rep, req.join)
        if not req.max_tbt_s >= longest_s:
            req.max_tbt_s = longest_s
        rep.batch -= 1
        rep.context -= req.prompt + req.output
        _leave(rep, req, shared, log, r, now_s)
    r = rep.chunk_head
    while r != NOBODY:
        following = reqs[r].next
        if reqs[r].prefilled == reqs[r].prompt + reqs[r].made:
            _first_token(rep, reqs, shared, log, r, now_s)
        r = following


def _first_token(rep: Replica, reqs: Requests, shared: Shared, log: Ints, r: int, now_s: float) -> None:
    """Make the token that a finished prompt gives: the first one, or the next one of a request that lost its KV."""
    req = reqs[r]
    if rep.partial == r:
        rep.partial = NOBODY
    shared.prompt_tokens += req.prompt + req.made
    shared.output_tokens += 1
    if req.made == 0:
        req.first_s = now_s
    else:
        gap_s = now_s - req.last_s
        if not req.max_tbt_s >= gap_s:
            req.max_tbt_s = gap_s
    req.made += 1
    if req.made == req.output:
        _leave(rep, req, shared, log, r, now_s)
        return
    rep.admitted += 1
    req.next = rep.admitted
    req.join = rep.steps
    rep.batch += 1
    rep.context += req.prompt + req.made
    sequences.heap_push(rep, ((rep.steps + req.output - req.made) << ID_BITS) | r)


def _leave(rep: Replica, req: Request, shared: Shared, log: Ints, r: int, now_s: float) -> None:
    req.finish_s = now_s
    rep.running -= 1
    log[shared.finished] = r
    shared.finished += 1
    shared.unfinished -= 1


def catch_up(  # noqa: PLR0913 - tables, for the compiler
    rep: Replica, p: Physics, reqs: Requests, shared: Shared, log: Ints, bins_j: Floats, bin_s: float, t_s: float
) -> None:
    """Play one replica up to `t_s`: every stretch that ends by then."""
    if rep.state == STARTING and rep.ready_s <= t_s:
        rep.state = READY
    while rep.next_s <= t_s:
        now_s = rep.next_s
        finish(rep, p, reqs, shared, log, bins_j, bin_s)
        if rep.state == DRAINING and rep.running + rep.waiting == 0:
            rep.state = GONE
            rep.mode = IDLE
            rep.next_s = math.inf
            rep.kv_tokens = 0
            return
        begin(rep, p, reqs, shared, now_s)


# --- from outside ----------------------------------------------------------------------------------


def least_loaded(reps: Replicas, pool: int, t_s: float) -> int:
    """Return the ready replica with the fewest requests inside, the first on a tie (rule 7); NOBODY where none is."""
    best = NOBODY
    least = 0
    for i in range(len(reps)):
        rep = reps[i]
        if rep.state == READY and rep.pool == pool and rep.ready_s <= t_s:
            load = rep.running + rep.waiting
            if best == NOBODY or load < least:
                best = i
                least = load
    return best


def submit(rep: Replica, p: Physics, reqs: Requests, shared: Shared, r: int, t_s: float) -> None:
    """Give a request to a replica; one that can never fit is refused."""
    req = reqs[r]
    if req.prompt + req.output > p.kv_tokens:
        shared.refused += 1
        shared.unfinished -= 1
        return
    req.last_s = t_s + p.timing.queue_host_s
    alone = rep.queue_head == NOBODY
    sequences.enqueue(rep, reqs, r)
    if rep.mode == IDLE and alone:
        rep.next_s = req.last_s
    elif rep.mode == LEAP and alone and rep.running < p.max_num_seqs and rep.batch < p.chunk_tokens:
        leap.cut(rep, req.last_s)


def release(  # noqa: PLR0913 - tables, for the compiler
    reps: Replicas, ps: Physicses, reqs: Requests, shared: Shared, held: Ints, counts: Ints, pool: int, t_s: float
) -> None:
    """Route the requests that waited for a replica to become ready, at the moment when the first one did."""
    ready_s = math.inf
    for i in range(len(reps)):
        rep = reps[i]
        if rep.pool == pool and (rep.state == READY or rep.state == STARTING):
            ready_s = min(ready_s, rep.ready_s)
    if ready_s > t_s:
        return
    for i in range(len(reps)):
        if reps[i].state == STARTING and reps[i].ready_s <= ready_s:
            reps[i].state = READY
    r = held[pool]
    while r != NOBODY:
        following = reqs[r].next
        t_s = max(ready_s, reqs[r].arrival_s)
        rep = reps[least_loaded(reps, pool, t_s)]
        submit(rep, ps[rep.profile], reqs, shared, r, t_s)
        r = following
    held[pool] = NOBODY
    shared.unrouted -= counts[pool]
    counts[pool] = 0


def hold(reqs: Requests, shared: Shared, held: Ints, tails: Ints, counts: Ints, pool: int, r: int) -> None:
    """Keep a request that no replica is ready for, in order of arrival."""
    reqs[r].next = NOBODY
    if held[pool] == NOBODY:
        held[pool] = r
    else:
        reqs[tails[pool]].next = r
    tails[pool] = r
    counts[pool] += 1
    shared.unrouted += 1


def arrive(  # noqa: PLR0913 - tables, for the compiler
    reps: Replicas,
    ps: Physicses,
    reqs: Requests,
    shared: Shared,
    log: Ints,
    bins_j: Floats,
    bin_s: float,
    pool: int,
    t_s: float,
) -> int:
    """Play a pool up to an arrival and return the replica that is least loaded then, or NOBODY."""
    best = NOBODY
    least = 0
    for i in range(len(reps)):
        rep = reps[i]
        if rep.pool != pool or rep.state == FREE or rep.state == GONE:
            continue
        if rep.next_s <= t_s or rep.state == STARTING:
            catch_up(rep, ps[rep.profile], reqs, shared, log, bins_j, bin_s, t_s)
        if rep.state == READY:
            load = rep.running + rep.waiting
            if best == NOBODY or load < least:
                best = i
                least = load
    return best


def advance(  # noqa: PLR0913 - tables, for the compiler
    reps: Replicas,
    ps: Physicses,
    reqs: Requests,
    shared: Shared,
    log: Ints,
    bins_j: Floats,
    bin_s: float,
    pools: Ints,
    held: Ints,
    tails: Ints,
    counts: Ints,
    to_s: float,
) -> None:
    """Play everything that happens up to `to_s`."""
    several = len(pools) > 0
    while shared.next_arrival < len(reqs) and reqs[shared.next_arrival].arrival_s <= to_s:
        r = shared.next_arrival
        t_s = reqs[r].arrival_s
        pool = pools[r] if several else 0
        if counts[pool] > 0:
            release(reps, ps, reqs, shared, held, counts, pool, t_s)
        best = arrive(reps, ps, reqs, shared, log, bins_j, bin_s, pool, t_s)
        if best == NOBODY:
            hold(reqs, shared, held, tails, counts, pool, r)
        else:
            submit(reps[best], ps[reps[best].profile], reqs, shared, r, t_s)
        shared.next_arrival += 1
    for pool in range(len(held)):
        if counts[pool] > 0:
            release(reps, ps, reqs, shared, held, counts, pool, to_s)
    for i in range(len(reps)):
        settle(reps[i], ps, reqs, shared, log, bins_j, bin_s, to_s)


def settle(  # noqa: PLR0913 - tables, for the compiler
    rep: Replica, ps: Physicses, reqs: Requests, shared: Shared, log: Ints, bins_j: Floats, bin_s: float, to_s: float
) -> None:
    """Play one replica up to `to_s` and count its joules and KV so far."""
    if rep.state == FREE or rep.state == GONE:
        return
    p = ps[rep.profile]
    catch_up(rep, p, reqs, shared, log, bins_j, bin_s, to_s)
    if rep.state != GONE:
        book(rep, p, bins_j, bin_s, to_s)
        if rep.mode == LEAP:
            rep.kv_tokens = rep.context + rep.batch * leap.done_by(rep, to_s)
