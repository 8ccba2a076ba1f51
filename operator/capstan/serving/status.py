"""Status of a ServingPolicy: what it says, when it is written, and the events that go with it.

Who calls it: `cycle`. Written when a plan, condition or reason changes; measured figures ride along and cause a
write of their own at most once a minute, when one moved by more than 5 %. So an idle world writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from capstan import decide
from capstan.api import status
from capstan.model import plan, sample
from capstan.model.fleet import ServiceObserved
from capstan.model.plan import Effect, PolicyDecision, PoolPlan
from capstan.model.policy import Knob
from capstan.model.reasons import Reason
from capstan.serving import conditions, manifest, targets
from capstan.serving.cluster import NodePlan
from capstan.serving.conditions import Condition, Type
from capstan.serving.latencies import Latency
from capstan.serving.manifest import Manifest
from capstan.serving.outcome import Scaled
from capstan.serving.view import View

FIGURES_EVERY_S = 60.0
FIGURES_MOVED_RATIO = 0.05
DECISIONS_KEPT = 10


@dataclass(frozen=True, slots=True)
class News:
    """All that one cycle has to say of one policy."""

    view: View
    seen: ServiceObserved
    decision: PolicyDecision
    conditions: tuple[Condition, ...]
    scaled: tuple[Scaled, ...] = ()
    latencies: tuple[Latency, ...] = ()


def build(news: News, before: Manifest, plans: Mapping[str, NodePlan], *, now_s: float) -> dict[str, object]:
    """Return the whole status document that follows `before`."""
    generation = news.view.generation
    document = status.serving_status(
        news.decision,
        generation=generation,
        applied=_in_force(news.view, plans),
        observed=observed_effect(news.seen),
        edges=news.view.policy.pools.edges,
    )
    if not news.decision.pools:  # a hold: the last plan stands, with the reason of the hold
        plan = manifest.mapping(document, "plan")
        stands = {k: v for k, v in manifest.mapping(before, "plan").items() if k in ("summary", "pools")}
        document["plan"] = {**plan, **stands}
    kept = manifest.items(before, "conditions")
    document["conditions"] = conditions.merged(kept, news.conditions, generation=generation, now_s=now_s)
    changes = [*manifest.items(before, "decisions"), *_changes(news, before, now_s)]
    document["decisions"] = changes[-DECISIONS_KEPT:]
    document["targets"] = _targets(news.view, before)
    return document


def remembered(memory: plan.Memory, views: tuple[View, ...]) -> plan.Memory:
    """Return the memory with what status remembers of policies that this process has not decided yet.

    Only the clock: replicas are what the workload says, and rates, votes and cool-downs restart at their cautious end.
    """
    known = {m.policy for m in memory.policies}
    new = (v for v in views if v.key not in known)
    return plan.Memory((*memory.policies, *(_restarted(v) for v in new)))


def _restarted(view: View) -> plan.PolicyMemory:
    return plan.PolicyMemory(view.key, (plan.PoolMemory(decide.POOL, clock_cap_mhz=_planned_mhz(view.raw)),))


def _planned_mhz(raw: Manifest) -> float | None:
    pools = manifest.items(raw, "status", "plan", "pools")
    mhz = manifest.number(pools[0], "clockMegahertz") if len(pools) == 1 else None
    return None if mhz is None else float(mhz)


def scale_notes(news: News) -> tuple[tuple[str, str], ...]:
    """Return (reason, note) of an Event per workload that was scaled."""
    return tuple((s.reason.value, f"Scaled {s.workload} from {s.before} to {s.after} replicas") for s in news.scaled)


def invalid(raw: Manifest, before: Manifest, message: str, *, now_s: float) -> tuple[dict[str, object], Condition]:
    """Return the status of a policy that cannot be read: what was last so, and why nothing follows the spec."""
    generation = manifest.number(raw, "metadata", "generation") or 0
    found = Condition(Type.READY, False, Reason.INVALID_SPEC, message)
    merged = conditions.merged(manifest.items(before, "conditions"), (found,), generation=generation, now_s=now_s)
    return {**before, "observedGeneration": generation, "conditions": merged}, found


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


def _changes(news: News, before: Manifest, now_s: float) -> Iterable[Manifest]:
    """Yield an entry per knob that moved: replicas that were written, a clock that a new plan caps otherwise."""
    time = status.rfc3339(now_s)
    for s in news.scaled:
        entry = {"knob": "replicas", "from": str(s.before), "to": str(s.after), "reason": s.reason.value}
        yield {"time": time, **entry}
    if news.view.policy.knobs.clock is not Knob.ACT:
        return
    for pool in news.decision.pools:
        planned = manifest.items(before, "plan", "pools")
        old = next((p for p in planned if p.get("name") == pool.pool), None)
        was, now = _clock_word(old), _clock_word({"clockMegahertz": pool.clock_cap_mhz and int(pool.clock_cap_mhz)})
        if old is not None and was != now:
            yield {"time": time, "knob": "clock", "from": was, "to": now, "reason": news.decision.clock_reason.value}


def _clock_word(pool: Manifest | None) -> str:
    mhz = manifest.number(pool, "clockMegahertz")
    return "full" if mhz is None else f"{mhz}MHz"


def _targets(view: View, before: Manifest) -> list[dict[str, object]]:
    """Return what each target was before we touched it: recorded once, at first sight, and kept."""
    if not view.targeted:
        return []
    found: list[dict[str, object]] = []
    for pool in view.pools:
        known = targets.original_replicas({"status": before}, pool.name)
        seen = None if pool.workload is None else pool.workload.replicas
        original = known if known is not None else seen
        if original is not None:
            found.append({"name": pool.name, "originalReplicas": original})
    return found


def _core(document: Manifest) -> tuple[object, ...]:
    """Return the part of a status whose change is news; messages and figures only ride along."""
    said = [
        (c.get("type"), c.get("status"), c.get("reason"), c.get("observedGeneration"))
        for c in manifest.items(document, "conditions")
    ]
    rest = [document.get(k) for k in ("observedGeneration", "plan", "applied", "decisions", "targets")]
    rest.append({k: v for k, v in manifest.mapping(document, "advice").items() if k != "expected"})
    return (manifest.content_hash({"rest": rest}), tuple(said))


def _figures_moved(before: Manifest, now: Manifest) -> bool:
    for block in (("expected",), ("observed",), ("advice", "expected")):
        old, new = manifest.mapping(before, *block), manifest.mapping(now, *block)
        if old.keys() != new.keys():
            return True
        for name in new:
            was, is_now = manifest.number(old, name) or 0, manifest.number(new, name) or 0
            if abs(is_now - was) > FIGURES_MOVED_RATIO * max(abs(was), 1):
                return True
    return False


def _fresh(value: sample.Sample[float]) -> float | None:
    return value.value if isinstance(value, sample.Fresh) else None
