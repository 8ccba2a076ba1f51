"""The domain that is planned for: its thresholds and caps as declared, or as its own trace and profile ask for.

Who calls it: `planned`. Must not know: how many servers there will be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from capstan.model.sample import Missing
from capstan.powercap import derive
from capstan.powercap.derive import Derived
from capstan.powercap.domains import Caps, Domain
from capstan.replay.plan.clocked import Clocked, Clocks
from capstan.replay.plan.tape import WEEK_S, Tape
from capstan.replay.row import score
from capstan.replay.row.systems import Path
from capstan.replay.runs import Floats

BRAKE_RATIO = Caps().brake_mhz / 1980  # the default brake clock over the H100's maximum that it was written for


@dataclass(frozen=True, slots=True)
class Declared:
    """What the file says.

    Attributes:
        domain: Its budget, watts beside the GPUs, thresholds and caps.
        thresholds, caps: Whether it names them; what it does not name is derived.
    """

    domain: Domain
    thresholds: bool
    caps: bool


@dataclass(frozen=True, slots=True)
class Held:
    """The domain with its law, and what its thresholds rest on; None: they were declared."""

    domain: Domain
    derived: Derived | None
    caps_derived: bool


@dataclass(frozen=True, slots=True)
class Saving:
    """What caps can act on: GPUs' watts above idle as a share of the highest draw, and low priority's part."""

    above_idle_ratio: float
    low_ratio: float


def part_s(tape: Tape) -> int:
    """Return how much of a trace thresholds are derived from: its first half, a week at most.

    What follows they have not seen; the plan is made on all of it.
    """
    return min(len(tape.watts) // 2, WEEK_S)


def of(declared: Declared, tape: Tape, clocks: Clocks, path: Path, saving: Saving) -> Held:
    """Return the domain with thresholds and caps.

    Args:
        declared: The file.
        tape: Its trace, without caps.
        clocks: What they do to each priority.
        path: Its latencies.
        saving: What a step of the ladder can take at the most.

    Raises:
        ValueError: The first part of the trace holds no sample.
    """
    domain = declared.domain
    if not declared.caps:
        domain = replace(domain, caps=caps(clocks))
    if declared.thresholds:
        return Held(domain, None, not declared.caps)
    period_s = max(round(tape.period_s), 1)
    found = derive.thresholds(
        tape.watts[: part_s(tape) : period_s],
        float(period_s),
        path.latency_s,
        domain.budget_w,
        float(path.sample_s + path.lag_s + path.brake_s),
        saving_ratio=saving.above_idle_ratio * most_step_ratio(domain.caps, clocks, saving.low_ratio),
    )
    match found:
        case Missing():
            raise ValueError("the trace's first half holds no sample; name thresholds, or give one without the gap")
        case _:
            return Held(replace(domain, thresholds=found.thresholds), found, not declared.caps)


def caps(clocks: Clocks) -> Caps:
    """Return caps as deep as each priority's slowdown allows (facts/polca.md 1.4, 1.5).

    The first cap of low priority may be in force for ever, so it keeps what is allowed at p50. Its deep one, and
    high priority's, keep for every service what is allowed at p99.
    """
    deep = _deepest(clocks.low, clocks.low.slowdown_ratio.max(axis=0), score.POLCA_LOW.p99_ratio)
    base = _deepest(clocks.low, clocks.low.median_slowdown_ratio, score.POLCA_LOW.p50_ratio)
    high = _deepest(clocks.high, clocks.high.slowdown_ratio.max(axis=0), score.POLCA_HIGH.p99_ratio)
    grid = clocks.low.clocks_mhz
    brake = float(grid[clocks.low.index(float(grid[-1]) * BRAKE_RATIO)])
    return Caps(low_base_mhz=max(base, deep), low_deep_mhz=deep, high_mhz=max(high, deep), brake_mhz=min(brake, deep))


def _deepest(clocked: Clocked, slowdown_ratio: Floats, allowed_ratio: float) -> float:
    slow = dict(zip(clocked.clocks_mhz.tolist(), slowdown_ratio.tolist(), strict=True))
    return derive.deepest_mhz(slow, slow.__getitem__, allowed_ratio)


def most_step_ratio(at: Caps, clocks: Clocks, low_ratio: float) -> float:
    """Return the most that one step of the ladder takes off the GPUs' watts above idle."""
    base, deep = (clocks.low.kept(mhz) for mhz in (at.low_base_mhz, at.low_deep_mhz))
    high = clocks.high.kept(at.high_mhz)
    return max(low_ratio * (1 - base), low_ratio * (base - deep), (1 - low_ratio) * (1 - high))
