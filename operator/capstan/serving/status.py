"""Status of a ServingPolicy: what it says, when it is written, and the events that go with it.

Who calls it: `cycle`. Written when a plan, condition or reason changes; measured figures ride along and cause a
write of their own at most once a minute, when one moved by more than 5 %. So an idle world writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from capstan.model import sample
from capstan.model.fleet import ServiceObserved
from capstan.model.plan import Effect, PolicyDecision, PoolPlan
from capstan.serving import actuate, conditions, manifest
from capstan.serving.actuate import Scaled
from capstan.serving.cluster import NodePlan
from capstan.serving.conditions import Condition
from capstan.serving.manifest import Manifest
from capstan.serving.view import View

FIGURES_EVERY_S = 60.0
FIGURES_MOVED_RATIO = 0.05
DECISIONS_KEPT = 10


@dataclass(frozen=True, slots=True)
class ClockChange:
    """A clock cap that a plan changed; None is full clock."""

    before_mhz: float | None
    after_mhz: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class News:
    """All that one cycle has to say of one policy."""

    view: View
    seen: ServiceObserved
    decision: PolicyDecision
    conditions: tuple[Condition, ...]
    scaled: tuple[Scaled, ...] = ()
    clock_change: ClockChange | None = None


def build(news: News, before: Manifest, plans: Mapping[str, NodePlan], *, now_s: float) -> dict[str, object]:
    """Return the whole status document that follows `before`."""
    generation = news.view.generation
    merged = conditions.merged(
        manifest.items(before, "conditions"), news.conditions, generation=generation, now_s=now_s
    )
    changes = [*manifest.items(before, "decisions"), *_changes(news, now_s)][-DECISIONS_KEPT:]
    document: dict[str, object] = {
        "observedGeneration": generation,
        "plan": _plan(news.decision, before),
        "applied": _pools_block(_in_force(news.view, plans)),
        "expected": effect(news.decision.expected),
        "observed": effect(observed_effect(news.seen)),
        "decisions": changes,
        "targets": _targets(news.view, before),
        "conditions": merged,
    }
    return {k: v for k, v in document.items() if v not in (None, {}, [])}


def due(before: Manifest, now: Manifest, *, age_s: float) -> bool:
    """Return whether `now` is worth a write over `before`, which was written `age_s` ago."""
    if _core(before) != _core(now):
        return True
    return age_s >= FIGURES_EVERY_S and _figures_moved(before, now)


def observed_effect(seen: ServiceObserved) -> Effect:
    """Return what was measured, None where nothing fresh was."""
    power_w, tokens = _fresh(seen.power_w), _fresh(seen.output_tokens_per_s)
    energy_j = power_w / tokens if power_w is not None and tokens else None
    return Effect(power_w, energy_j, _fresh(seen.ttft_s), _fresh(seen.tpot_s))


def effect(value: Effect) -> dict[str, int]:
    """Return an effect as status integers; what is unknown is left out."""
    figures = {
        "powerWatts": value.power_w,
        "millijoulesPerOutputToken": _thousand(value.j_per_output_token),
        "ttftMilliseconds": _thousand(value.ttft_s),
        "tpotMilliseconds": _thousand(value.tpot_s),
    }
    return {name: round(figure) for name, figure in figures.items() if figure is not None}


def summary(pools: Iterable[PoolPlan]) -> str:
    """Return pools in a word, such as `3xtp4@1410MHz`; no `@` is full clock."""
    return " ".join(
        f"{p.replicas}xtp{p.tp}" + ("" if p.clock_cap_mhz is None else f"@{p.clock_cap_mhz:.0f}MHz") for p in pools
    )


def _plan(decision: PolicyDecision, before: Manifest) -> Manifest | dict[str, object]:
    """Return the plan block; a hold without a plan keeps the last one, with the reason of the hold."""
    reasons = {"replicasReason": decision.replicas_reason.value, "clockReason": decision.clock_reason.value}
    if not decision.pools:
        kept = manifest.mapping(before, "plan")
        return {**kept, "summary": manifest.text(kept, "summary") or "held", **reasons}
    return {**_pools_block(decision.pools), **reasons}


def _pools_block(pools: tuple[PoolPlan, ...]) -> dict[str, object]:
    if not pools:
        return {}
    return {
        "summary": summary(pools),
        "pools": [
            {
                "name": p.pool,
                "tensorParallel": p.tp,
                "replicas": p.replicas,
                **({} if p.clock_cap_mhz is None else {"clockMegahertz": int(p.clock_cap_mhz)}),
            }
            for p in pools
        ],
    }


def _in_force(view: View, plans: Mapping[str, NodePlan]) -> tuple[PoolPlan, ...]:
    """Return what serves now: Ready pods, and the clock that the loosest of them is capped at."""
    caps = {(e.namespace, e.name): e.clock_mhz for plan in plans.values() for e in plan.pods}
    found = []
    for pool in view.pools:
        if pool.workload is None:
            continue
        held = [caps.get((p.namespace, p.name)) for p in pool.pods if p.serving]
        known = [cap for cap in held if cap is not None]
        cap_mhz = float(max(known)) if known and len(known) == len(held) else None
        found.append(PoolPlan(pool.name, pool.tp, pool.ready, cap_mhz))
    return tuple(found)


def _changes(news: News, now_s: float) -> Iterable[Manifest]:
    """Yield an entry per knob that moved."""
    time = conditions.rfc3339(now_s)
    for s in news.scaled:
        entry = {"knob": "replicas", "from": str(s.before), "to": str(s.after), "reason": s.reason.value}
        yield {"time": time, **entry}
    change = news.clock_change
    if change is not None:
        entry = {"from": _clock_word(change.before_mhz), "to": _clock_word(change.after_mhz), "reason": change.reason}
        yield {"time": time, "knob": "clock", **entry}


def _clock_word(mhz: float | None) -> str:
    return "full" if mhz is None else f"{mhz:.0f}MHz"


def _targets(view: View, before: Manifest) -> list[dict[str, object]]:
    """Return what each target was before we touched it: recorded once, at first sight, and kept."""
    if not view.targeted:
        return []
    found: list[dict[str, object]] = []
    for pool in view.pools:
        known = actuate.original_replicas({"status": before}, pool.name)
        seen = None if pool.workload is None else pool.workload.replicas
        original = known if known is not None else seen
        if original is not None:
            found.append({"name": pool.name, "originalReplicas": original})
    return found


def _core(status: Manifest) -> tuple[object, ...]:
    """Return the part of a status whose change is news; messages and figures only ride along."""
    said = [
        (c.get("type"), c.get("status"), c.get("reason"), c.get("observedGeneration"))
        for c in manifest.items(status, "conditions")
    ]
    rest = (status.get(k) for k in ("observedGeneration", "plan", "applied", "decisions", "targets"))
    return (manifest.content_hash({"rest": list(rest)}), tuple(said))


def _figures_moved(before: Manifest, now: Manifest) -> bool:
    for block in ("expected", "observed"):
        old, new = manifest.mapping(before, block), manifest.mapping(now, block)
        if old.keys() != new.keys():
            return True
        for name in new:
            was, is_now = manifest.number(old, name) or 0, manifest.number(new, name) or 0
            if abs(is_now - was) > FIGURES_MOVED_RATIO * max(abs(was), 1):
                return True
    return False


def _fresh(value: sample.Sample[float]) -> float | None:
    return value.value if isinstance(value, sample.Fresh) else None


def _thousand(value: float | None) -> float | None:
    return None if value is None else value * 1000.0
