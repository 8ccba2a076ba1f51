"""The variants of a scenario's services: from the file to physics, and the one that a run is played with.

Who calls it: `replay.load`. Must not know: traces' files, systems.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from capstan.api import errors
from capstan.api import scenario as files
from capstan.api import variants as documents
from capstan.model.policy import Policy
from capstan.model.profile import Profile
from capstan.model.variant import Draft, Variant
from capstan.optimize import variants
from capstan.optimize.variants import Choice, Offer
from capstan.replay import believed
from capstan.replay.nodes import Node
from capstan.replay.runs import Requests

CHEAPEST = "cheapest"
"""As a variant's name: the one with the least watts at the trace's mean load."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What one policy may be served by, and how good it has to be."""

    policy: str
    min_quality_ratio: float
    offers: tuple[Offer, ...]


def offered(
    spec: documents.Variants, policy: Policy, profiles: tuple[Profile, ...], nodes: tuple[Node, ...]
) -> Offered:
    """Return a policy's variants with the physics of each, at every degree of the policy's bounds.

    Raises:
        Invalid: A variant's model has no profile at one of them.
    """
    offers = []
    for each in spec.offered:
        variant = _variant(each)
        plain = believed.believed(replace(policy, llm=each.model), profiles, nodes)
        own = tuple(variant.profile(profile) for profile in plain)
        offers.append(Offer(variant, tuple(replace(p, models=(*p.models, policy.llm)) for p in own)))
    return Offered(policy.key, float(spec.min_quality), tuple(offers))


def chosen(asked: str, found: Offered, policy: Policy, requests: Requests, *, gpus: int) -> Offer:
    """Return the variant of that name, or the cheapest.

    Raises:
        Invalid: There is no such variant, it is not good enough, or nothing good enough meets the SLO.
    """
    if asked == CHEAPEST:
        choice = cheapest(found, policy, requests, gpus=gpus)
        if choice is None:
            best = max(offer.variant.quality_ratio for offer in found.offers)
            fix = f"of those with a quality of {found.min_quality_ratio:g} (the best has {best:g}) none meets the SLO"
            raise errors.Invalid("--variant", f"{found.policy}: {fix}; add GPUs, or offer others")
        asked = choice.variant.name
    offer = next((offer for offer in found.offers if offer.variant.name == asked), None)
    if offer is None:
        names = ", ".join(offer.variant.name for offer in found.offers)
        raise errors.Invalid("--variant", f"{found.policy} has no variant {asked}; write one of {names}, or {CHEAPEST}")
    if offer.variant.quality_ratio < found.min_quality_ratio:
        fix = (
            f"{asked} has a quality of {offer.variant.quality_ratio:g}, below the {found.min_quality_ratio:g} asked for"
        )
        raise errors.Invalid("--variant", f"{fix}; lower minQuality, or take another")
    return offer


def cheapest(found: Offered, policy: Policy, requests: Requests, *, gpus: int) -> Choice | None:
    """Return what serves a trace's mean load with the least watts, good enough and inside the SLO; None: nothing."""
    load = requests.workload(len(requests) / max(float(requests.arrival_s[-1]), 1.0))
    return variants.cheapest(
        load, policy.slo, policy.bounds, found.offers, min_quality_ratio=found.min_quality_ratio, gpus=gpus
    )


def of(run: files.Run, policy: str) -> documents.Variants | None:
    """Return what the file says of a policy's variants, None where it says nothing."""
    return next((spec for spec in run.variants if spec.policy == policy), None)


def _variant(each: documents.Variant) -> Variant:
    draft = each.draft
    return Variant(
        name=each.name,
        llm=each.model,
        quality_ratio=float(each.quality),
        weight_ratio=float(each.weights),
        multiply_ratio=float(each.multiply),
        draft=None if draft is None else Draft(draft.tokens, float(draft.acceptance), float(draft.cost)),
    )
