"""One tick of a power domain: watts in, level and caps out (POLCA's two thresholds, hysteresis and brake).

Who calls it: `power` every second, `replay` in virtual time; tests call it with any history. The law is
facts/polca.md 5.2-5.3. Up at once, levels may be skipped; down one level after a dwell in which every node was heard
and every sample lay under the release line. Safe direction when blind: keep the budget.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

from capstan.model.reasons import Reason
from capstan.model.sample import Fresh, Stale
from capstan.powercap import safety
from capstan.powercap.domains import (
    LADDER,
    NO_CAPS,
    ClassCaps,
    Domain,
    DomainMemory,
    Level,
    NodeSample,
    Step,
    tightest,
)

_REASON = {
    Level.NORMAL: Reason.BELOW_THRESHOLDS,
    Level.LOW_BASE: Reason.ABOVE_LOW_THRESHOLD,
    Level.LOW_DEEP: Reason.ABOVE_HIGH_THRESHOLD,
    Level.HIGH_CAP: Reason.ABOVE_HIGH_THRESHOLD,
    Level.BRAKE: Reason.ABOVE_BRAKE_THRESHOLD,
}

MAX_DOUBLINGS = 16
"""Far past `dwell_max_s` for any dwell: keeps the power of two finite after years of re-trips."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the samples say: AC watts, who was not heard, and whether that is too many to go by thresholds."""

    measured_w: float | None
    projected_w: float
    missing: tuple[str, ...]
    blind: bool
    brakes_unsafe: bool  # the safe setting no longer fits the budget


@dataclass(frozen=True, slots=True)
class _Verdict:
    level: Level
    reason: Reason


def step(domain: Domain, samples: tuple[NodeSample, ...], memory: DomainMemory, now_s: float) -> Step:
    """Return the level and the caps of one domain, and what to remember.

    Args:
        domain: What was declared; `nodes` are the ones that count, samples of others are ignored.
        samples: One per node. A node that is not Fresh counts at its worst case; more than the largest node not
            heard, or a node without a sample, is FailSafe.
        memory: Of the tick before; a fresh `DomainMemory` starts a domain, one with a `level` restores it.
        now_s: A clock that never goes back.
    """
    reading = _read(domain, samples)
    ratio = reading.projected_w / domain.budget_w
    known = _with_calm(domain, reading, memory, now_s)
    verdict = _judge(domain, reading, known, now_s)
    after = _moved(domain, known, verdict.level, now_s)
    return Step(
        level=verdict.level,
        caps=caps_at(domain, verdict.level, after.floor),
        memory=after,
        measured_w=reading.measured_w,
        projected_w=reading.projected_w,
        utilisation_ratio=ratio,
        headroom_w=domain.budget_w - reading.projected_w,
        reason=verdict.reason,
        missing=reading.missing,
    )


def caps_at(domain: Domain, level: Level, floor: Level = Level.NORMAL) -> ClassCaps:
    """Return the caps of a level; FailSafe is never looser than `floor`, the level it was entered from."""
    caps, limit_w = domain.caps, domain.safe.power_limit_w if domain.safe else None
    match level:
        case Level.LOW_BASE:
            return ClassCaps(low_mhz=caps.low_base_mhz)
        case Level.LOW_DEEP:
            return ClassCaps(low_mhz=caps.low_deep_mhz)
        case Level.HIGH_CAP:
            return ClassCaps(caps.low_deep_mhz, caps.high_mhz)
        case Level.BRAKE:
            return ClassCaps(caps.brake_mhz, caps.brake_mhz, limit_w)
        case Level.FAIL_SAFE:
            blind = ClassCaps(caps.low_deep_mhz, caps.high_mhz, limit_w)
            return tightest(blind, caps_at(domain, floor))
        case Level.NORMAL | Level.DISARMED:
            return NO_CAPS


