"""The tables of the kernel: one record per request, one per replica, one for what they share.

Who calls it: `replay.kernel`. Records and not tuples of arrays: numba compiles functions of one record ten times
faster, and they run ten times faster (facts/replay-kernel.md 4.8). In plain Python the same tables are recarrays.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np

from capstan.model.profile import Profile

FREE, STARTING, READY, DRAINING, GONE = range(5)
"""States of a slot. GONE: drained, and not yet taken note of by who placed it."""

IDLE, LEAP, MIX = range(3)
"""What a replica does: nothing; decode steps of a constant batch; one step with prompt tokens in it."""

NOBODY = -1
STACK = 512  # durations that can still be the longest gap of a running request; compacted when full
PENDING = 4  # caps asked for within 50 ms of each other

REQUEST = np.dtype(
    [
        ("arrival_s", "f8"),
        ("first_s", "f8"),
        ("finish_s", "f8"),
        ("max_tbt_s", "f8"),
        ("last_s", "f8"),  # queued: when it can be scheduled; preempted: when its last token appeared
        ("prompt", "i4"),
        ("output", "i4"),
        ("made", "i4"),  # output tokens at the step in which it joined the batch, or lost its KV
        ("prefilled", "i4"),  # tokens in KV, of prompt + made
        ("join", "i4"),  # the replica's step in which it joined the batch
        ("next", "i4"),  # queued or prefilling: who comes after it; decoding: its turn of admission
    ]
)

SHARED = np.dtype(
    [
        ("next_arrival", "i8"),
        ("finished", "i8"),
        ("refused", "i8"),
        ("unfinished", "i8"),
        ("preemptions", "i8"),
        ("unrouted", "i8"),
        ("prompt_tokens", "i8"),
        ("output_tokens", "i8"),
    ]
)


def replica(seats: int) -> np.dtype[np.void]:
    """Return the record of a replica with room for `seats` running sequences."""
    return np.dtype(
        [
            ("state", "i8"),  # the first 64 bytes are what an arrival reads of every replica
            ("pool", "i8"),
            ("next_s", "f8"),  # when the stretch in progress ends: idle, a step, or a leap of many
            ("running", "i8"),
            ("waiting", "i8"),
            ("ready_s", "f8"),
            ("profile", "i8"),
            ("mode", "i8"),
            ("serial", "i8"),
            ("kv_tokens", "i8"),
            ("start_s", "f8"),
            ("step_s", "f8"),  # its first step's time
            ("growth_s", "f8"),  # by which each further step is longer
            ("count", "i8"),  # steps in it
            ("x", "f8"),
            ("step_w", "f8"),  # MIX: watts of one GPU
            ("batch", "i8"),
            ("context", "i8"),  # of the stretch's first step
            ("steps", "i8"),  # done before the stretch
            ("admitted", "i8"),
            ("partial", "i8"),  # the request whose prompt is not finished
            ("chunk_head", "i8"),
            ("chunk_tail", "i8"),
            ("queue_head", "i8"),
            ("queue_tail", "i8"),
            ("cap_ratio", "f8"),
            ("limit_w", "f8"),
            ("pending", "i8"),
            ("pending_s", "f8", (PENDING,)),
            ("pending_ratio", "f8", (PENDING,)),
            ("pending_w", "f8", (PENDING,)),
            ("booked_s", "f8"),
            ("booked_j", "f8"),  # of the leap in progress
            ("joules_0", "f8"),  # joules of one GPU in its step j: joules_0 + j joules_1 + j^2 joules_2
            ("joules_1", "f8"),
            ("joules_2", "f8"),
            ("serving_j", "f8"),
            ("idle_j", "f8"),
            ("transition_j", "f8"),
            ("finishing", "i8"),
            ("heap", "i8", (seats,)),
            ("gaps", "i8"),
            ("gap_step", "i8", (STACK,)),
            ("gap_s", "f8", (STACK,)),
        ]
    )


@lru_cache(maxsize=1)
def parameters() -> np.dtype[np.void]:
    """Return the record of a profile: the numbers of `Profile`, nested as they are there."""
    return _record(Profile)


def _record(kind: type) -> np.dtype[np.void]:
    parts: list[tuple[str, object]] = []
    for field in dataclasses.fields(kind):
        if field.type in ("float", "int"):
            parts.append((field.name, "f8" if field.type == "float" else "i8"))
        elif isinstance(field.type, str) and field.type in _NESTED:
            parts.append((field.name, _record(_NESTED[field.type])))
    return np.dtype(parts)  # type: ignore[call-overload,no-any-return]


def _nested() -> dict[str, type]:
    from capstan.model import profile as module

    return {name: kind for name, kind in vars(module).items() if dataclasses.is_dataclass(kind)}  # type: ignore[misc]


_NESTED = _nested()


def filled(profiles: tuple[Profile, ...]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Return the parameter records of profiles, shape `[profile]`."""
    table = np.zeros(len(profiles), dtype=parameters())
    for index, profile in enumerate(profiles):
        _fill(table[index], profile)
    return table


def _fill(row: np.void, value: object) -> None:
    for name in row.dtype.names or ():
        part = getattr(value, name)
        if dataclasses.is_dataclass(part):
            _fill(row[name], part)
        else:
            row[name] = part
