"""Tables of the plant: one record per board, server and request, and one of everything that does not change.

Who calls it: `physics`, which is compiled and reads them by field, and whoever fills them. Must not know: numba.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]
Floats = npt.NDArray[np.float64]

SLICE_S = 0.025  # brief period of a board's inner loop (DESIGN 7.2: 25-100 ms); nothing is resolved below it
SLICES = 40  # in a second, the tick of controllers and agents
SLICES_PER_BIN = 4  # what is kept: means of 100 ms (DESIGN 7.2: scores are true AC watts at 100 ms)
BINS = SLICES // SLICES_PER_BIN
BATCH_STEP = 8  # decode tables have a row per so many sequences
BATCH_ROWS = 33  # up to 256 sequences, vLLM's default
CLOCK_POINTS = 110  # 345 to 1,980 MHz by 15 MHz, H100's grid
SUPPLY_POINTS = 21  # efficiency of a power supply per 5 % of its rating
RIPPLE_POINTS = 4096

BOARD = np.dtype(
    [
        ("gain_ratio", "f8"),  # what its sensor says over what is true, for limiter and telemetry alike
        ("attack_ratio", "f8"),  # share of an excess that its limiter corrects in one slice: slice over loop time
        ("x_ratio", "f8"),  # the clock that its limiter allows, over the maximum
        ("cap_ratio", "f8"),  # the clock lock in force
        ("limit_w", "f8"),  # the board limit in force
        ("stuck", "f8"),  # 1: accepts a lock and runs on
        ("recent_w", "f8"),  # its own reading, mean of about a second
        ("next_cap_ratio", "f8"),  # asked for, and when it takes effect; inf: nothing is
        ("next_cap_s", "f8"),
        ("next_limit_w", "f8"),
        ("next_limit_s", "f8"),
    ]
)
SERVER = np.dtype(
    [
        ("domain", "i8"),  # the rack that it stands in: a column of what is kept
        ("head", "i8"),  # request whose prompt is next
        ("tail", "i8"),  # the first one that has not arrived
        ("end", "i8"),
        ("queued_s", "f8"),  # prefill waiting, in seconds at full clock
        ("batch", "f8"),  # decoding sequences
        ("non_gpu_w", "f8"),
        ("read_w", "f8"),  # what its boards' sensors said, mean of the second
        ("ac_j", "f8"),
        ("busy_s", "f8"),
        ("ideal_s", "f8"),  # what the same work would have taken at full clock
        ("refused", "i8"),
    ]
)
REQUEST = np.dtype([("at_s", "f8"), ("left_s", "f8")])  # arrival; prefill left to do, in seconds at full clock

PLANT = np.dtype(
    [
        ("slice", "i8"),  # slices done
        ("gpus", "i8"),
        ("min_ratio", "f8"),  # lowest clock over the maximum
        ("grid_ratio", "f8"),  # from one point of the clock tables to the next
        ("release_s", "f8"),  # time in which a limiter gives a clock back
        ("idle_w", "f8"),
        ("output_tokens", "f8"),  # mean of a request
        ("patience_s", "f8"),  # prefill waiting beyond which a request is refused (429)
        ("non_gpu_idle_w", "f8"),
        ("non_gpu_per_w", "f8"),  # watts of the rest of a server per watt of its boards
        ("non_gpu_most_w", "f8"),
        ("non_gpu_settle_s", "f8"),
        ("rated_w", "f8"),  # DC watts of a server's supplies
        ("prefill_w", "f8", (CLOCK_POINTS,)),
        ("prefill_slowdown", "f8", (CLOCK_POINTS,)),
        ("decode_w", "f8", (BATCH_ROWS, CLOCK_POINTS)),
        ("decode_s", "f8", (BATCH_ROWS, CLOCK_POINTS)),
        ("supply_ratio", "f8", (SUPPLY_POINTS,)),
        ("ripple_ratio", "f8", (RIPPLE_POINTS,)),
    ]
)