def _read(domain: Domain, samples: tuple[NodeSample, ...]) -> _Reading:
    by_node = {sample.node: sample for sample in samples}
    inside = [by_node[node] for node in domain.nodes if node in by_node]
    heard = {sample.node: watts for sample in inside if (watts := _fresh_w(sample)) is not None}
    silent = [sample for sample in inside if sample.node not in heard]
    measured_w = sum((w + domain.non_gpu_typical_w) / domain.supply_efficiency_ratio for w in heard.values())
    lost_w = sum(_silent_w(domain, sample) for sample in silent)
    largest_w = max((safety.worst_w(domain, sample) for sample in inside), default=0.0)
    unknown = len(inside) < len(domain.nodes)
    unsafe = domain.safe is not None and safety.safe_sum_w(domain, samples, domain.safe) > domain.budget_w
    return _Reading(
        measured_w=measured_w if heard else None,
        projected_w=measured_w + lost_w,
        missing=tuple(node for node in domain.nodes if node not in heard),
        blind=unknown or lost_w > largest_w + 1e-6 or (bool(domain.nodes) and not heard),
        brakes_unsafe=unsafe,
    )


def _fresh_w(sample: NodeSample) -> float | None:
    """Return a node's GPU watts where they may drive: fresh, finite, not negative."""
    match sample.gpus_w:
        case Fresh(value) if math.isfinite(value) and value >= 0:
            return value
    return None


def _silent_w(domain: Domain, sample: NodeSample) -> float:
    """Return AC watts that a silent node counts as: its worst case, or more where more was seen."""
    seen_w = sample.gpus_w.value if isinstance(sample.gpus_w, Stale) and math.isfinite(sample.gpus_w.value) else 0.0
    return max(safety.worst_w(domain, sample), (seen_w + domain.non_gpu_worst_w) / domain.supply_efficiency_ratio)


def _rank(level: Level) -> int:
    return LADDER.index(level)


def _demanded(domain: Domain, watts: float) -> Level:
    """Return the level that watts alone ask for, at once."""
    ratio, at = watts / domain.budget_w, domain.thresholds
    if ratio >= at.brake_ratio:
        return Level.BRAKE
    if ratio >= at.high_ratio:
        return Level.LOW_DEEP
    return Level.LOW_BASE if ratio >= at.low_ratio else Level.NORMAL


def _judge(domain: Domain, reading: _Reading, memory: DomainMemory, now_s: float) -> _Verdict:
    if not domain.armed:
        return _Verdict(Level.DISARMED, Reason.DISARMED)
    if reading.brakes_unsafe:
        return _Verdict(Level.BRAKE, Reason.ADMISSION_FAILED)
    if reading.blind:
        # What was heard may be enough to brake on; the rest is a guess and only fails safe.
        heard = _demanded(domain, reading.measured_w or 0.0)
        if heard is Level.BRAKE:
            return _Verdict(Level.BRAKE, Reason.ABOVE_BRAKE_THRESHOLD)
        return _Verdict(Level.FAIL_SAFE, Reason.TELEMETRY_LOST)
    demanded = _demanded(domain, reading.projected_w)
    if memory.level is Level.FAIL_SAFE:
        return _leaving_fail_safe(domain, demanded, memory, now_s)
    current = Level.NORMAL if memory.level is Level.DISARMED else memory.level
    return _on_ladder(domain, reading, replace(memory, level=current), demanded, now_s)


def _leaving_fail_safe(domain: Domain, demanded: Level, memory: DomainMemory, now_s: float) -> _Verdict:
    """Leave FailSafe for the ladder's upper half, from where it steps down as always."""
    if demanded is Level.BRAKE:
        return _Verdict(Level.BRAKE, Reason.ABOVE_BRAKE_THRESHOLD)
    if not _dwelt(domain, memory, now_s):
        return _Verdict(Level.FAIL_SAFE, Reason.TELEMETRY_LOST)
    return _Verdict(max(Level.HIGH_CAP, memory.floor, key=_rank), Reason.RELEASED_AFTER_DWELL)


