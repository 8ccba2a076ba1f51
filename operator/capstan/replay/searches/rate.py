"""The rate at which a given number of replicas is the smallest fixed fleet: `--scale-rate auto:N` (DESIGN 7.1).

Who calls it: `replay.play` and `replay.stage`. Must not know: the engine (it asks whether a count meets), files.

A look at a week plays tens of millions of requests. A sample of its hours shows the way; the whole has the last word.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from capstan import units
from capstan.model.slo import WINDOW_S
from capstan.optimize import sizing
from capstan.replay.runs import Floats, Ints, Requests
from capstan.replay.searches import fluid
from capstan.replay.searches.hindsight import GUESS_STRESS_RATIO

TOLERANCE_RATIO = 0.01
"""DESIGN 7.1 leaves it open; one per cent of a rate moves energy by less than one per cent, five seeds by more."""

FIRST_STEP = 1.06  # of a rate: the closed form is off by about so much at least (docs/explanation/queueing.md)
MOST_STEPS = 24  # doublings but the first four: a rate a million times the trace's is no trace any more
LUCKY_STEPS = 20  # down in rate, where one fewer does by chance: lateness is noisy by several percent of a rate
BUSY_SHARE = 0.95  # of the windows that must be met

SAMPLE = 8
"""Of a long trace every eighth hour in the order of their load is a sample: 21 of a week's 168, with 252 windows, of
which one in twenty may miss, so that their share is known to about 1.4 points."""

Meets = Callable[[float, int], bool]
"""Whether a count of replicas meets the SLO on the trace at a rate multiple, in the world."""


def carried_ratio(model: fluid.Model, requests: Requests, count: int) -> float:
    """Return about how many times its rates `count` replicas of the largest tp carry of a trace; 1 where none says.

    By the closed form at full clock, in the window that 95 % of the windows are at or below (DESIGN 7.1).

    Raises:
        ValueError: Fleet and bounds have no room for that many.
    """
    tp = max(model.degrees(), default=0)
    most = model.most(tp) if tp else 0
    if most < count:
        raise ValueError(
            f"auto:{count} asks for more than the {most} replicas that fleet and bounds have room for; "
            "ask for fewer, or give more with --servers and maxReplicas"
        )
    loads = fluid.loads(requests, WINDOW_S)
    load, profile = loads.workload(_critical(loads.arrivals)), model.profile(tp)
    if load is None:
        return 1.0
    one_rps = sizing.capacity_rps(profile, load, model.slo, margin=GUESS_STRESS_RATIO, replicas=sizing.pooled(count))
    return count * one_rps / load.arrival_rps or 1.0


def auto_rate(meets: Meets, count: int, *, start_ratio: float = 1.0, screen: Meets | None = None) -> float:
    """Return the largest rate multiple, to 1 %, at which `single-pool` needs `count` replicas.

    Args:
        meets: What has the last word.
        count: N of `auto:N`, >= 1.
        start_ratio: Where to look first (`carried_ratio`): a look beyond capacity takes longest.
        screen: What is asked on the way there; None: the same.

    Raises:
        ValueError: No rate needs exactly that many: at the largest one that `count` carries and a little below, one
            fewer carries it, too, or even the smallest rate is too much.
    """
    low = _largest(meets if screen is None else screen, count, start_ratio=start_ratio)
    for lower in range(LUCKY_STEPS):
        ratio = low / (1 + TOLERANCE_RATIO) ** lower
        if meets(ratio, count) and (count == 1 or not meets(ratio, count - 1)):
            return ratio
    raise ValueError(f"no rate near {low:.4g} times the trace's needs {count} replicas and no fewer; choose another N")


def _largest(meets: Meets, count: int, *, start_ratio: float) -> float:
    """Return the largest rate multiple, to 1 %, that a count carries.

    Raises:
        ValueError: It carries any, or none.
    """
    low, high = _bracket(meets, count, start_ratio)
    while high / low > 1 + TOLERANCE_RATIO:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if meets(middle, count) else (low, middle)
    return low


def _bracket(meets: Meets, count: int, start_ratio: float) -> tuple[float, float]:
    """Return a multiple that `count` carries and the next one that it does not; steps grow until they are doublings."""
    ratio, step = start_ratio, FIRST_STEP
    carried = meets(ratio, count)
    for _ in range(MOST_STEPS):
        following = ratio * step if carried else ratio / step
        if meets(following, count) is not carried:
            return (ratio, following) if carried else (following, ratio)
        ratio, step = following, min(step * step, 2.0)
    raise ValueError(f"auto:{count} finds no rate: {count} replicas {'always' if carried else 'never'} meet the SLO")


def _critical(amounts: Floats) -> int:
    """Return the window that 95 % of the windows are at or below."""
    return int(np.argsort(amounts, kind="stable")[round(BUSY_SHARE * (len(amounts) - 1))])


# --- a part for the whole ----------------------------------------------------------------------------


def sample(requests: Requests) -> Requests:
    """Return every eighth hour that has requests, by their load, as if no time had passed between them."""
    hour = (requests.arrival_s / units.SECONDS_PER_HOUR).astype(np.int64)
    tokens = np.bincount(hour, weights=requests.prompt_tokens + requests.output_tokens)
    order = np.argsort(tokens, kind="stable")[np.count_nonzero(tokens == 0) :]  # an hour without requests shows nothing
    taken = np.zeros(len(tokens), dtype=np.bool_)
    taken[order[min(SAMPLE // 2, len(order) - 1) :: SAMPLE]] = True
    left_out: Ints = np.cumsum(~taken)
    inside = taken[hour]
    sooner_s = units.SECONDS_PER_HOUR * left_out[hour[inside]]
    return Requests(
        requests.arrival_s[inside] - sooner_s, requests.prompt_tokens[inside], requests.output_tokens[inside]
    )


def faster(requests: Requests, ratio: float) -> Requests:
    """Return the same requests at a multiple of their rates: each comes that much sooner."""
    return Requests(requests.arrival_s / ratio, requests.prompt_tokens, requests.output_tokens)
