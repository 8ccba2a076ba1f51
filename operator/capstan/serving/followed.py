"""What of a spec a live operator acts on, and what it only advises: the rest of the spec is followed to the letter.

Who calls it: `read`, once per version of a policy; `cycle` for the condition. Replay acts on all of it. On a cluster
nobody steers requests to several pools yet, a new degree is minutes of pods and its own issue, and prices and carbon
intensities are no inputs of `capstan operator`: so these become advice, and the condition SpecFollowed says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from capstan.model.policy import Knob, Objective, Policy
from capstan.model.reasons import Reason
from capstan.serving.conditions import Condition, Type


@dataclass(frozen=True, slots=True)
class Followed:
    """A policy as it is acted on, and a sentence for each part of the spec that is not."""

    policy: Policy
    advised: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    @property
    def condition(self) -> Condition:
        """Return SpecFollowed."""
        if not (self.advised or self.replaced):
            return Condition(Type.SPEC_FOLLOWED, True, Reason.APPLIED)
        reason = Reason.TARIFF_MISSING if self.replaced else Reason.ADVISE_ONLY
        return Condition(Type.SPEC_FOLLOWED, False, reason, "; ".join((*self.replaced, *self.advised)))


def live(asked: Policy) -> Followed:
    """Return what a live operator makes of a policy."""
    knobs, advised, replaced = asked.knobs, [], []
    if knobs.tensor_parallel is Knob.ACT:
        knobs = replace(knobs, tensor_parallel=Knob.ADVISE)
        advised.append("spec.knobs.tensorParallel Act is advice on a cluster: status.advice says what it would change")
    if asked.pools.by_class:
        advised.append("spec.pools.scheme ByClass is advice on a cluster: one pool serves all classes")
    if asked.pools.phases_apart:
        advised.append("spec.pools.scheme Disaggregated is advice on a cluster: one pool does both, prefill and decode")
    knobs = replace(knobs, pools=Knob.ADVISE)
    if asked.objective is not Objective.JOULES:
        replaced.append(
            f"spec.objective {asked.objective} needs tariffs, which capstan operator does not have: Joules are made "
            "least instead; compare plans by cost or carbon with capstan replay"
        )
    policy = replace(asked, knobs=knobs, objective=Objective.JOULES)
    return Followed(policy, tuple(advised), tuple(replaced))
