"""Which physics a service runs on: what is believed of every tp of its bounds, and what is true.

Who calls it: `replay.load`. Must not know: traces, systems.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from capstan import decide
from capstan.api import convert, errors, manifests, v1alpha1
from capstan.api import scenario as files
from capstan.model.policy import Policy
from capstan.model.profile import ClockResponse, Profile, with_clock_response
from capstan.replay.nodes import Node, room
from capstan.replay.options import Options

NOT_SCALED = frozenset({"gamma", "limit_w", "min_limit_w"})
"""Fields of a profile's draw that `--power-scale` leaves alone: an exponent, and what the board enforces."""


def shipped(folder: Path, documents: Iterable[manifests.Document]) -> tuple[Profile, ...]:
    """Return the profiles of the file itself, then the shipped ones.

    Raises:
        Invalid: There is no such folder.
    """
    if not folder.is_dir():
        raise errors.Invalid("--profiles", f"{folder} is no folder; give one with ServingProfiles in *.yaml")
    shipped = [d for path in sorted(folder.glob("*.yaml")) for d in manifests.load(path)]
    return among((*documents, *shipped))


def among(documents: Iterable[manifests.Document]) -> tuple[Profile, ...]:
    """Return the profiles that are among some documents."""
    found = (document for document in documents if isinstance(document, v1alpha1.ServingProfile))
    return tuple(convert.profile(document.manifest()) for document in found)


def as_asked(profile: Profile, run: files.Run, options: Options) -> Profile:
    """Return a profile at the scenario's engine settings, clock response and measured start-up."""
    response = options.clock_response or ClockResponse.NOMINAL
    return dataclasses.replace(
        with_clock_response(profile, response),
        chunk_tokens=run.chunk_tokens or profile.chunk_tokens,
        max_num_seqs=run.max_num_seqs or profile.max_num_seqs,
        startup_s=float(run.startup_seconds if options.startup_s is None else options.startup_s),
    )


def scaled(profile: Profile, options: Options) -> Profile:
    """Return a profile whose GPUs draw `--power-scale` times as much, under the same board limit."""
    ratio = 1.0 if options.power_scale is None else options.power_scale
    if ratio == 1.0:
        return profile
    draw = profile.draw
    names = {field.name for field in dataclasses.fields(draw)} - NOT_SCALED
    watts = {name: getattr(draw, name) * ratio for name in names}
    return dataclasses.replace(profile, draw=dataclasses.replace(draw, **watts))


def believed(policy: Policy, profiles: tuple[Profile, ...], nodes: tuple[Node, ...]) -> tuple[Profile, ...]:
    """Return the profile of every tp of the bounds, ascending, on GPUs that the fleet has room on."""
    degrees, product = policy.bounds.tensor_parallel, nodes[0].gpu_product
    known = {tp: decide.profile_for(policy, profiles, gpu_product=product, tp=tp) for tp in degrees}
    absent = [tp for tp, profile in known.items() if profile is None]
    if absent:
        having = sorted({p.tp for p in profiles if policy.llm in p.models and product in p.gpu_products})
        fix = f"no profile of {policy.llm} on {product} at tp {absent}; profiles exist at tp {having}"
        raise errors.Invalid(f"{policy.key} spec.bounds.tensorParallel", fix)
    found = tuple(profile for profile in known.values() if profile is not None)
    fits = max(room(nodes, profile) for profile in found)
    if fits < max(policy.bounds.min_replicas, 1):
        gpus = min(profile.tp for profile in found)
        fix = f"the fleet has room for {fits} replicas of {gpus} GPUs; add nodes or lower minReplicas"
        raise errors.Invalid(f"{policy.key} spec.bounds.minReplicas", fix)
    return tuple(profile for profile in found if room(nodes, profile) > 0)


def true(
    policy: Policy, believed: tuple[Profile, ...], truths: tuple[Profile, ...], nodes: tuple[Node, ...]
) -> tuple[Profile, ...]:
    """Return the true profile of each believed one.

    Raises:
        Invalid: `--truth` has none for a tp.
    """
    product = nodes[0].gpu_product
    found = []
    for profile in believed:
        match = next((p for p in truths if p.covers(policy.llm, product, profile.tp)), None)
        if match is None:
            having = sorted({p.tp for p in truths if policy.llm in p.models})
            fix = f"holds no profile of {policy.llm} on {product} at tp {profile.tp}; it has tp {having}"
            raise errors.Invalid("--truth", fix)
        found.append(match)
    return tuple(found)
