"""What one GPU was told, whether it is in force, and whether the GPU may leave the safe setting.

Who calls it: `cycle`. A GPU joins once its limit was read back and its clock gives no doubt; it starts outside, and is
outside again when the driver forgot (the energy counter fell, the limit is not ours any more) or the clock runs above
its cap. A clock below its cap proves nothing: no getter for locked clocks exists (facts/polca.md 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from capstan.agent.lease import NOTHING, Wanted
from capstan.model.gpu import GpuSample
from capstan.powercap.domains import SafeSetting

EFFECT_MHZ = 15.0  # one step of the clock grid: above the cap by more than this, the cap is not in force
SETTLED_S = 2.0  # a clock switch takes up to 0.5 s (facts/polca.md 3.3), the next sample comes a second later
EFFECT_W = 1.0  # the enforced limit is read in milliwatts; more than this above ours, ours is not in force


@dataclass(frozen=True, slots=True)
class Verified:
    """Whether clock cap and board limit are in force, by effect; None: none is set, or it cannot be told yet."""

    clock: bool | None = None
    limit: bool | None = None


@dataclass(slots=True)
class Held:
    """What one GPU was told and since when; `applied` is what came of it.

    Attributes:
        touched: Whether we set its clock at all.
        proved: The clock was seen at its cap since that was set.
        doubted: The clock was seen above a cap: it must be proved before the GPU joins again.
        joined: It may run above the safe setting.
    """

    touched: bool = False
    asked: Wanted = NOTHING
    applied: Wanted = NOTHING
    clock_since_s: float = 0.0
    limit_since_s: float = 0.0
    proved: bool = False
    doubted: bool = False
    joined: bool = False

    def told_clock(self, asked_mhz: float | None, set_mhz: float | None, now_s: float) -> None:
        """Keep a clock that the setter set."""
        if not self.touched or self.asked.clock_mhz != asked_mhz:
            self.clock_since_s, self.proved = now_s, False
        self.touched = True
        self.asked = Wanted(asked_mhz, self.asked.limit_w)
        self.applied = Wanted(set_mhz, self.applied.limit_w)

    def told_limit(self, limit_w: float | None, now_s: float) -> None:
        """Keep a limit that the setter set."""
        if self.asked.limit_w != limit_w:
            self.limit_since_s = now_s
        self.asked = Wanted(self.asked.clock_mhz, limit_w)
        self.applied = Wanted(self.applied.clock_mhz, limit_w)


def verified(gpu: GpuSample, held: Held, sampled_s: float) -> Verified:
    """Return what a sample says of the settings that were in place when it was taken."""
    return Verified(_clock(gpu, held, sampled_s), _limit(gpu, held, sampled_s))


def _clock(gpu: GpuSample, held: Held, sampled_s: float) -> bool | None:
    cap_mhz, clock_mhz = held.applied.clock_mhz, gpu.sm_clock_mhz
    if cap_mhz is None or clock_mhz is None or sampled_s - held.clock_since_s < SETTLED_S:
        return None
    if clock_mhz > cap_mhz + EFFECT_MHZ:
        return False
    return True if held.proved or clock_mhz >= cap_mhz - EFFECT_MHZ else None


def _limit(gpu: GpuSample, held: Held, sampled_s: float) -> bool | None:
    limit_w = held.applied.limit_w
    if limit_w is None or gpu.limit_w is None or sampled_s <= held.limit_since_s:
        return None
    return gpu.limit_w <= limit_w + EFFECT_W


def lost(held: Held, seen: Verified, *, forgot: bool) -> str:
    """Take in that settings are not in force; return what is wrong, empty where nothing is."""
    problems = {
        "was reset and forgot its settings": forgot and held.touched,
        "runs above its clock cap": seen.clock is False,
        "enforces more than its limit": seen.limit is False,
    }
    if not any(problems.values()):
        held.proved = held.proved or seen.clock is True
        return ""
    held.joined = held.proved = False
    held.doubted = held.doubted or seen.clock is False
    return " and ".join(problem for problem, true in problems.items() if true)


def join(held: Held, seen: Verified, safe: SafeSetting | None, sampled_s: float) -> None:
    """Let a GPU leave the safe setting, once that is known to be in force."""
    if held.joined or safe is None or held.asked.clock_mhz is None or held.asked.limit_w is None:
        held.joined = held.joined and safe is not None
        return
    there = held.asked.clock_mhz <= safe.clock_mhz and held.asked.limit_w <= safe.power_limit_w
    settled = sampled_s - max(held.clock_since_s, held.limit_since_s) >= SETTLED_S
    if there and settled and seen.limit is True and (held.proved or not held.doubted):
        held.joined, held.doubted = True, False
