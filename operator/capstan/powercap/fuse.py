"""One figure of watts from two sources: the agents' sum drives, a meter corrects it (facts/polca.md 5.4, rule 5).

Who calls it: `step`. Must not know: levels, caps. Safe direction: the larger of two that disagree.

A meter is slow, and may be wrong in its unit. It raises the agents' sum at once; it lowers it only after many readings
that say the same. One that says what the domain cannot draw, or nearly nothing, is not believed.
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


def fused(agents_w: float, meter: Sample[float], *, most_w: float, memory: MeterMemory, now_s: float) -> Fused:
    """Return the watts to act on.

    Args:
        agents_w: AC watts, the sum of the nodes that were heard.
        meter: AC watts of the domain's meter; Fresh drives as a second source, Stale only corrects.
        most_w: AC watts that the domain draws in the worst case.
        memory: Of the tick before.
        now_s: A clock that never goes back.
    """
    if isinstance(meter, Missing):
        return Fused(agents_w * memory.factor_ratio, None, None, replace(memory, differing=0))
    if not math.isfinite(meter.value) or agents_w <= 0:
        return Fused(agents_w * memory.factor_ratio, None, None, memory)
    if not ABSURD_LOW_RATIO * agents_w < meter.value < ABSURD_HIGH_RATIO * most_w:
        return Fused(agents_w * memory.factor_ratio, None, False, memory)
    after = _learnt(meter.value / agents_w, memory, now_s - meter.age_s)
    corrected_w = agents_w * after.factor_ratio
    if not isinstance(meter, Fresh):
        return Fused(corrected_w, meter.value, _near(meter.value, corrected_w), replace(after, differing=0))
    differs = not _near(meter.value, corrected_w)
    after = replace(after, differing=after.differing + 1 if differs else 0)
    trusted = after.differing >= DIFFER_SAMPLES
    return Fused(max(corrected_w, meter.value) if trusted else corrected_w, meter.value, not differs, after)


def _near(one_w: float, other_w: float) -> bool:
    return abs(one_w - other_w) <= DIFFER_RATIO * max(one_w, other_w)


def _learnt(ratio: float, memory: MeterMemory, read_s: float) -> MeterMemory:
    """Return the memory after a reading: up at once, down when `CONFIRMING` readings said the same."""
    if memory.read_s is not None and read_s <= memory.read_s + 1e-3:
        return memory  # the same reading, seen again
    same = memory.last_ratio is not None and abs(ratio - memory.last_ratio) <= NEAR_RATIO * memory.last_ratio
    agreeing = memory.agreeing + 1 if same else 1
    anchor = memory.last_ratio if same and memory.last_ratio is not None else ratio
    wanted = min(max(ratio, LEAST_RATIO), MOST_RATIO)
    held = max(memory.factor_ratio, wanted)
    return replace(
        memory,
        factor_ratio=wanted if agreeing >= CONFIRMING else held,
        agreeing=agreeing,
        last_ratio=anchor,
        read_s=read_s,
    )
