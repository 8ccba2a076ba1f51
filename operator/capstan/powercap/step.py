"""One tick of a power domain: watts in, level and caps out.

Who calls it: `power` every second, `replay` in virtual time; tests call it with any history. The law itself is
`machine`, what a level means in caps `levels`; here is what they read (`readings`, `fuse`, `safety`).
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from capstan.model.reasons import Reason
from capstan.model.sample import Missing, Sample
from capstan.powercap import fuse, levels, machine, safety
from capstan.powercap.domains import (
    LEVELS,
    RANK,
    Domain,
    DomainMemory,
    MeterMemory,
    Scheme,
    Step,
    Thresholds,
    Timers,
)
from capstan.powercap.fuse import Fused
from capstan.powercap.readings import Samples

NO_METER: Sample[float] = Missing(Reason.NO_DATA)

WHY = (
    Reason.BELOW_THRESHOLDS,
    Reason.ABOVE_LOW_THRESHOLD,
    Reason.ABOVE_HIGH_THRESHOLD,
    Reason.ABOVE_BRAKE_THRESHOLD,
    Reason.RELEASED_AFTER_DWELL,
    Reason.COOLING_DOWN,
    Reason.TELEMETRY_LOST,
    Reason.ADMISSION_FAILED,
    Reason.DISARMED,
)
"""The machine's words, in its order."""

TOP = {
    Scheme.TWO_THRESHOLDS: machine.HIGH_CAP,
    Scheme.ONE_THRESHOLD_LOW: machine.LOW_DEEP,
    Scheme.ONE_THRESHOLD_ALL: machine.LOW_DEEP,
    Scheme.NO_CAP: machine.NORMAL,
}
"""The highest level below Brake."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the samples say: AC watts, who was not heard, and whether that is too many to go by thresholds."""

    fused: Fused
    lost_w: float
    any_heard: bool
    missing: tuple[str, ...]
    blind: bool
    unsafe: bool  # the safe setting no longer fits the budget

    @property
    def projected_w(self) -> float:
        return self.fused.draw_w + self.lost_w


def step(
    domain: Domain,
    samples: Samples,
    memory: DomainMemory,
    now_s: float,
    *,
    meter: Sample[float] = NO_METER,
    confirmed: bool | None = True,
) -> Step:
    """Return the level and the caps of one domain, and what to remember.

    Args:
        domain: What was declared; `nodes` are the ones that count, samples of others are ignored.
        samples: One row per node. A node that was not heard counts at its worst case; more than the largest node not
            heard, or a node without a row, is FailSafe.
        memory: Of the tick before; a fresh `DomainMemory` starts a domain, one with a `level` restores it.
        now_s: A clock that never goes back.
        meter: AC watts of the domain's own meter.
        confirmed: Whether every cap that was sent is known to be in force. None: more watts do not obey than the law
            can do without, which is FailSafe, as where too few are heard.
    """
    reading = _read(domain, samples, meter, memory.meter, now_s)
    seen = machine.Seen(
        ratio=reading.projected_w / domain.budget_w,
        heard_ratio=reading.fused.draw_w / domain.budget_w,
        whole=not reading.missing,
        blind=reading.blind or confirmed is None,
        unsafe=reading.unsafe,
        armed=domain.armed,
        confirmed=bool(confirmed),
    )
    after, why = machine.advance(law(domain), _state(memory), seen, now_s)
    remembered = _memory(after, reading.fused.memory)
    return Step(
        level=remembered.level,
        caps=levels.caps_at(domain, remembered.level, remembered.floor, hard=after.hard),
        memory=remembered,
        measured_w=reading.fused.draw_w if reading.any_heard else None,
        projected_w=reading.projected_w,
        utilisation_ratio=seen.ratio,
        headroom_w=domain.budget_w - reading.projected_w,
        reason=WHY[why],
        missing=reading.missing,
        beyond_brake=machine.beyond(after, now_s),
        meter_w=reading.fused.meter_w,
        meter_agrees=reading.fused.agrees,
    )


def law(domain: Domain) -> machine.Law:
    """Return the machine's numbers for a domain."""
    return _law(domain.name, domain.thresholds, domain.timers, domain.scheme)


