"""Makes the plan so, as far as each knob allows: apply, scale, clock; every step idempotent.

Who calls it: `cycle`, once a policy a cycle, then once for all node plans. Safe direction when blind or refused:
keep the SLO, so capacity stays as it is and caps of ours are given up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from capstan.model.plan import PolicyDecision, PoolPlan
from capstan.model.policy import Knob
from capstan.model.reasons import Reason
from capstan.serving import clocks, cluster, manifest, names, objects, ports, targets
from capstan.serving.applied import LAG_S, Applier
from capstan.serving.cluster import NodePlan, Pod, PodClock
from capstan.serving.conditions import Condition, Type
from capstan.serving.manifest import Manifest
from capstan.serving.outcome import Outcome, Scaled
from capstan.serving.view import Pool, View, missing_pool

COST_PODS = 50  # pods whose deletion cost is written in one scale-down; a larger pool removes the rest as it likes
NODE_WRITES = 8  # NodeCaps written at the same time; a clock change of a large pool touches every node


class Actuator:
    """Acts for policies. `now_s` is the monotonic clock of the process."""

    def __init__(self, writer: ports.Writer, now_s: Callable[[], float]) -> None:
        self._writer = writer
        self._now_s = now_s
        self._applier = Applier(writer, now_s)
        self._plans: dict[str, tuple[NodePlan, float]] = {}

    async def act(
        self, view: View, decision: PolicyDecision, live: Mapping[str, str], running: Mapping[str, float]
    ) -> Outcome:
        """Bring one policy's objects and replicas to the plan.

        Args:
            view: The policy and what is there.
            decision: Its plan; no pools: leave everything as it is.
            live: `fields_hash` of cached Services and PodDisruptionBudgets by `Kind/namespace/name`.
            running: Requests in each pod, by pod key, as far as known: a scale-down removes the idlest first.
        """
        if view.targeted:
            return await self._act_on_targets(view, decision, running)
        pools, engine, refused = await self._ensure(view, decision, live)
        done = await self._scale_all(view, pools, decision.replicas_reason, running, (engine,))
        return replace(done, refused=(*refused, *done.refused))

    async def release(self, raw: Manifest, pools: tuple[Pool, ...]) -> None:
        """Give a deleted policy's targets back as they were found, then let the policy go.

        Raises:
            Refused: Try again next cycle; the finalizer stays until the targets are restored.
        """
        if names.RELEASE_FINALIZER not in targets.finalizers(raw):
            return
        acts = manifest.text(raw, "spec", "knobs", "replicas") == Knob.ACT
        for pool in pools:
            before = targets.original_replicas(raw, pool.name)
            if not acts or pool.autoscaler is not None or pool.workload is None or before is None:
                continue  # somebody else owns replicas now, or there is nothing to restore
            if before != pool.workload.replicas:
                version = pool.workload.resource_version
                await self._writer.scale(pool.workload_key, before, resource_version=version)
        await self._writer.apply(targets.finalizer_document(raw, held=False))

    async def clock(
        self, wanted: Iterable[tuple[str, PodClock]], plans: Mapping[str, NodePlan]
    ) -> tuple[int, tuple[str, ...]]:
        """Write the node plans that changed; return how many, and the messages of those that were refused."""
        due = clocks.changed(wanted, {node: self._in_force(node, plans.get(node)) for node in {*plans, *self._plans}})
        turn = asyncio.Semaphore(NODE_WRITES)
        refused = await asyncio.gather(*(self._write_plan(plan, turn) for plan in due))
        messages = tuple(message for message in refused if message)
        return len(due) - len(messages), messages

    def forget(self, kept_uids: frozenset[str]) -> None:
        """Forget what belonged to policies that are gone."""
        self._applier.forget(kept_uids)

    async def _write_plan(self, plan: NodePlan, turn: asyncio.Semaphore) -> str:
        async with turn:
            try:
                await self._writer.apply(clocks.document(plan))
            except ports.Refused as refused:
                return f"NodeCap {plan.node}: {refused}"
        self._plans[plan.node] = (plan, self._now_s())
        return ""

    def _in_force(self, node: str, cached: NodePlan | None) -> NodePlan:
        """Return a node's plan: our own last one until the cache had time to see it; its number never falls."""
        cached = cached or NodePlan(node, 0, ())
        own, written_s = self._plans.get(node, (cached, 0.0))
        if own.sequence <= cached.sequence:
            return cached
        fresh = self._now_s() - written_s < LAG_S
        return own if fresh else NodePlan(node, own.sequence, cached.pods)

    async def _ensure(
        self, view: View, decision: PolicyDecision, live: Mapping[str, str]
    ) -> tuple[list[tuple[PoolPlan, Pool]], Condition, tuple[Condition, ...]]:
        """Apply what a policy owns; return the pools to scale, EngineReady, and what was refused now.

        What serves goes on being scaled: a refused edit, or a Service that we may not write, is said and costs no SLO.
        """
        served = [(plan, pool) for plan in decision.pools if (pool := view.pool(plan.pool, plan.tp)) is not None]
        problem = template_problem(view)
        if problem is not None:
            return served, problem, ()
        try:
            served = [(plan, await self._ensure_pool(view, plan)) for plan in decision.pools]
            await self._ensure_front(view, live)
        except ports.Refused as refused:
            said = _said(Type.ENGINE_READY, refused)
            return served, said, () if refused.resting else (said,)
        reason = Reason.PAUSED if view.policy.paused else Reason.APPLIED
        return served, Condition(Type.ENGINE_READY, True, reason), ()

    async def _ensure_pool(self, view: View, plan: PoolPlan) -> Pool:
        """Return the planned pool with its Deployment applied, as new as this cycle knows it."""
        found = view.pool(plan.pool, plan.tp) or missing_pool(view.raw, plan.pool, plan.tp)
        live_hash = None if found.workload is None else found.workload.fields_hash
        document = objects.deployment(objects.owner(view.raw), pool=plan.pool, tp=plan.tp)
        written = await self._applier.ensure(document, live_hash=live_hash, prove=True)
        return found if written is None else replace(found, workload=cluster.workload(written))

    async def _ensure_front(self, view: View, live: Mapping[str, str]) -> None:
        if view.policy.paused:
            return
        by = objects.owner(view.raw)
        for document in (objects.service(by), objects.disruption_budget(by)):
            key = f"{manifest.text(document, 'kind')}/{manifest.key(document)}"
            await self._applier.ensure(document, live_hash=live.get(key))

    async def _act_on_targets(self, view: View, decision: PolicyDecision, running: Mapping[str, float]) -> Outcome:
        lost = [pool.workload_key for pool in view.pools if pool.workload is None]
        found = Condition(Type.TARGET_FOUND, True, Reason.FOUND)
        if lost:
            message = f"no apps/v1 Deployment {', '.join(lost)}: create it, or correct spec.targets"
            found = Condition(Type.TARGET_FOUND, False, Reason.TARGET_NOT_FOUND, message)
        found = view.taken or found
        try:
            await self._hold(view)
        except ports.Refused as refused:
            return _stopped((found,), refused)
        held = names.RELEASE_FINALIZER in targets.finalizers(view.raw)
        pools = [
            (plan, pool)
            for plan in decision.pools
            if (pool := view.pool(plan.pool, plan.tp)) is not None
            # Not before the API server holds both what to restore and that we must: a crash in between loses nothing.
            and held
            and targets.original_replicas(view.raw, pool.name) is not None
        ]
        return await self._scale_all(view, pools, decision.replicas_reason, running, (found,))

    async def _hold(self, view: View) -> None:
        """Put our finalizer on a policy whose targets we scale, before the first scaling."""
        acts = view.policy.knobs.replicas is Knob.ACT and not view.policy.paused
        if acts and names.RELEASE_FINALIZER not in targets.finalizers(view.raw):
            await self._writer.apply(targets.finalizer_document(view.raw, held=True))

    async def _scale_all(
        self,
        view: View,
        pools: list[tuple[PoolPlan, Pool]],
        reason: Reason,
        running: Mapping[str, float],
        conditions: tuple[Condition, ...],
    ) -> Outcome:
        scaled: list[Scaled] = []
        conflict = conflict_condition(view)
        for plan, pool in pools:
            try:
                done = await self._scale(view, plan, pool, reason, running)
            except ports.Refused as refused:
                if refused.refusal is not ports.Refusal.CONFLICT:  # a conflict: it moved on, and so does the next cycle
                    return _stopped((*conditions, conflict), refused, tuple(scaled))
                continue
            if done is not None:
                scaled.append(done)
        return Outcome((*conditions, conflict), tuple(scaled))

    async def _scale(
        self, view: View, plan: PoolPlan, pool: Pool, reason: Reason, running: Mapping[str, float]
    ) -> Scaled | None:
        if view.policy.knobs.replicas is not Knob.ACT or pool.autoscaler is not None or pool.workload is None:
            return None
        before = pool.workload.replicas
        count = floored(plan.replicas, min_replicas=view.policy.bounds.min_replicas, ready=pool.ready)
        if count == before:
            return None
        if count < before:
            await self._mark_idlest(pool.pods, running)
        await self._writer.scale(pool.workload_key, count, resource_version=pool.workload.resource_version)
        return Scaled(pool.workload_key, before, count, reason if count == plan.replicas else Reason.HELD_BY_FLOOR)

    async def _mark_idlest(self, pods: Iterable[Pod], running: Mapping[str, float]) -> None:
        """Tell the ReplicaSet which pods are cheap to lose: those with the fewest requests. A hint, so best effort."""
        for pod in sorted(pods, key=lambda p: running.get(p.key, 0.0))[:COST_PODS]:
            cost = str(int(running[pod.key])) if pod.key in running else ""
            if cost and cost != pod.deletion_cost and pod.serving:
                with contextlib.suppress(
                    ports.Refused
                ):  # every pod drains before it goes: a busy one only takes longer
                    await self._writer.apply(cost_document(pod, cost))


