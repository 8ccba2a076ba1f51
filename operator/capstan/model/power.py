"""Board power of one GPU as a function of what a step does and of the clock ratio (DESIGN 5).

A power limit is not a clip: the board lowers its clock until the draw fits, and time and power both follow that
clock (`limited_ratio`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from capstan.model.profile import Clocks, Profile


@dataclass(frozen=True, slots=True)
class Step:
    """What one engine step does: `tokens` new tokens, `context_tokens` read from KV, in `duration_s`."""

    tokens: float
    context_tokens: float
    duration_s: float


def voltage_ratio(clocks: Clocks, x: float) -> float:
    """Return v(x), relative core voltage: flat below the knee, then linear up to 1 at x = 1."""
    slope = (x - clocks.knee_ratio) / (1 - clocks.knee_ratio)
    return max(clocks.v_min_ratio, clocks.v_min_ratio + (1 - clocks.v_min_ratio) * slope)


def utilisation(profile: Profile, step: Step) -> tuple[float, float]:
    """Return (u_m, u_c): shares of peak memory bandwidth and of peak FLOP/s that a step uses, each in [0, 1]."""
    work = profile.work
    moved = work.weight_bytes + work.kv_bytes_per_token * (step.context_tokens + step.tokens)
    memory = moved / (step.duration_s * work.peak_bytes_per_s)
    compute = work.flops_per_token * step.tokens / (step.duration_s * work.peak_flops_per_s)
    return min(memory, 1.0), min(compute, 1.0)


def active_w(profile: Profile, step: Step, x: float = 1.0) -> float:
    """Return watts of one GPU during a step at clock ratio `x`, before any board limit."""
    draw = profile.draw
    memory, compute = utilisation(profile, step)
    core = draw.dynamic_w + draw.compute_w * math.pow(compute, draw.gamma)
    return draw.static_w + draw.memory_w * memory + core * x * voltage_ratio(profile.clocks, x) ** 2


def worst_case_w(profile: Profile, x: float = 1.0) -> float:
    """Return the most that one GPU sustains at clock ratio `x`: both utilisations at 1, under the stock limit."""
    draw = profile.draw
    core = (draw.dynamic_w + draw.compute_w) * x * voltage_ratio(profile.clocks, x) ** 2
    return min(draw.limit_w, draw.static_w + draw.memory_w + core)


def idle_w(profile: Profile, x: float = 1.0) -> float:
    """Return watts of one GPU with the model loaded and no request.

    The dynamic share of idle power is not known to depend on a cap (a cap is not a pin: the GPU idles down), so
    `x` changes nothing; it is here because a profile with a measured idle curve would use it.
    """
    del x
    return profile.draw.loaded_idle_w
