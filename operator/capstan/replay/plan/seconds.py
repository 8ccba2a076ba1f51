"""A row's watts, second by second, under its law and caps on their way (compiled).

Who calls it: `planned`, compiled with `row.loop`, whose delays and counts it uses. Must not know: servers, files.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from capstan.powercap import machine
from capstan.replay.row import loop
from capstan.replay.runs import Floats


class Boards(NamedTuple):
    """What a cap can take.

    Attributes:
        always_w: AC watts of all servers that no clock changes: everything beside the GPUs, and GPUs that idle.
        low_ratio: Low priority's share of the rest.
        low_kept_ratio, high_kept_ratio: What is left of each priority's at each clock, `[clock]`.
    """

    always_w: float
    low_ratio: float
    low_kept_ratio: Floats
    high_kept_ratio: Floats


def play(  # noqa: PLR0913 - positional arrays, for the compiler
    uncapped_w: Floats, boards: Boards, work_j: Floats, log: loop.Log, way: loop.Way, law: machine.Law,
    state: machine.State, control: loop.Control,
) -> machine.State:  # fmt: skip
    """Play a trace and return the machine's state.

    Args:
        uncapped_w: AC watts of the row without caps, `[second]`; NaN: not heard. Nothing is counted then, the machine
            waits, and caps stay as they are.
        boards: What a cap can take of them.
        work_j: Joules above idle that would be drawn at full clock, by the clock in force, `[priority, clock]`: filled.
        log: Filled.
        way: What is on its way.
        law: The domain's numbers.
        state: Its machine as it stands.
        control: How it is told and obeyed.
    """
    for second in range(uncapped_w.shape[0]):
        free_w = uncapped_w[second]
        log.row_w[second] = free_w
        if math.isnan(free_w):
            way.excursion_s[0] = 0.0
        else:
            low, high = loop.clocks_in_force(control, way, second)
            active_w = max(free_w - boards.always_w, 0.0)
            kept = boards.low_ratio * boards.low_kept_ratio[low]
            kept += (1.0 - boards.low_ratio) * boards.high_kept_ratio[high]
            log.row_w[second] = free_w - active_w * (1.0 - kept)
            work_j[0, low] += active_w * boards.low_ratio
            work_j[1, high] += active_w * (1.0 - boards.low_ratio)
            loop.scored(log, way, state.level, log.row_w[second], control.budget_w)
        state = loop.ticked(law, state, control, way, log, second, True)
    return state


def fresh(control: loop.Control, clocks: int, seconds: int) -> tuple[Floats, loop.Log, loop.Way]:
    """Return empty counts, and nothing on its way."""
    log = loop.Log(
        np.zeros(seconds), np.zeros(loop.LEVELS, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(4)
    )
    way = loop.Way(
        np.full((control.actuate_s + 2, 2), clocks - 1, np.int64), np.zeros(control.brake_s + 2, np.int64), np.zeros(1),
        np.zeros(1), np.zeros(1),
    )  # fmt: skip
    return np.zeros((2, clocks)), log, way
