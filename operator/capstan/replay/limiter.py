"""Which clock a board runs at: the cap, or lower where a power limit asks for it (DESIGN 5).

Who calls it: `replay.world`, once per engine step. Must not know: queues, time, who set the cap.
"""

from __future__ import annotations

from collections.abc import Callable

from capstan.model.profile import Clocks


def limited_ratio(
    clocks: Clocks, draw_w: Callable[[float], float], *, cap_ratio: float = 1.0, limit_w: float | None = None
) -> float:
    """Return x_eff = max{x <= cap : P(x) <= limit}: a power limit is not a clip, the board slows until it fits.

    Args:
        clocks: The grid on which the board moves.
        draw_w: P(x), watts of one GPU at clock ratio x; rising in x (time and utilisation follow x inside it).
        cap_ratio: The clock cap over the maximum clock, in (0, 1].
        limit_w: The board's power limit; None: no limit below the stock one.

    Returns:
        The cap where it fits, else the highest grid clock that does; the lowest clock where none fits (a board
        cannot go lower, so its limit is then exceeded).
    """
    if limit_w is None or draw_w(cap_ratio) <= limit_w:
        return cap_ratio
    low = 0
    high = int((cap_ratio * clocks.max_mhz - clocks.min_mhz) / clocks.step_mhz + 1e-9)
    while low < high:  # the highest index whose draw fits, by bisection: P rises with the clock
        middle = (low + high + 1) // 2
        if draw_w(_ratio(clocks, middle)) <= limit_w:
            low = middle
        else:
            high = middle - 1
    return min(_ratio(clocks, low), cap_ratio)


def _ratio(clocks: Clocks, index: int) -> float:
    return (clocks.min_mhz + index * clocks.step_mhz) / clocks.max_mhz
