"""A replica's finish heap and its stack of step times (both in the record `layout.deep`).

Who calls it: `kernel.steps` and `kernel.leaps`. Compiled: plain loops over records, no allocation.

The heap orders by (step of the last token, request) in one integer, so a request costs nothing per token. The stack
holds (step, duration) with falling durations: the longest step after step `s` is the first entry beyond `s`, so the
longest gap between two tokens of a request is exact without walking its steps.
"""

from __future__ import annotations

import numpy as np

from capstan.replay.kernel.layout import ID_BITS, ID_MASK, NOBODY, Index, Records


def push(r: np.void, d: np.void, key: int) -> None:
    """Add a key to the finish heap."""
    heap, at = d["heap"], r["decoding"]
    r["decoding"] += 1
    while at > 0:
        above = (at - 1) >> 1
        if heap[above] <= key:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = key


def take(r: np.void, d: np.void, at: Index) -> int:
    """Remove and return the key at a place of the finish heap; the next one to finish is at 0."""
    heap = d["heap"]
    gone = heap[at]
    r["decoding"] -= 1
    count = r["decoding"]
    key = heap[count]
    while at > 0 and heap[(at - 1) >> 1] > key:  # the last key may belong above the gap
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    while True:
        below = 2 * at + 1
        if below >= count:
            break
        if below + 1 < count and heap[below + 1] < heap[below]:
            below += 1
        if heap[below] >= key:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = key
    return int(gone)


def place(r: np.void, d: np.void, request: int) -> int:
    """Return where in the finish heap a request is."""
    heap = d["heap"]
    for at in range(r["decoding"]):
        if heap[at] & ID_MASK == request:
            return at
    return -1


def note(r: np.void, d: np.void, q: Records, step: int, duration_s: float) -> None:
    """Put a step's time on the stack; of a leap the last step, which is its longest."""
    steps, durations = d["last_step"], d["duration_s"]
    count = r["longest"]
    while count > 0 and durations[count - 1] <= duration_s:
        count -= 1
    r["longest"] = count
    if count == len(steps):
        _compact(r, d, q)
        count = r["longest"]
    steps[count] = step
    durations[count] = duration_s
    r["longest"] = count + 1


def longest_s(r: np.void, d: np.void, after_step: Index) -> float:
    """Return the longest step after a step; 0 where there is none."""
    at = _first_after(r, d, after_step)
    return float(d["duration_s"][at]) if at < r["longest"] else 0.0


def _first_after(r: np.void, d: np.void, step: Index) -> int:
    steps = d["last_step"]
    low, high = 0, r["longest"]
    while low < high:
        middle = (low + high) >> 1
        if steps[middle] > step:
            high = middle
        else:
            low = middle + 1
    return int(low)


def _compact(r: np.void, d: np.void, q: Records) -> None:
    """Keep the entries that a running request would find, which is one each: the stack is four times the seats."""
    steps, durations = d["last_step"], d["duration_s"]
    kept, after = 0, NOBODY
    while True:
        oldest = np.int64(NOBODY)  # the earliest join not before the entry that was kept last
        for at in range(r["decoding"]):
            joined = q[d["heap"][at] & ID_MASK]["joined"]
            if joined >= after and (oldest == NOBODY or joined < oldest):
                oldest = np.int64(joined)
        if oldest == NOBODY:
            break
        found = _first_after(r, d, oldest)
        if found >= r["longest"]:
            break
        after = steps[found]
        steps[kept] = after
        durations[kept] = durations[found]
        kept += 1
    r["longest"] = kept


def key(finish_step: int, request: int) -> int:
    """Return the heap's key of a request."""
    return (finish_step << ID_BITS) | request
