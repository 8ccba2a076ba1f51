"""Who may act on a target that several policies name: the oldest of them, or the policy that made the workload.

Who calls it: `cycle`, before anything is decided. The others go on observing and advising, so nothing is fought over
and nobody's capacity falls. A policy that cannot be read keeps its claim: mending its spec must not find it taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from capstan.model.policy import Knob, Knobs, Policy
from capstan.model.reasons import Reason
from capstan.serving import manifest
from capstan.serving.conditions import Condition, Type
from capstan.serving.manifest import Manifest
from capstan.serving.view import Pool, View

WITHHELD = {Knob.ACT: Knob.ADVISE, Knob.ADVISE: Knob.ADVISE, Knob.OFF: Knob.OFF}


def owners(policies: Iterable[Manifest]) -> dict[str, str]:
    """Return the policy that may act on each target, both as `namespace/name`: the oldest that names it."""
    found: dict[str, str] = {}
    for raw in sorted(policies, key=_age):
        namespace = manifest.text(raw, "metadata", "namespace")
        for target in manifest.items(raw, "spec", "targets"):
            found.setdefault(f"{namespace}/{manifest.text(target, 'scaleTargetRef', 'name')}", manifest.key(raw))
    return found


def taken(view: View, owned: Mapping[str, str]) -> Condition | None:
    """Return why a policy may not act on its targets, None where all of them are its own."""
    if not view.targeted:
        return None
    for pool in view.pools:
        other = owned.get(pool.workload_key, view.key)
        if other != view.key:
            message = f"{pool.workload_key} is a target of {other}, too, which is older: this policy only advises; "
            return _condition(message + "remove the target from one of them")
        if pool.workload is not None and pool.workload.owner_uid:
            message = f"{pool.workload_key} was made for a policy with spec.engine: this policy only advises; "
            return _condition(message + "name a workload of your own")
    return None


def withheld(policy: Policy) -> Policy:
    """Return a policy whose knobs advise where they would act."""
    knobs = policy.knobs
    given = Knobs(WITHHELD[knobs.replicas], WITHHELD[knobs.tensor_parallel], WITHHELD[knobs.clock], knobs.pools)
    return replace(policy, knobs=given)


def released(pools: Iterable[Pool], owned: Mapping[str, str]) -> tuple[Pool, ...]:
    """Return the pools of a deleted policy that nobody else acts on by now: only those are given back."""
    return tuple(pool for pool in pools if pool.workload_key not in owned)


def _condition(message: str) -> Condition:
    return Condition(Type.TARGET_FOUND, False, Reason.TARGET_TAKEN, message)


def _age(raw: Manifest) -> tuple[float, str]:
    """Return what policies are ordered by; one without a creation time is the youngest."""
    created_s = manifest.time_s(raw, "metadata", "creationTimestamp")
    return (float("inf") if created_s is None else created_s, manifest.key(raw))
