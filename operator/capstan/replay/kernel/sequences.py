"""What happens to requests inside one replica: the queue, the finish heap, the longest gaps, preemption.

Compiled by `kernel.build`, and run as it stands where nothing is compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capstan.replay.kernel.types import Physics, Replica, Requests


NOBODY = -1
ID_BITS = 31  # a heap key is finish step << 31 | request: order and tie-break in one number
ID_MASK = (1 << ID_BITS) - 1


def enqueue(rep: Replica, reqs: Requests, r: int) -> None:
    """Append a request to the queue."""
    reqs[r].next = NOBODY
    if rep.queue_head == NOBODY:
        rep.queue_head = r
    else:
        reqs[rep.queue_tail].next = r
    rep.queue_tail = r
    rep.waiting += 1


def push_front(rep: Replica, reqs: Requests, r: int) -> None:
    """Put a request that lost its KV at the head of the queue."""
    reqs[r].next = rep.queue_head
    if rep.queue_head == NOBODY:
        rep.queue_tail = r
    rep.queue_head = r
    rep.waiting += 1


def dequeue(rep: Replica, reqs: Requests) -> int:
    """Take the head of the queue."""
    r = rep.queue_head
    rep.queue_head = reqs[r].next
    if rep.queue_head == NOBODY:
        rep.queue_tail = NOBODY
    rep.waiting -= 1
    return r


# --- the heap of finish steps ----------------------------------------------------------------------


def heap_push(rep: Replica, key: int) -> None:
    """Add a key."""
    heap = rep.heap
    i = rep.finishing
    rep.finishing += 1
    while i > 0:
        above = (i - 1) >> 1
        if heap[above] <= key:
            break
        heap[i] = heap[above]
        i = above
    heap[i] = key


def heap_pop(rep: Replica) -> None:
    """Remove the smallest key."""
    rep.finishing -= 1
    if rep.finishing > 0:
        _sift(rep, 0, rep.heap[rep.finishing])


def _sift(rep: Replica, i: int, key: int) -> None:
    heap, size = rep.heap, rep.finishing
    while True:
        below = 2 * i + 1
        if below >= size:
            break
        if below + 1 < size and heap[below + 1] < heap[below]:
            below += 1
        if heap[below] >= key:
            break
        heap[i] = heap[below]
        i = below
    heap[i] = key


def heap_remove(rep: Replica, at: int) -> None:
    """Remove the key at a place: rebuild, which preemption is rare enough to afford."""
    rep.finishing -= 1
    last = rep.heap[rep.finishing]
    if at == rep.finishing:
        return
    rep.heap[at] = last
    for i in range(rep.finishing // 2 - 1, -1, -1):
        _sift(rep, i, rep.heap[i])


# --- the longest gap between tokens ----------------------------------------------------------------


def note_gap(rep: Replica, reqs: Requests, step: int, duration_s: float) -> None:
    """Remember that `step` lasted this long: a stack of falling durations, the newest on top."""
    n = rep.gaps
    while n > 0 and rep.gap_s[n - 1] <= duration_s:
        n -= 1
    if n == len(rep.gap_step):
        n = _compact(rep, reqs, n)
    rep.gap_step[n] = step
    rep.gap_s[n] = duration_s
    rep.gaps = n + 1


def _compact(rep: Replica, reqs: Requests, n: int) -> int:
    """Drop what no running request was there for; where all of it is needed, the shortest of the newest two."""
    oldest = rep.steps
    for i in range(rep.finishing):
        oldest = min(oldest, reqs[rep.heap[i] & ID_MASK].join)
    keep = 0
    while keep < n and rep.gap_step[keep] <= oldest:
        keep += 1
    if keep == 0:
        return n - 1
    for i in range(keep, n):
        rep.gap_step[i - keep] = rep.gap_step[i]
        rep.gap_s[i - keep] = rep.gap_s[i]
    return n - keep


def longest_gap_s(rep: Replica, after_step: int) -> float:
    """Return the longest step after `after_step`; 0 where there is none."""
    low, high = 0, rep.gaps
    while low < high:
        middle = (low + high) >> 1
        if rep.gap_step[middle] <= after_step:
            low = middle + 1
        else:
            high = middle
    return rep.gap_s[low] if low < rep.gaps else 0.0


# --- preemption ------------------------------------------------------------------------------------


def make_room(rep: Replica, p: Physics, reqs: Requests, now_s: float) -> int:
    """Take KV back until the next step fits, from the request admitted last; return how many lost theirs (rule 3)."""
    lost = 0
    while True:
        held = rep.context
        if rep.partial != NOBODY:
            head = reqs[rep.partial]
            held += head.prefilled + min(p.chunk_tokens - rep.batch, head.prompt + head.made - head.prefilled)
        if held <= p.kv_tokens or rep.running == 0:
            return lost
        if rep.partial != NOBODY:
            r = rep.partial
            rep.partial = NOBODY
        else:
            r = _last_admitted(rep, reqs, now_s)
        reqs[r].prefilled = 0
        rep.running -= 1
        push_front(rep, reqs, r)
        lost += 1


def _last_admitted(rep: Replica, reqs: Requests, now_s: float) -> int:
    """Take the decoding request that was admitted last out of the batch and return it."""
    at = 0
    for i in range(1, rep.finishing):
        if reqs[rep.heap[i] & ID_MASK].next > reqs[rep.heap[at] & ID_MASK].next:
            at = i
    r = rep.heap[at] & ID_MASK
    req = reqs[r]
    longest_s = longest_gap_s(rep, req.join)
    if longest_s > 0.0 and not req.max_tbt_s >= longest_s:
        req.max_tbt_s = longest_s
    req.made += rep.steps - req.join
    req.last_s = now_s
    heap_remove(rep, at)
    rep.batch -= 1
    rep.context -= req.prompt + req.made
    return r
