"""Systems that are settings files: Capstan's own decisions with another split, other knobs, another start.

Who calls it: `replay.play`. Must not know: what a knob does; `decide` reads the policy that is made here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from capstan.api import convert, errors, manifests
from capstan.api.system import Begin, Power, Split, System
from capstan.model import classes, plan
from capstan.model.policy import Knob, Policy, Pools
from capstan.optimize import lanes, split
from capstan.replay import start
from capstan.replay.runs import Requests
from capstan.replay.scenario import Scenario
from capstan.replay.seen import Seen, Service, Want
from capstan.replay.systems import Capstan


def shipped(folder: Path) -> dict[str, System]:
    """Return the systems of a folder of settings files by name; none where there is no such folder.

    Raises:
        Invalid: The file, the field and the fix.
    """
    found: dict[str, System] = {}
    for path in sorted(folder.glob("*.yaml")):
        for document in manifests.load(path):
            if not isinstance(document, System):
                raise errors.Invalid(f"{path}", f"holds a {document.kind}; this folder holds System documents")
            if document.name in found:
                raise errors.Invalid(f"{path}", f"there is a system {document.name} already; rename one of them")
            found[document.name] = document
    return found


class Configured(Capstan):
    """Capstan with a settings file over every policy."""

    def __init__(self, scenario: Scenario, system: System, fixed: Mapping[str, Want] | None = None) -> None:
        """Take over a system's settings; `fixed` is what each policy begins with where they say SinglePool."""
        policies = tuple(set_up(policy, system) for policy in scenario.policies)
        super().__init__(policies, scenario.profiles, scenario.settings, delay_s=scenario.telemetry_s)
        self.name = system.name
        self.caps_power = system.power is not Power.UNARMED
        self._fixed = {} if fixed is None else fixed
        self._system = system
        knobs = system.knobs
        held = knobs is not None and {knobs.replicas, knobs.tensor_parallel, knobs.clock} == {Knob.OFF}
        self._still = held and system.start is Begin.SINGLE_POOL  # one pool, and no knob that could move it
        self._by_key = {policy.key: policy for policy in policies}

    def start(self, service: Service) -> Want | tuple[Want, ...]:
        """Begin with what the scenario says, or with each pool's fleet of its peak."""
        policy = self._by_key[service.policy.key]
        begun = super().start(dataclasses.replace(service, policy=policy))
        if self._system.start is Begin.SHARED:
            return begun
        if self._system.start is Begin.SINGLE_POOL:
            return self._fixed[policy.key]
        first = _first_split(policy)
        memory = plan.PolicyMemory(policy.key, split=first, split_since_s=0.0)
        others = (known for known in self._memory.policies if known.policy != policy.key)
        self._memory = plan.Memory((*others, memory))
        return at_peak(service, policy, first)

    def plan(self, seen: Seen) -> tuple[Want, ...]:
        """Decide; where power domains act on their own, nothing that is said of them is heard."""
        if self._still:
            return ()
        joint = self._system.power is Power.JOINT
        return super().plan(seen if joint else Seen(seen.now_s, seen.services))


def set_up(policy: Policy, system: System) -> Policy:
    """Return a policy with a system's settings."""
    pools = policy.pools
    match system.split:
        case Split.SINGLE:
            pools = Pools(edges=pools.edges)
        case Split.PER_CLASS:
            pools = Pools(by_class=True, edges=pools.edges, count=pools.edges.count)
        case Split.COUNT:
            pools = Pools(by_class=True, edges=pools.edges, count=min(system.count or 1, pools.edges.count))
        case Split.DISAGGREGATED:
            pools = Pools(edges=pools.edges, phases_apart=True)
        case Split.POLICY:
            pass
    knobs = policy.knobs if system.knobs is None else convert.knobs(system.knobs)
    return dataclasses.replace(policy, pools=pools, knobs=knobs, objective=system.objective or policy.objective)


def _first_split(policy: Policy) -> classes.Split:
    """Return the split that a fleet sized for its peak begins with: a pool per class where that is asked for."""
    pools = policy.pools
    if pools.by_class and pools.count == pools.edges.count:
        return tuple((code,) for code in range(pools.edges.count))
    return next(split.candidates(pools.edges, pools.count if pools.by_class else 1), pools.edges.whole())


def at_peak(service: Service, policy: Policy, first: classes.Split) -> tuple[Want, ...]:
    """Return each pool's replicas of the largest tp that carry its busiest minute of the trace at full clock."""
    profile, requests = service.profiles[-1], service.requests
    found = []
    for lane in lanes.of(policy, first):
        rows = np.isin(service.codes, lane.codes)
        own = Requests(requests.arrival_s[rows], requests.prompt_tokens[rows], requests.output_tokens[rows])
        count = start.for_peak(profile, own, lane.slo, lane.phase)
        codes = lane.codes if len(first) > 1 else ()
        found.append(Want(policy.key, profile.tp, count, pool=lane.name, classes=codes, phase=lane.phase))
    return tuple(found)
