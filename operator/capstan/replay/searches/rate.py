"""The rate at which a given number of replicas is the smallest fixed fleet: `--scale-rate auto:N` (DESIGN 7.1).

Who calls it: `replay.play` and `replay.stage`. Must not know: the engine (it asks whether a count meets), files.

A look at a week plays tens of millions of requests. One hour of it says about where to look; a fixed fleet is late in
its busy hours or nowhere, so those alone show the way; the whole trace has the last word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capstan import units
from capstan.model.slo import WINDOW_S
from capstan.optimize import sizing
from capstan.replay.runs import Floats, Ints, Outcomes, Requests, Run
from capstan.replay.searches import fluid
from capstan.replay.searches.hindsight import GUESS_STRESS_RATIO

TOLERANCE_RATIO = 0.01
"""DESIGN 7.1 leaves it open; one per cent of a rate moves energy by less than one per cent, five seeds by more."""

FIRST_STEP = 1.06  # of a rate: the closed form is off by more, an hour of the trace by less
MOST_STEPS = 24  # doublings but the first four: a rate a million times the trace's is no trace any more
LUCKY_STEPS = 20  # down in rate, where one fewer does by chance: lateness is noisy by several percent of a rate
BUSY_SHARE = 0.95  # of the windows that must be met

BUSY_RATIO = 0.8
"""Of the tokens of the window that just has to be met: a fleet that meets it is late with next to nobody at four fifths
of that load. The whole trace has the last word, so that another share would cost time, and no truth."""

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
    low = largest(meets if screen is None else screen, count, start_ratio=start_ratio)
    for lower in range(LUCKY_STEPS):
        ratio = low / (1 + TOLERANCE_RATIO) ** lower
        if meets(ratio, count) and (count == 1 or not meets(ratio, count - 1)):
            return ratio
    raise ValueError(f"no rate near {low:.4g} times the trace's needs {count} replicas and no fewer; choose another N")


def largest(meets: Meets, count: int, *, start_ratio: float) -> float:
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


# --- a part for the whole --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Busy:
    """A trace's busy hours, one after the other.

    Attributes:
        whole: The trace.
        inside: Whether a request is in one of them, shape `[request of whole]`.
        requests: Those requests, arriving as if no time had passed between the hours.
        moved_s: How much sooner than in the trace each of them arrives, shape `[request]`.
    """

    whole: Requests
    inside: npt.NDArray[np.bool_]
    requests: Requests
    moved_s: Floats

    def run(self, played: Run) -> Run:
        """Return a run of these requests as one of the whole trace, in which all others were served at once."""
        own = played.services[0].outcomes
        first_s, finish_s = self.whole.arrival_s.copy(), self.whole.arrival_s.copy()
        max_tbt_s = np.zeros(len(self.whole))
        first_s[self.inside] = own.first_s + self.moved_s
        finish_s[self.inside] = own.finish_s + self.moved_s
        max_tbt_s[self.inside] = own.max_tbt_s
        service = dataclasses.replace(played.services[0], outcomes=Outcomes(self.whole, first_s, finish_s, max_tbt_s))
        return dataclasses.replace(played, services=(service,))


def busy(requests: Requests) -> Busy:
    """Return the hours of a trace in which a fleet may be late that just meets the SLO."""
    tokens = _tokens(requests, WINDOW_S)
    windows_hour = (np.arange(len(tokens)) * WINDOW_S / units.SECONDS_PER_HOUR).astype(np.int64)
    hours = np.zeros(windows_hour[-1] + 1, dtype=np.bool_)
    hours[windows_hour[tokens >= BUSY_RATIO * tokens[_critical(tokens)]]] = True
    hour = _place(requests, units.SECONDS_PER_HOUR)
    inside = hours[hour]
    quiet_before: Ints = np.cumsum(~hours)
    moved_s = units.SECONDS_PER_HOUR * quiet_before[hour[inside]].astype(np.float64)
    held = Requests(
        requests.arrival_s[inside] - moved_s, requests.prompt_tokens[inside], requests.output_tokens[inside]
    )
    return Busy(requests, inside, held, moved_s)


def critical_hour(requests: Requests, ratio: float) -> Requests:
    """Return the hour that 95 % of the hours are at or below, at a rate multiple: all in it comes that much sooner."""
    at = _critical(_tokens(requests, units.SECONDS_PER_HOUR))
    inside = _place(requests, units.SECONDS_PER_HOUR) == at
    arrival_s = (requests.arrival_s[inside] - at * units.SECONDS_PER_HOUR) / ratio
    return Requests(arrival_s, requests.prompt_tokens[inside], requests.output_tokens[inside])


def _tokens(requests: Requests, period_s: float) -> Floats:
    tokens = requests.prompt_tokens + requests.output_tokens
    return np.bincount(_place(requests, period_s), weights=tokens).astype(np.float64)


def _place(requests: Requests, period_s: float) -> Ints:
    return (requests.arrival_s / period_s).astype(np.int64)
