"""What one board draws under a load, a clock cap and a board limit: the shipped profile's own physics (DESIGN 5).

Who calls it: `plant`. A busy board prefills and decodes at once, the step that a profile says draws most; a load is the
share of time in which it is busy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from capstan.api import convert
from capstan.model import power
from capstan.model.profile import Profile

PROFILE = Path(__file__).parents[3] / "policies" / "profiles" / "llama-3.1-70b-h100-sxm5-80gb-tp2.yaml"
SEQUENCES = 64  # with a chunk of 512 in the same step: 700 W at full clock, 422 W at the deep cap, 150 W at the brake
CONTEXT_TOKENS = SEQUENCES * 1500  # a conversation's usual length
CHUNK_TOKENS = 512  # DESIGN 7.1


@dataclass(frozen=True, slots=True)
class Draw:
    """One board now."""

    power_w: float
    sm_clock_mhz: float


def board() -> Profile:
    """Return the physics of the boards."""
    return convert.profile(yaml.safe_load(PROFILE.read_text(encoding="utf-8")))


@lru_cache(maxsize=4096)  # a handful of caps, limits and loads, asked for sixteen times a tick
def draw(profile: Profile, load_ratio: float, cap_mhz: int | None, limit_w: float) -> Draw:
    """Return what a board draws and at which clock.

    Args:
        profile: Its physics.
        load_ratio: Share of time in which it is busy, 0 to 1.
        cap_mhz: The highest clock that it may run at; None: any.
        limit_w: The limit that the board enforces.
    """
    cap_ratio = 1.0 if cap_mhz is None else cap_mhz / profile.clocks.max_mhz
    step = (SEQUENCES, CONTEXT_TOKENS, CHUNK_TOKENS, CHUNK_TOKENS, 0)
    ratio = power.limited_ratio(profile, *step, cap_ratio, limit_w)
    idle_w = power.idle_w(profile)
    busy_w = power.mixed_w(profile, *step, ratio)
    return Draw(idle_w + load_ratio * (busy_w - idle_w), ratio * profile.clocks.max_mhz)
