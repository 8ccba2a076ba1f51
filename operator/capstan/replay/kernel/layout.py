"""Tables of the kernel: one record per replica, request, pool and world, and a profile's numbers as a record.

Who calls it: every file of the kernel. The compiled files read these records by field, so a field here is the only
place where it is named. Must not know: numba, time.

A request is its row in the trace; -1 is nobody. Slots are rows of the replica tables.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from capstan.model.profile import Profile

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FREE, STARTING, READY, DRAINING = 0, 1, 2, 3  # states of a replica; who watches sees these
IDLE, STEP, LEAP = 0, 1, 2  # modes of a replica's engine: no work, one step, many pure decode steps

MIND_LAXITY, MIND_PATIENCE = 1, 2  # bits: what an engine's queue goes by besides the order of arrival
FIRST, FINISH, GAP = 0, 1, 2  # rows of the outcomes: first token, last token, longest gap between two
DEADLINE, PATIENCE = 3, 4  # where something is minded, two more: first token late, given up

NOBODY = -1
EVERY, PREFILLING = -1, -2  # pools: all, and those that hand over
PENDING_CAPS = 8  # caps asked for within one switch delay of 50 ms; the busiest caller asks ten times a second
SEATS = (256, 1024, 4096)  # a compiled kernel is made for one of these sizes: each size costs a compile
ID_BITS = 31  # of a key in the finish heap: finish step above, request below
ID_MASK = (1 << ID_BITS) - 1

Index = int | np.int64
Records = npt.NDArray[np.void]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Classes = npt.NDArray[np.int16]  # one per request, of a week's 27 million

REPLICA = np.dtype(
    [
        # what a watcher sees, as of the last `advance`
        ("state", "i8"),
        ("profile", "i8"),
        ("pool", "i8"),
        ("serial", "i8"),  # a new number for every replica; slots are used again
        ("weight", "f8"),  # its share of requests beside others of its pool
        ("created_s", "f8"),
        ("ready_s", "f8"),
        ("running", "i8"),
        ("waiting", "i8"),
        ("kv_tokens", "i8"),
        ("cap_ratio", "f8"),  # in force, as `limit_w` is
        ("limit_w", "f8"),
        ("asked_ratio", "f8"),  # asked for last
        ("asked_limit_w", "f8"),
        ("serving_j", "f8"),  # joules of the slot, of every replica that it has held; steps in progress are in open_j
        ("idle_j", "f8"),
        ("transition_j", "f8"),
        ("open_j", "f8"),
        # what the engine works with
        ("slot", "i8"),
        ("tp", "i8"),
        ("mode", "i8"),
        ("next_s", "f8"),  # when the mode ends; inf: not by itself
        ("booked_s", "f8"),  # idle and starting: watts are booked up to here
        ("head", "i8"),  # queue
        ("tail", "i8"),
        ("newest", "i8"),  # running requests, in order of admission: the last one
        ("prefilling", "i8"),  # the first of them that has no token yet; those behind it have none either
        ("prefilled_tokens", "i8"),  # of `prefilling`, which alone may be part-way
        ("decoding", "i8"),  # requests in the finish heap
        ("steps", "i8"),  # steps done, leaps as of their origin
        ("kv", "i8"),  # tokens computed, as of the origin
        ("origin_s", "f8"),  # the step or leap in progress began
        ("x", "f8"),
        ("step_w", "f8"),  # one GPU, a single step
        ("step_s", "f8"),
        ("chunk_tokens", "i8"),  # a single step's new prompt tokens
        ("completing", "i8"),  # prompts that it finishes
        ("left_tokens", "i8"),  # what is then computed of the prompt after those
        ("first_step_s", "f8"),  # a leap's first step, and by how much each is longer than the one before
        ("growth_s", "f8"),
        ("leap_steps", "i8"),
        ("booked_steps", "i8"),
        ("pending", "i8"),
        ("pending_s", "f8"),  # when the first pending cap takes effect; inf: none
        ("hands_to", "i8"),  # pool that decodes what it has prefilled; NOBODY: it does so itself
        ("landed", "i8"),  # requests that brought their KV to the step in progress
        ("minding", "i8"),  # its queue is not only FIFO (`urgency`); 0: it is
        ("longest", "i8"),  # entries of the stack of step times
    ]
)
REQUEST = np.dtype(
    [
        ("ready_s", "f8"),  # may be scheduled from; of one that was preempted: when its last token was made
        ("prompt", "i4"),
        ("output", "i4"),
        ("next", "i4"),  # behind it, in a queue or among the running
        ("prev", "i4"),
        ("joined", "i4"),  # step at whose end it began to decode
        ("made", "i4"),  # output tokens as of then, or as of its preemption
    ]
)
POOL = np.dtype(
    [
        ("members", "i8"),
        ("head", "i8"),  # of the held ones
        ("tail", "i8"),
        ("held", "i8"),
        ("next", "i8"),  # who takes what is too much for it; NOBODY: none
        ("cap", "f8"),  # requests inside a replica, per unit of its weight, beyond which that is asked for
        ("hands_to", "i8"),  # the pool that decodes what it has prefilled; NOBODY: it does so itself
        ("spilled", "i8"),  # requests of it that another one took
    ]
)
WORLD = np.dtype(
    [
        ("now_s", "f8"),
        ("bin_s", "f8"),
        ("slow_start_s", "f8"),  # how long a replica that has become ready takes less than its share
        ("next_ready_s", "f8"),
        ("released_s", "f8"),
        ("releasing", "i8"),  # the pool whose held requests are being routed; EVERY: none
        ("arrived", "i8"),
        ("finished", "i8"),
        ("refused", "i8"),
        ("shed_ratio", "f8"),  # share of the requests that are refused as they arrive
        ("shed_owed", "f8"),  # of the next one to be refused
        ("held", "i8"),
        ("preemptions", "i8"),
        ("prompt_tokens", "i8"),
        ("generation_tokens", "i8"),
        ("kv_overruns", "i8"),  # steps that began without room for their tokens: 0, or the kernel is wrong
        ("squashed", "i8"),
        ("minding", "i8"),  # what its engines mind, of MIND_*; 0: nothing, queues are FIFO
        ("handing", "i8"),  # whether any pool hands over
        ("landing", "i8"),  # the next request whose KV lands
        ("moving", "i8"),
        ("handed", "i8"),
        ("prefilled_s", "f8"),  # up to when the pools that hand over were played
        ("link_setup_s", "f8"),
        ("link_bytes_per_s", "f8"),
        ("gone", "i8"),
        ("running", "i8"),
        ("waiting", "i8"),
        ("kv_usage", "f8"),
        ("serving_j", "f8"),
        ("idle_j", "f8"),
        ("transition_j", "f8"),
    ]
)


def deep(seats: int) -> np.dtype[np.void]:
    """Return the record of a replica's heap, stack of step times and pending caps, for at most `seats` requests."""
    return np.dtype(
        [
            ("heap", "i8", (seats,)),  # finish step and request
            ("last_step", "i8", (4 * seats,)),  # stack: a step, and how long it took; longest first
            ("duration_s", "f8", (4 * seats,)),
            ("effective_s", "f8", (PENDING_CAPS,)),
            ("ratio", "f8", (PENDING_CAPS,)),
            ("watts", "f8", (PENDING_CAPS,)),
        ]
    )


