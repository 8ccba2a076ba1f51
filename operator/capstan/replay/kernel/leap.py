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


def step_j(rep: Replica, p: Physics, j: float) -> float:
    """Return joules of one GPU in step `j`, which need not be whole: the form is smooth."""
    duration_s = rep.step_s + rep.growth_s * j
    return power.step_w(p, rep.batch, rep.context + rep.batch * j, duration_s, rep.x) * duration_s


def first_j(rep: Replica, p: Physics, n: int) -> float:
    """Return joules of one GPU in the first `n` steps.

    Three nodes that sum every polynomial up to the fifth degree exactly over 0 … n - 1 (Gauss for a sum: with mean m,
    variance v = (n^2 - 1) / 12 and h^2 = (3 n^2 - 7) / 20, weights v / (2 h^2) at m -+ h and the rest at m).
    """
    if n <= 0:
        return 0.0
    if n == 1:
        return step_j(rep, p, 0.0)
    if n == 2:
        return step_j(rep, p, 0.0) + step_j(rep, p, 1.0)
    middle = 0.5 * (n - 1)
    spread2 = (3.0 * n * n - 7.0) / 20.0
    spread = math.sqrt(spread2)
    side = (1.0 * n * n - 1.0) / (24.0 * spread2)
    ends = step_j(rep, p, middle - spread) + step_j(rep, p, middle + spread)
    return n * (side * ends + (1.0 - 2.0 * side) * step_j(rep, p, middle))


def joules_by(rep: Replica, p: Physics, t_s: float) -> float:
    """Return joules of one GPU from the leap's start to `t_s`; watts are constant within a step."""
    n = done_by(rep, t_s)
    whole_j = first_j(rep, p, n)
    if n >= rep.count:
        return whole_j
    begun_s = t_s - (rep.start_s + span_s(rep.step_s, rep.growth_s, n))
    duration_s = rep.step_s + rep.growth_s * n
    return whole_j + step_j(rep, p, n) * begun_s / duration_s
