"""What the kernel's functions take: records of numpy that numba knows, and that Python reads by attribute.

The formulas of `capstan.model` read a `Profile`; compiled, they read its record. Both are `Physics` here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from capstan.model.profile import Profile

    class Replica:
        """A row of `layout.replica`."""

        state: int
        profile: int
        pool: int
        serial: int
        running: int
        waiting: int
        kv_tokens: int
        ready_s: float
        mode: int
        start_s: float
        next_s: float
        step_s: float
        growth_s: float
        count: int
        x: float
        step_w: float
        batch: int
        context: int
        steps: int
        admitted: int
        partial: int
        chunk_head: int
        chunk_tail: int
        queue_head: int
        queue_tail: int
        cap_ratio: float
        limit_w: float
        pending: int
        pending_s: npt.NDArray[np.float64]
        pending_ratio: npt.NDArray[np.float64]
        pending_w: npt.NDArray[np.float64]
        booked_s: float
        booked_j: float
        joules_0: float
        joules_1: float
        joules_2: float
        serving_j: float
        idle_j: float
        transition_j: float
        finishing: int
        heap: npt.NDArray[np.int64]
        gaps: int
        gap_step: npt.NDArray[np.int64]
        gap_s: npt.NDArray[np.float64]

    class Request:
        """A row of `layout.REQUEST`."""

        arrival_s: float
        first_s: float
        finish_s: float
        max_tbt_s: float
        last_s: float
        prompt: int
        output: int
        made: int
        prefilled: int
        join: int
        next: int

    class Shared:
        """The one row of `layout.SHARED`."""

        next_arrival: int
        finished: int
        refused: int
        unfinished: int
        preemptions: int
        unrouted: int
        prompt_tokens: int
        output_tokens: int

    class Requests:
        """Rows of requests."""

        def __getitem__(self, index: int) -> Request: ...
        def __len__(self) -> int: ...

    class Replicas:
        """Rows of replicas."""

        def __getitem__(self, index: int) -> Replica: ...
        def __len__(self) -> int: ...

    Physics = Profile
    Physicses = tuple[Profile, ...]
    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
