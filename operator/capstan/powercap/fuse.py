"""One figure of watts from two sources: the agents' sum drives, a meter corrects it (facts/polca.md 5.4, rule 5).

Who calls it: `step`. Must not know: levels, caps. Safe direction: the larger of two that disagree.

A meter is slow, and may be wrong in its unit. It raises the agents' sum at once; it lowers it only after many readings
that say the same. One that says what the domain cannot draw, or nearly nothing, is not believed. Nobody knows over how
long a meter averages, nor how old its reading is where Prometheus asks for an expression: it is compared with what the
agents say now, with their mean and with the most that they said lately, and only what none of them explains is a gain.
(Without the last, a reading of a spike that came when the brake had ended it was a gain of 1.25 for 30 readings.)
While a node is silent nothing is compared, since the meter still sees it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from capstan.model.sample import Fresh, Missing, Sample
from capstan.powercap.domains import MeterMemory

DIFFER_RATIO = 0.10  # facts/polca.md 5.4: two sources disagree by more than a tenth
DIFFER_SAMPLES = 3  # for three samples: then the larger counts
ABSURD_LOW_RATIO = 0.2  # of the agents' sum: kilowatts read as watts are a thousandth; idle servers read 0.9
ABSURD_HIGH_RATIO = 1.2  # of what all nodes can draw in the worst case: no feed carries more than that
MOST_RATIO = 1.25  # gains of +5 % per board and a tenth of fans and losses; what is beyond is a disagreement
LEAST_RATIO = 0.9  # a confirmed meter lowers the sum by no more: boards' gain error is 5 %, and supplies' another few
CONFIRMING = 30  # readings; with the usual meter of one a minute, half an hour
MEAN_S = 60.0  # BMCs and PDUs average over seconds to a minute (facts/polca.md 2.6)
HEARD_S = 3.0
"""By then the agents have said what a reading saw: a sample and a call, a second each, and one to spare. One that is
younger is ahead of them: what it raises is taken back where they explain it after all."""
NEAR_RATIO = 0.02  # readings that are this near to one another say the same


@dataclass(frozen=True, slots=True)
class Fused:
    """Watts to act on, and how the meter stands to the agents.

    Attributes:
        draw_w: AC watts of the nodes that were heard.
        meter_w: What the meter says; None: nothing, or nothing to be believed.
        agrees: Whether both agree; None: nothing to compare.
        memory: For the next tick.
    """

    draw_w: float
    meter_w: float | None
    agrees: bool | None
    memory: MeterMemory


def fused(
    agents_w: float, meter: Sample[float], *, most_w: float, memory: MeterMemory, now_s: float, whole: bool = True
) -> Fused:
    """Return the watts to act on.

    Args:
        agents_w: AC watts, the sum of the nodes that were heard.
        meter: AC watts of the domain's meter; Fresh drives as a second source, Stale only corrects.
        most_w: AC watts that the domain draws in the worst case.
        memory: Of the tick before.
        now_s: A clock that never goes back.
        whole: Whether every node was heard.
    """
    if isinstance(meter, Missing) or not whole:
        silent = memory.mean_s is None and not memory.differing  # nothing to forget: most domains have no meter
        after = memory if silent else replace(memory, differing=0, mean_s=None)
        return Fused(agents_w * memory.factor_ratio, None, None, after)
    mean_w = _mean_w(agents_w, memory, now_s)
    peak_w = max(agents_w, mean_w, _followed(memory.peak_w, mean_w, memory, now_s))
    absurd = not ABSURD_LOW_RATIO * agents_w < meter.value < ABSURD_HIGH_RATIO * most_w
    if agents_w <= 0 or absurd:
        agrees = False if agents_w > 0 and math.isfinite(meter.value) else None
        return Fused(
            agents_w * memory.factor_ratio, None, agrees, replace(memory, mean_w=mean_w, mean_s=now_s, peak_w=peak_w)
        )
    learnt = _learnt(meter.value, peak_w, mean_w, memory, now_s - meter.age_s, now_s)
    corrected_w = agents_w * learnt.factor_ratio
    agrees = _near(meter.value, (corrected_w, mean_w * learnt.factor_ratio, peak_w * learnt.factor_ratio))
    differing = memory.differing + 1 if isinstance(meter, Fresh) and not agrees else 0
    after = MeterMemory(
        learnt.factor_ratio,
        differing,
        learnt.agreeing,
        learnt.last_ratio,
        learnt.read_s,
        mean_w,
        now_s,
        peak_w,
        learnt.before_ratio,
    )
    trusted = differing >= DIFFER_SAMPLES
    return Fused(max(corrected_w, meter.value) if trusted else corrected_w, meter.value, agrees, after)


def _near(meter_w: float, agents_w: tuple[float, ...]) -> bool:
    """Return whether a meter is within a tenth of some figures, or between them."""
    low_w, high_w = min(agents_w), max(agents_w)
    return (1 - DIFFER_RATIO) * low_w <= meter_w and high_w >= (1 - DIFFER_RATIO) * meter_w


def _mean_w(agents_w: float, memory: MeterMemory, now_s: float) -> float:
    """Return the agents' mean; it begins anew after a tick that could not be compared."""
    return _followed(memory.mean_w, agents_w, memory, now_s)


def _followed(known_w: float, agents_w: float, memory: MeterMemory, now_s: float) -> float:
    """Return what was known, gone towards what the agents say by the time since the tick before."""
    if memory.mean_s is None:
        return agents_w
    return known_w - math.expm1((memory.mean_s - now_s) / MEAN_S) * (agents_w - known_w)


def _learnt(
    meter_w: float, peak_w: float, mean_w: float, memory: MeterMemory, read_s: float, now_s: float
) -> MeterMemory:
    """Return the memory after a reading: up at once, down when `CONFIRMING` readings said the same."""
    fresh = memory.read_s is not None and now_s - memory.read_s <= HEARD_S
    before_ratio = memory.before_ratio if fresh else memory.factor_ratio
    held = max(before_ratio, _bounded(meter_w / max(peak_w, 1.0)))
    if memory.read_s is not None and read_s <= memory.read_s + 1e-3:  # the same reading, seen again
        explained = fresh and held < memory.factor_ratio and memory.agreeing < CONFIRMING
        return replace(memory, factor_ratio=held) if explained else memory
    ratio = meter_w / max(mean_w, 1.0)
    last = memory.last_ratio
    same = last is not None and abs(ratio - last) <= NEAR_RATIO * last
    agreeing = memory.agreeing + 1 if same else 1
    factor_ratio = _bounded(ratio) if agreeing >= CONFIRMING else held
    return MeterMemory(factor_ratio, 0, agreeing, last if same else ratio, read_s, before_ratio=before_ratio)


def _bounded(ratio: float) -> float:
    return min(max(ratio, LEAST_RATIO), MOST_RATIO)
