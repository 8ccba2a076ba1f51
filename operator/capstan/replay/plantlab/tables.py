"""A profile as the plant's tables: watts and times over the clock, from `model.power` and `model.latency` themselves.

Who calls it: `world`. Must not know: slices, faults.

Decoding is the profile's own step. A prompt alone draws the board's stock limit at full clock: profiles are fitted to
mean watts of mixed loads and know no peaks, while prompts were seen at or above a board's limit (POLCA) and
splitwise-sim's H100 draws 700 W for them (facts/polca.md 1.1 and 1.5). Its clock response is the profile's.
"""

from __future__ import annotations

import numpy as np

from capstan.model import latency, power
from capstan.model.profile import Profile
from capstan.replay.plantlab.layout import BATCH_ROWS, BATCH_STEP, CLOCK_POINTS, Floats

PROMPT_TOKENS = 2048  # of the pure prefill step whose shares and clock response stand for all of them


def clocks_ratio(p: Profile) -> Floats:
    """Return the clocks of the tables over the maximum, lowest first."""
    return np.linspace(p.clocks.min_mhz / p.clocks.max_mhz, 1.0, CLOCK_POINTS)


def prefill_w(p: Profile) -> Floats:
    """Return watts of a board in a pure prefill step per clock."""
    time_s = latency.prefill_step_s(p, PROMPT_TOKENS, 1.0)
    streaming, _ = power.utilisation(p, PROMPT_TOKENS, 0.0, time_s)
    base_w = p.draw.static_w + p.draw.memory_w * streaming
    core_w = p.draw.limit_w - base_w
    return np.array([base_w + core_w * x * power.voltage_ratio(p, x) ** 2 for x in clocks_ratio(p)])


def prefill_slowdown(p: Profile) -> Floats:
    """Return how much longer a pure prefill step takes per clock."""
    full_s = latency.prefill_step_s(p, PROMPT_TOKENS, 1.0)
    return np.array([latency.prefill_step_s(p, PROMPT_TOKENS, x) / full_s for x in clocks_ratio(p)])


def decoding(p: Profile, context_tokens: float) -> tuple[Floats, Floats]:
    """Return (watts of a board, seconds) of a decode step per batch and clock, at a mean context per sequence."""
    batches = np.maximum(np.arange(BATCH_ROWS) * BATCH_STEP, 1)
    clocks = clocks_ratio(p)
    time_s = np.array([[latency.decode_step_s(p, b, b * context_tokens, x) for x in clocks] for b in batches])
    watts = np.array(
        [
            [power.step_w(p, b, b * context_tokens, time_s[i, j], x) for j, x in enumerate(clocks)]
            for i, b in enumerate(batches)
        ]
    )
    return watts, time_s


def prompt_s(p: Profile, prompts: Floats) -> Floats:
    """Return seconds at full clock that each prompt's own prefill takes."""
    sizes, where = np.unique(prompts, return_inverse=True)
    each_s = np.array([latency.prefill_step_s(p, float(size), 1.0) for size in sizes])
    return each_s[where]