@lru_cache(maxsize=4096)  # of a few domains each, or of a thousand: frozen records, asked for every second
def _law(name: str, at: Thresholds, timers: Timers, scheme: Scheme) -> machine.Law:
    one = scheme in (Scheme.ONE_THRESHOLD_LOW, Scheme.ONE_THRESHOLD_ALL)
    return machine.Law(
        low_ratio=at.high_ratio if one else at.low_ratio,
        high_ratio=at.high_ratio,
        brake_ratio=at.brake_ratio,
        hysteresis_ratio=at.hysteresis_ratio,
        settle_s=timers.settle_s,
        dwell_s=timers.dwell_s,
        brake_hold_s=timers.brake_hold_s,
        stale_s=timers.stale_s,
        fail_safe_dwells=timers.fail_safe_dwells,
        retrip_s=timers.retrip_s,
        dwell_max_s=timers.dwell_max_s,
        spread_ratio=timers.spread_ratio,
        top=TOP[scheme],
        name=zlib.crc32(name.encode()),
    )


def _read(domain: Domain, samples: Samples, meter: Sample[float], known: MeterMemory, now_s: float) -> _Reading:
    inside = samples.of_nodes(domain.nodes)
    silent = np.isnan(inside.heard_w)
    nodes, count = len(inside.nodes), int(np.count_nonzero(silent))
    whole = not count and nodes == len(domain.nodes)
    lost_w, too_much = _lost(domain, inside, silent) if count else (0.0, False)
    heard_w = float(inside.heard_w.sum() if not count else inside.heard_w[~silent].sum())
    agents_w = (heard_w + (nodes - count) * domain.non_gpu_typical_w) / domain.supply_efficiency_ratio
    any_heard = count < nodes
    unsafe = domain.safe is not None and safety.safe_sum_w(domain, inside, domain.safe) > domain.budget_w
    return _Reading(
        fused=fuse.fused(
            agents_w, meter, most_w=safety.worst_sum_w(domain, inside), memory=known, now_s=now_s, whole=whole
        ),
        lost_w=lost_w,
        any_heard=any_heard,
        missing=() if whole else _missing(domain, inside, silent),
        blind=nodes < len(domain.nodes) or too_much or (bool(domain.nodes) and not any_heard),
        unsafe=unsafe,
    )


def _lost(domain: Domain, inside: Samples, silent: npt.NDArray[np.bool_]) -> tuple[float, bool]:
    """Return what silent nodes count for, and whether that is more than the largest node.

    Each counts at its worst case, or at what was last seen of it if that is more.
    """
    worst_w = safety.worst_w(domain, inside)
    seen_w = (inside.seen_w[silent] + domain.non_gpu_worst_w) / domain.supply_efficiency_ratio
    lost_w = float(np.maximum(worst_w[silent], seen_w).sum())
    return lost_w, lost_w > worst_w.max() + 1e-6


def _missing(domain: Domain, inside: Samples, silent: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    heard = frozenset(inside.nodes[i] for i in np.flatnonzero(~silent))
    return tuple(node for node in domain.nodes if node not in heard)


def _state(memory: DomainMemory) -> machine.State:
    return machine.State(
        RANK[memory.level],
        memory.since_s,
        _or_nan(memory.calm_since_s),
        _or_nan(memory.seen_s),
        RANK[memory.floor],
        _or_nan(memory.released_s),
        memory.retrips,
        _or_nan(memory.confirmed_s),
        _or_nan(memory.over_s),
        memory.hard,
        _or_nan(memory.braked_s),
        memory.rebrakes,
    )


def _memory(state: machine.State, meter: MeterMemory) -> DomainMemory:
    return DomainMemory(
        level=LEVELS[state.level],
        since_s=state.since_s,
        calm_since_s=_or_none(state.calm_since_s),
        seen_s=_or_none(state.seen_s),
        floor=LEVELS[state.floor],
        released_s=_or_none(state.released_s),
        retrips=state.retrips,
        confirmed_s=_or_none(state.confirmed_s),
        over_s=_or_none(state.over_s),
        hard=state.hard,
        braked_s=_or_none(state.braked_s),
        rebrakes=state.rebrakes,
        meter=meter,
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
