"""Many decode steps of a constant batch at once: their time and joules in closed form.

Compiled by `kernel.build`, and run as it stands where nothing is compiled. Step j of a leap (from 0) lasts
`step_s + j growth_s`; n steps last `n step_s + n (n - 1) / 2 growth_s` from the leap's start, which never moves: how
often somebody looks changes nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from capstan.model import power

if TYPE_CHECKING:
    from capstan.replay.kernel.types import Physics, Replica


def span_s(step_s: float, growth_s: float, n: float) -> float:
    """Return the time of the first `n` steps."""
    return n * step_s + 0.5 * n * (n - 1) * growth_s


def done_by(rep: Replica, t_s: float) -> int:
    """Return how many whole steps of the leap have ended at or before `t_s`."""
    passed_s = t_s - rep.start_s
    if passed_s <= 0:
        return 0
    half = rep.step_s - 0.5 * rep.growth_s
    n = int(2 * passed_s / (half + math.sqrt(half * half + 2 * rep.growth_s * passed_s)))
    n = min(max(n, 0), rep.count)
    while n < rep.count and rep.start_s + span_s(rep.step_s, rep.growth_s, n + 1) <= t_s:
        n += 1
    while n > 0 and rep.start_s + span_s(rep.step_s, rep.growth_s, n) > t_s:
        n -= 1
    return n


def cut(rep: Replica, t_s: float) -> None:
    """Let the leap end with the first step that ends at or after `t_s`, if that is sooner."""
    if rep.next_s <= t_s:
        return
    n = done_by(rep, t_s)
    if n == 0 or rep.start_s + span_s(rep.step_s, rep.growth_s, n) < t_s:
        n += 1
    if n < rep.count:
        rep.count = n
        rep.next_s = rep.start_s + span_s(rep.step_s, rep.growth_s, n)


def price(rep: Replica, p: Physics) -> None:
    """Work out the leap's joules: three steps' worth, and the parabola through them.

    Watts are smooth in the context, which grows by a few per cent in a leap: the sum of the parabola is within 1e-7 of
    the sum of the steps (tests/replay/test_kernel.py holds a drained run to 1e-6).
    """
    first_j = _step_j(rep, p, 0.0)
    rep.joules_0 = first_j
    rep.joules_1 = 0.0
    rep.joules_2 = 0.0
    last = rep.count - 1
    if last == 0:
        return
    rise_j = _step_j(rep, p, last) - first_j
    if last > 1:
        bend_j = _step_j(rep, p, 0.5 * last) - first_j - 0.5 * rise_j
        rep.joules_2 = -4.0 * bend_j / (1.0 * last * last)
    rep.joules_1 = rise_j / last - rep.joules_2 * last


def _step_j(rep: Replica, p: Physics, j: float) -> float:
    """Return joules of one GPU in step `j`, which need not be whole: the form is smooth."""
    duration_s = rep.step_s + rep.growth_s * j
    return power.step_w(p, rep.batch, rep.context + rep.batch * j, duration_s, rep.x) * duration_s


def joules_of(rep: Replica, n: int) -> float:
    """Return joules of one GPU in the first `n` steps."""
    ones = 1.0 * n
    pairs = 0.5 * ones * (ones - 1.0)
    return ones * rep.joules_0 + pairs * rep.joules_1 + pairs * (2.0 * ones - 1.0) / 3.0 * rep.joules_2


def joules_by(rep: Replica, t_s: float) -> float:
    """Return joules of one GPU from the leap's start to `t_s`; watts are constant within a step."""
    n = done_by(rep, t_s)
    whole_j = joules_of(rep, n)
    if n >= rep.count:
        return whole_j
    begun_s = t_s - (rep.start_s + span_s(rep.step_s, rep.growth_s, n))
    return whole_j + watts_in(rep, n) * begun_s


def watts_in(rep: Replica, n: int) -> float:
    """Return watts of one GPU in step `n`, or in the last one."""
    j = 1.0 * min(n, rep.count - 1)
    return (rep.joules_0 + j * (rep.joules_1 + j * rep.joules_2)) / (rep.step_s + rep.growth_s * j)
