"""Board power of one GPU as a function of what a step does and of the clock ratio (DESIGN 5).

Who calls it: `model.steady`, `optimize`, `replay.world`, and `replay.kernel`, which compiles these very functions (see
`model.latency` for what that asks of them).

A power limit is not a clip: the board lowers its clock until the draw fits, and time and power both follow that
clock (`limited_ratio`). A board at its stock limit is not slowed, because the times of a profile were measured with
that limit in place; its watts end there.
"""

from __future__ import annotations

import math

from capstan.model import latency
from capstan.model.profile import Profile


def voltage_ratio(p: Profile, x: float) -> float:
    """Return v(x), relative core voltage: flat below the knee, then linear up to 1 at x = 1."""
    c = p.clocks
    slope = (x - c.knee_ratio) / (1 - c.knee_ratio)
    return max(c.v_min_ratio, c.v_min_ratio + (1 - c.v_min_ratio) * slope)


def utilisation(p: Profile, new_tokens: float, context_tokens: float, duration_s: float) -> tuple[float, float]:
    """Return (u_m, u_c): shares of peak memory bandwidth and of peak FLOP/s that a step uses, each in [0, 1]."""
    work = p.work
    moved = work.weight_bytes + work.kv_bytes_per_token * (context_tokens + new_tokens)
    if work.expert_bytes > 0:
        moved += work.expert_bytes * (1 - math.pow(1 - work.expert_share_ratio, new_tokens))
    memory = moved / (duration_s * work.peak_bytes_per_s)
    compute = work.flops_per_token * new_tokens / (duration_s * work.peak_flops_per_s)
    return min(memory, 1.0), min(compute, 1.0)


def context_share(p: Profile, context_tokens: float, duration_s: float) -> float:
    """Return u_k in [0, 1]: the share of peak memory bandwidth at which attention reads keys and values."""
    return min(p.work.kv_bytes_per_token * context_tokens / (duration_s * p.work.peak_bytes_per_s), 1.0)


def step_w(p: Profile, new_tokens: float, context_tokens: float, duration_s: float, x: float) -> float:
    """Return watts of one GPU during a step, under the board's stock limit.

    Args:
        p: The physics.
        new_tokens: Tokens that the step computes: one per decoding sequence, and the prompt chunk.
        context_tokens: Tokens whose keys and values the step reads.
        duration_s: The step's time at clock ratio `x`.
        x: Clock ratio in (0, 1].
    """
    draw = p.draw
    memory, compute = utilisation(p, new_tokens, context_tokens, duration_s)
    core = draw.dynamic_w + draw.compute_w * math.pow(compute, draw.gamma)
    core += draw.context_w * context_share(p, context_tokens, duration_s)
    v = voltage_ratio(p, x)
    return min(draw.limit_w, draw.static_w + draw.memory_w * memory + core * x * v * v)


def worst_case_w(p: Profile, x: float) -> float:
    """Return the most that one GPU sustains at clock ratio `x`: both utilisations at 1, under the stock limit."""
    draw = p.draw
    v = voltage_ratio(p, x)
    core = draw.dynamic_w + draw.compute_w + draw.context_w
    return min(draw.limit_w, draw.static_w + draw.memory_w + core * x * v * v)


def idle_w(p: Profile) -> float:
    """Return watts of one GPU with the model loaded and no request; no cap is known to change it (a cap is no pin)."""
    return p.draw.loaded_idle_w


def mixed_w(  # noqa: PLR0913 - positional scalars, for the compiler
    p: Profile,
    batch: float,
    context_tokens: float,
    chunk_tokens: float,
    prior_tokens: float,
    prior_context_tokens: float,
    x: float,
) -> float:
    """Return watts of one GPU during a step of `latency.mixed_step_s`.

    `prior_context_tokens` sums the contexts that precede the step's prompt chunks; the other arguments are as there.
    """
    duration_s = latency.mixed_step_s(p, batch, context_tokens, chunk_tokens, prior_tokens, x)
    return step_w(p, batch + chunk_tokens, context_tokens + prior_context_tokens, duration_s, x)


def limited_ratio(  # noqa: PLR0913 - positional scalars, for the compiler
    p: Profile,
    batch: float,
    context_tokens: float,
    chunk_tokens: float,
    prior_tokens: float,
    prior_context_tokens: float,
    cap_ratio: float,
    limit_w: float,
) -> float:
    """Return x_eff = max{x <= cap : P(x) <= limit} for a step of `mixed_w`, whose watts rise with x.

    `cap_ratio` is the clock cap over the maximum clock, `limit_w` the board's limit (inf: none below the stock one).
    The cap where it fits, else the highest grid clock that does; the lowest clock where none fits (a board cannot go
    lower, so its limit is then exceeded).
    """
    if limit_w >= p.draw.limit_w:
        return cap_ratio
    drawn_w = mixed_w(p, batch, context_tokens, chunk_tokens, prior_tokens, prior_context_tokens, cap_ratio)
    if drawn_w <= limit_w:
        return cap_ratio
    c = p.clocks
    low = 0
    high = int((cap_ratio * c.max_mhz - c.min_mhz) / c.step_mhz + 1e-9)
    while low < high:  # the highest index whose draw fits, by bisection
        middle = (low + high + 1) // 2
        x = (c.min_mhz + middle * c.step_mhz) / c.max_mhz
        if mixed_w(p, batch, context_tokens, chunk_tokens, prior_tokens, prior_context_tokens, x) <= limit_w:
            low = middle
        else:
            high = middle - 1
    return min((c.min_mhz + low * c.step_mhz) / c.max_mhz, cap_ratio)