def _on_ladder(domain: Domain, reading: _Reading, memory: DomainMemory, demanded: Level, now_s: float) -> _Verdict:
    current = memory.level
    if _rank(demanded) > _rank(current):
        return _Verdict(demanded, _REASON[demanded])
    if current is demanded is Level.LOW_DEEP and now_s - memory.since_s >= domain.timers.settle_s:
        return _Verdict(Level.HIGH_CAP, Reason.ABOVE_HIGH_THRESHOLD)
    if current is not Level.NORMAL and _dwelt(domain, memory, now_s):
        return _Verdict(LADDER[_rank(current) - 1], Reason.RELEASED_AFTER_DWELL)
    if demanded is current or (current is Level.HIGH_CAP and demanded is Level.LOW_DEEP):
        return _Verdict(current, _REASON[current])
    return _Verdict(current, Reason.TELEMETRY_LOST if reading.missing else Reason.COOLING_DOWN)


def _with_calm(domain: Domain, reading: _Reading, memory: DomainMemory, now_s: float) -> DomainMemory:
    """Return the memory with its calm window begun, kept or broken by this tick's reading."""
    paused = memory.seen_s is not None and now_s - memory.seen_s > domain.timers.stale_s
    line = _release_ratio(domain, memory.level)
    entered_now = memory.seen_s == memory.since_s == now_s  # calm is counted from the tick after a level was entered
    calm = not reading.missing and reading.projected_w / domain.budget_w < line and not entered_now
    kept = memory.calm_since_s if memory.calm_since_s is not None and not paused else now_s
    return replace(memory, calm_since_s=kept if calm else None, seen_s=now_s)


def _release_ratio(domain: Domain, level: Level) -> float:
    """Return the share of the budget below which a level may be released."""
    at = domain.thresholds
    match level:
        case Level.LOW_BASE:
            return at.low_ratio - at.hysteresis_ratio
        case Level.LOW_DEEP | Level.HIGH_CAP:
            return at.high_ratio - at.hysteresis_ratio
        case Level.BRAKE:
            return at.high_ratio
        case _:
            return math.inf  # FailSafe asks only that every node is heard


def _dwelt(domain: Domain, memory: DomainMemory, now_s: float) -> bool:
    if memory.calm_since_s is None:
        return False
    return now_s - max(memory.calm_since_s, memory.since_s) >= _dwell_s(domain, memory)


def _dwell_s(domain: Domain, memory: DomainMemory) -> float:
    """Return the wait before `memory.level` is released: its timer, backed off and spread."""
    timers = domain.timers
    backed_off_s = min(
        timers.dwell_s * 2.0 ** min(memory.retrips, MAX_DOUBLINGS), max(timers.dwell_max_s, timers.dwell_s)
    )
    match memory.level:
        case Level.BRAKE:
            base_s = timers.brake_hold_s
        case Level.FAIL_SAFE:
            base_s = timers.fail_safe_dwells * timers.dwell_s
        case _:
            base_s = backed_off_s
    # A hash, not a random number: the core is pure, and a recorded tick decides the same again.
    share = zlib.crc32(f"{domain.name}/{memory.level}/{memory.retrips}".encode()) / 2**32
    return base_s * (1 + timers.spread_ratio * share)


def _moved(domain: Domain, memory: DomainMemory, level: Level, now_s: float) -> DomainMemory:
    """Return the memory after the verdict: unchanged timers where the level stays, new ones where it moves."""
    if level is memory.level:
        return memory
    moved = replace(memory, level=level, since_s=now_s, calm_since_s=None)
    if level is Level.FAIL_SAFE:
        return replace(moved, floor=memory.level if memory.level in LADDER else Level.NORMAL)
    if level is Level.DISARMED or memory.level not in LADDER:
        return replace(moved, released_s=None, retrips=0)
    if _rank(level) < _rank(memory.level):
        return replace(moved, released_s=now_s)
    if memory.released_s is None:
        return moved
    again = now_s - memory.released_s <= domain.timers.retrip_s
    return replace(moved, released_s=None, retrips=memory.retrips + 1 if again else 0)