def floored(planned: int, *, min_replicas: int, ready: int) -> int:
    """Return the planned count, held up by promise P4: never below min(minReplicas, what is ready)."""
    return max(planned, min(min_replicas, ready))


def template_problem(view: View) -> Condition | None:
    """Return why the engine's template cannot hold the plan, or None."""
    engine = manifest.mapping(view.raw, "spec", "engine")
    if not objects.engine_found(engine):
        wanted = manifest.text(engine, "container") or "(the first)"
        message = f"spec.engine.template.spec.containers has no container {wanted}: name it in spec.engine.container"
        return Condition(Type.ENGINE_READY, False, Reason.INVALID_TEMPLATE, message)
    degrees = view.policy.bounds.tensor_parallel
    if len(degrees) > 1 and not objects.passes_tensor_parallel(engine):
        message = (
            f"spec.bounds.tensorParallel lists {len(degrees)} degrees, but the template holds only one: pass "
            f"--tensor-parallel-size=$({names.TP_ENV}) in the engine container, or list one degree"
        )
        return Condition(Type.ENGINE_READY, False, Reason.TENSOR_PARALLEL_FIXED, message)
    return None


def conflict_condition(view: View) -> Condition:
    """Return whether an autoscaler owns replicas that our knob would write."""
    rivals = [p.autoscaler for p in view.pools if p.autoscaler is not None]
    if not rivals or view.policy.knobs.replicas is not Knob.ACT:
        return Condition(Type.CONTROLLER_CONFLICT, False, Reason.NO_CHANGE_NEEDED)
    named = ", ".join(f"{a.namespace}/{a.name}" for a in rivals)
    message = f"HorizontalPodAutoscaler {named} owns replicas: delete it, or set spec.knobs.replicas to Advise"
    return Condition(Type.CONTROLLER_CONFLICT, True, Reason.CONTROLLER_CONFLICT, message)


def cost_document(pod: Pod, cost: str) -> Manifest:
    """Build the apply document of a pod's deletion cost."""
    metadata = {"name": pod.name, "namespace": pod.namespace, "annotations": {names.DELETION_COST_ANNOTATION: cost}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def _stopped(found: tuple[Condition, ...], refused: ports.Refused, scaled: tuple[Scaled, ...] = ()) -> Outcome:
    """Return the outcome of a turn that a refusal ended."""
    said = _said(Type.PROGRESSING, refused)
    return Outcome((*found, said), scaled, () if refused.resting else (said,))


def _said(kind: Type, refused: ports.Refused) -> Condition:
    """Return a refusal in the server's own words."""
    reason = {
        ports.Refusal.REJECTED: Reason.INVALID_TEMPLATE if kind is Type.ENGINE_READY else Reason.API_REJECTED,
        ports.Refusal.DENIED: Reason.API_DENIED,
        ports.Refusal.UNAVAILABLE: Reason.PENDING,
        ports.Refusal.CONFLICT: Reason.PENDING,
    }[refused.refusal]
    return Condition(kind, kind is Type.PROGRESSING, reason, str(refused))
