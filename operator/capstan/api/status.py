"""The way outside: a decision or a tick of the core to the status that the CRDs describe, whole numbers only.

Who calls it: `serving` and `power`, each for its own kind. Pure builders; who writes, and when, is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from capstan import units
from capstan.model.classes import Edges
from capstan.model.plan import Effect, PolicyDecision, PoolPlan
from capstan.model.policy import DEFAULT_EDGES
from capstan.model.workload import Phase
from capstan.powercap import domains

Status = dict[str, object]

SENTENCE_CHARS = 1024  # what the CRD takes; 16 pools of three degrees each stay below
MESSAGE_CHARS = 1024  # a condition is a sentence; the API would take 32 KiB


def rfc3339(now_s: float) -> str:
    """Return epoch seconds as Kubernetes writes a time: whole seconds, UTC."""
    return datetime.fromtimestamp(int(now_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, *, holds: bool | None, reason: str, message: str, generation: int, now_s: float) -> Status:
    """Return a metav1.Condition as of now; `holds` None is Unknown. `following` keeps an older transition time."""
    return {
        "type": kind,
        "status": {True: "True", False: "False", None: "Unknown"}[holds],
        "reason": reason,
        "message": message[:MESSAGE_CHARS],
        "observedGeneration": generation,
        "lastTransitionTime": rfc3339(now_s),
    }


def following(before: Iterable[Mapping[str, object]], now: Iterable[Status]) -> list[Status]:
    """Return `now` with the transition times of `before` wherever the status did not change."""
    known = {c.get("type"): c for c in before}
    merged: list[Status] = []
    for fresh in now:
        old = known.get(fresh["type"])
        same = old is not None and old.get("status") == fresh["status"] and old.get("lastTransitionTime")
        merged.append({**fresh, "lastTransitionTime": old["lastTransitionTime"]} if old and same else fresh)
    return merged


def summary(pools: Iterable[PoolPlan]) -> str:
    """Return a plan in a word: `3xtp4@1410MHz`, without a clock where there is no cap; `-` where there is no plan.

    A pool of some classes only, or of one phase, has its name before it: `sm:3xtp4 l:2xtp8`. At most SENTENCE_CHARS.
    """
    return " ".join(_word(pool) for pool in pools)[:SENTENCE_CHARS] or "-"


def effect(figures: Effect) -> Status:
    """Return watts, energy and latency; what is unknown is left out."""
    found = {
        "powerWatts": _whole(figures.power_w),
        "millijoulesPerOutputToken": _thousandths(figures.j_per_output_token),
        "ttftMilliseconds": _thousandths(figures.ttft_s),
        "tpotMilliseconds": _thousandths(figures.tpot_s),
    }
    return {key: value for key, value in found.items() if value is not None}


def serving_status(
    decision: PolicyDecision,
    *,
    generation: int,
    applied: Iterable[PoolPlan],
    observed: Effect,
    edges: Edges = DEFAULT_EDGES,
) -> Status:
    """Return a ServingPolicy's status without its lists of conditions, decisions and targets, which have a history."""
    in_force = tuple(applied)
    found: Status = {
        "observedGeneration": generation,
        "plan": {
            "summary": summary(decision.pools),
            "replicasReason": decision.replicas_reason.value,
            "clockReason": decision.clock_reason.value,
            "tensorParallelReason": decision.tp_reason.value,
            "pools": [_pool(pool, edges) for pool in decision.pools],
            **({"shedPercent": units.percent_of_ratio(decision.power.shed_ratio)} if decision.power.shed_ratio else {}),
        },
        "applied": {"summary": summary(in_force), "pools": [_pool(pool, edges) for pool in in_force]},
        "expected": effect(decision.expected),
        "observed": effect(observed),
    }
    return found if not decision.advice else {**found, "advice": _advice(decision, edges)}


@dataclass(frozen=True, slots=True)
class DomainFigures:
    """What a PowerDomain's status holds beside the step; None: not known yet."""

    budget_w: float
    capped_gpus: int
    safe_sum_w: float | None = None
    lost_node_w: float | None = None
    nameplate_w: float | None = None
    lost_feeds: tuple[str, ...] = ()
    strategy: domains.Strategy | None = None
    granted_w: float | None = None
    held_w: float | None = None
    silent_held_w: float | None = None


def domain_status(step: domains.Step, figures: DomainFigures, *, generation: int) -> Status:
    """Return a PowerDomain's status without its conditions; headroom and budget round down, draws round up."""
    found: Status = {
        "observedGeneration": generation,
        "measuredWatts": _ceiling(step.measured_w),
        "projectedWatts": _ceiling(step.projected_w),
        "headroomWatts": int(step.headroom_w // 1),
        "budgetInForceWatts": int(figures.budget_w),
        "state": step.level.value,
        "cappedGPUs": figures.capped_gpus,
        "safeSumWatts": _ceiling(figures.safe_sum_w),
        "lostNodeWatts": _ceiling(figures.lost_node_w),
        "nameplateWatts": _ceiling(figures.nameplate_w),
        "lostFeeds": list(figures.lost_feeds) or None,
        "strategy": None if figures.strategy is None else figures.strategy.value,
        "grantedWatts": _ceiling(figures.granted_w),
        "heldWatts": _ceiling(figures.held_w),
        "silentHeldWatts": _ceiling(figures.silent_held_w),
    }
    return {key: value for key, value in found.items() if value is not None}


def _word(pool: PoolPlan) -> str:
    clock = "" if pool.clock_cap_mhz is None else f"@{pool.clock_cap_mhz:.0f}MHz"
    name = f"{pool.pool}:" if pool.classes or pool.phase is not Phase.BOTH else ""
    return f"{name}{pool.replicas}xtp{pool.tp}{clock}"


def _advice(decision: PolicyDecision, edges: Edges) -> Status:
    reason = {} if decision.advice_reason is None else {"reason": decision.advice_reason.value}
    return {
        "summary": summary(decision.advice),
        **reason,
        "pools": [_pool(pool, edges) for pool in decision.advice],
        "expected": effect(decision.advice_expected),
    }


def _pool(pool: PoolPlan, edges: Edges) -> Status:
    """Return one entry; a pool that serves every class names none."""
    clock = {} if pool.clock_cap_mhz is None else {"clockMegahertz": int(pool.clock_cap_mhz)}
    classes = {"classes": [edges.name(code) for code in pool.classes]} if pool.classes else {}
    return {"name": pool.pool, **classes, "tensorParallel": pool.tp, "replicas": pool.replicas, **clock}


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _thousandths(value: float | None) -> int | None:
    return None if value is None else units.milliseconds_of_seconds(value)


def _ceiling(value: float | None) -> int | None:
    return None if value is None else int(-(-value // 1))
