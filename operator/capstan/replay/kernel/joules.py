"""Where a replica's joules go: into its record by kind, and into the world's bins by time.

Who calls it: `kernel.steps`, `kernel.leaps` and `kernel.play`. Compiled. Power is `model.power`'s; nothing here knows
its form. A leap's steps grow by little, so its energy is integrated over the step index by Gauss's rule on three
points; where the middle point alone would say something else (a board at its limit half-way), the leap is halved.
"""

from __future__ import annotations

import numpy as np

from capstan.model import power
from capstan.model.profile import Profile
from capstan.replay.kernel.layout import Floats

NODE = 0.7745966692414834  # sqrt(3/5), the outer points of Gauss-Legendre on three points; weights 5/9, 8/9, 5/9
SMOOTH_RATIO = 1e-5  # middle point against three points; what a kink leaves is a fifth of that, once in a leap
SHORT_STEPS = 4  # not halved further: a kink inside so few steps is worth less than 1e-6 of a run's joules


def spread(bins: Floats, bin_s: float, start_s: float, end_s: float, start_w: float, slope_w_per_s: float) -> None:
    """Add watts that rise evenly over a stretch of time to the bins; what is beyond the last bin goes into it."""
    last = len(bins) - 1
    index = min(int(start_s / bin_s), last)
    done_s = start_s
    while done_s < end_s:
        edge_s = end_s if index == last else min((index + 1) * bin_s, end_s)
        if edge_s > done_s:
            middle_s = (done_s + edge_s) / 2 - start_s
            bins[index] += (start_w + slope_w_per_s * middle_s) * (edge_s - done_s)
            done_s = edge_s
        index = min(index + 1, last)


def rest(r: np.void, p: Profile, w: np.void, bins: Floats, to_s: float) -> float:
    """Book loaded-idle watts of all GPUs since the last booking, and return their joules."""
    start_s = r["booked_s"]
    if to_s <= start_s:
        return 0.0
    watts = power.idle_w(p) * r["tp"]
    spread(bins, w["bin_s"], start_s, to_s, watts, 0.0)
    r["booked_s"] = to_s
    return float(watts * (to_s - start_s))


def step(r: np.void, w: np.void, bins: Floats) -> None:
    """Book a single step that ends."""
    watts = r["step_w"] * r["tp"]
    r["serving_j"] += watts * (r["next_s"] - r["origin_s"])
    spread(bins, w["bin_s"], r["origin_s"], r["next_s"], watts, 0.0)


def leap_end_s(r: np.void, steps: float) -> float:
    """Return when so many steps of a leap are done: always counted from its origin, so watching changes nothing."""
    return float(r["origin_s"] + (r["first_step_s"] * steps + r["growth_s"] * (steps * (steps - 1) / 2)))


def leap_w(r: np.void, p: Profile, index: float) -> float:
    """Return watts of all GPUs in the leap's step `index` (0 is the first; between steps it is interpolated)."""
    batch = float(r["decoding"])
    context_tokens = r["kv"] + batch + batch * index
    duration_s = r["first_step_s"] + r["growth_s"] * index
    return float(power.step_w(p, batch, context_tokens, duration_s, r["x"]) * r["tp"])


def leap(r: np.void, p: Profile, w: np.void, bins: Floats, to_step: int) -> None:
    """Book a leap's steps up to `to_step`."""
    first = r["booked_steps"]
    w["generation_tokens"] += (to_step - first) * r["decoding"]
    size = to_step - first
    while size > 0:
        if _panel(r, p, w, bins, first, size):
            first += size
            size = to_step - first
        else:
            size = size >> 1
    r["booked_steps"] = to_step


def _panel(r: np.void, p: Profile, w: np.void, bins: Floats, first: int, size: int) -> bool:
    """Book some steps of a leap, unless three points are too few for them."""
    start_s, end_s = leap_end_s(r, float(first)), leap_end_s(r, float(first + size))
    span_s = end_s - start_s
    if size == 1:
        watts = leap_w(r, p, float(first))
        r["serving_j"] += watts * span_s
        spread(bins, w["bin_s"], start_s, end_s, watts, 0.0)
        return True
    middle, outer = first + (size - 1) / 2, size / 2 * NODE
    low_w, middle_w, high_w = leap_w(r, p, middle - outer), leap_w(r, p, middle), leap_w(r, p, middle + outer)
    mean_s, slant_s = r["first_step_s"] + r["growth_s"] * middle, r["growth_s"] * outer
    middle_j = middle_w * mean_s * size
    joules = (5 * (low_w * (mean_s - slant_s) + high_w * (mean_s + slant_s)) + 8 * middle_w * mean_s) * size / 18
    if size > SHORT_STEPS and abs(joules - middle_j) > SMOOTH_RATIO * joules:
        return False
    r["serving_j"] += joules
    slope_w_per_s = (high_w - low_w) / (span_s * NODE)
    spread(bins, w["bin_s"], start_s, end_s, joules / span_s - slope_w_per_s * span_s / 2, slope_w_per_s)
    return True