def seats_size(profiles: tuple[Profile, ...]) -> int:
    """Return the smallest size of the kernel's tables that every profile's batch fits in.

    Raises:
        ValueError: A profile runs more sequences than the largest size.
    """
    most = max(min(profile.max_num_seqs, profile.chunk_tokens) for profile in profiles)
    for size in SEATS:
        if most <= size:
            return size
    raise ValueError(f"max_num_seqs {most}: the replay's kernel runs at most {SEATS[-1]} sequences per replica")


def _numbers(value: DataclassInstance) -> list[tuple[str, object]]:
    """Return the fields of a dataclass that are numbers, or dataclasses of numbers."""
    kinds = (("float", "f8"), ("int", "i8"))
    fields: list[tuple[str, object]] = []
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            fields.append((field.name, np.dtype(_numbers(inner), align=True)))
        fields += [(field.name, code) for name, code in kinds if field.type == name]
    return fields


def _row(value: object, dtype: np.dtype[np.void]) -> tuple[object, ...]:
    """Return a dataclass's numbers in a record's order."""
    row = []
    for name in dtype.names or ():
        inner, kind = getattr(value, name), dtype[name]
        row.append(_row(inner, kind) if kind.names else inner)
    return tuple(row)


def parameters(*profiles: Profile) -> Records:
    """Return profiles as records that compiled formulas read by attribute; a new field of `Profile` is in it."""
    dtype = np.dtype(_numbers(profiles[0]), align=True)
    return np.array([_row(profile, dtype) for profile in profiles], dtype=dtype)
