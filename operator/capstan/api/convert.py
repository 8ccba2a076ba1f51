"""The way inside: a manifest of ours to a value of the core, units converted once (`convert_power`: PowerDomains).

Who calls it: `serving`, `power`, `replay` and the rig, for manifests from the API server and from files alike. What
this version does not do is refused here with a word, never ignored in silence.
"""

from __future__ import annotations

from collections.abc import Mapping

from capstan import units
from capstan.api import errors, manifests, v1alpha1
from capstan.api.servingpolicy import Knobs as KnobsSpec
from capstan.api.servingpolicy import Pools as PoolsSpec
from capstan.api.servingpolicy import Scheme, ServingPolicySpec
from capstan.api.servingpolicy import Slo as SloSpec
from capstan.api.servingprofile import ClockResponse, Draw, Timing, Work
from capstan.api.servingprofile import Clocks as ClocksSpec
from capstan.model import profile as physics
from capstan.model.classes import Edges
from capstan.model.policy import Bounds, Knobs, Policy, Pools, Priority
from capstan.model.profile import Profile
from capstan.model.slo import Slo

Manifest = Mapping[str, object]


def policy(manifest: Manifest, *, granted: Priority = Priority.LOW) -> Policy:
    """Return a ServingPolicy as the core sees it.

    Args:
        manifest: The object as the API server or a file has it.
        granted: The priority that the domains admit; what the policy asks for is `asked_priority`.

    Raises:
        Invalid: The field and the fix.
    """
    parsed = manifests.parse(v1alpha1.ServingPolicy, manifest)
    spec = parsed.spec
    _refuse_undecided(spec)
    bounds, minimum = spec.bounds, spec.bounds.min_clock_megahertz
    return Policy(
        key=parsed.key,
        llm=spec.model,
        slo=_slo(spec.slo),
        priority=granted,
        power_budget_w=_float(spec.power_budget_watts),
        bounds=Bounds(
            min_replicas=bounds.min_replicas,
            max_replicas=bounds.max_replicas,
            max_gpus=bounds.max_gpus,
            tensor_parallel=bounds.tensor_parallel,
            min_clock_mhz=_float(minimum),
        ),
        knobs=knobs(spec.knobs),
        profile_names=spec.profile_names,
        paused=spec.paused,
        pools=_pools(spec.pools),
        objective=spec.objective,
    )


def knobs(spec: KnobsSpec) -> Knobs:
    """Return the switches of a policy."""
    return Knobs(spec.replicas, spec.tensor_parallel, spec.clock)


def asked_priority(manifest: Manifest) -> Priority:
    """Return the priority that a ServingPolicy asks for; whether it is granted is its domain's say.

    Raises:
        Invalid: The field and the fix.
    """
    return manifests.parse(v1alpha1.ServingPolicy, manifest).spec.priority


def profile(manifest: Manifest) -> Profile:
    """Return a ServingProfile as the core sees it.

    Raises:
        Invalid: The field and the fix.
    """
    parsed = manifests.parse(v1alpha1.ServingProfile, manifest)
    spec = parsed.spec
    return Profile(
        name=parsed.metadata.name,
        models=spec.models,
        gpu_products=spec.gpu_products,
        tp=spec.tensor_parallel,
        clocks=_clocks(spec.clocks, spec.clock_response),
        timing=_timing(spec.timing),
        draw=_draw(spec.draw),
        work=_work(spec.work),
        kv_tokens=spec.kv_tokens,
        max_num_seqs=spec.max_num_seqs,
        chunk_tokens=spec.chunk_tokens,
        startup_s=float(spec.startup_seconds),
        fit_error_ratio=None if spec.fit_error_ratio is None else float(spec.fit_error_ratio),
        provenance=spec.provenance,
    )


def _refuse_undecided(spec: ServingPolicySpec) -> None:
    if spec.slo.tbt_milliseconds is not None:
        raise errors.Invalid("spec.slo.tbtMilliseconds", "is not held by this version; remove it")


def _slo(spec: SloSpec) -> Slo:
    tiers = ((t.below_tokens, units.seconds_of_milliseconds(t.ttft_milliseconds)) for t in spec.prompt_tiers)
    return Slo(
        ttft_s=units.seconds_of_milliseconds(spec.ttft_milliseconds),
        tpot_s=units.seconds_of_milliseconds(spec.tpot_milliseconds),
        percentile_ratio=units.ratio_of_percent(spec.percentile),
        tiers=tuple(tiers),
    )


def _pools(spec: PoolsSpec) -> Pools:
    edges = Edges(spec.classes.prompt_tokens, spec.classes.output_tokens)
    scheme = spec.scheme
    return Pools(scheme is Scheme.BY_CLASS, edges, spec.count, phases_apart=scheme is Scheme.DISAGGREGATED)


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


def _clocks(spec: ClocksSpec, response: ClockResponse) -> physics.Clocks:
    return physics.Clocks(
        min_mhz=float(spec.min_megahertz),
        max_mhz=float(spec.max_megahertz),
        step_mhz=float(spec.step_megahertz),
        v_min_ratio=float(spec.voltage_min_ratio),
        knee_ratio=float(spec.voltage_knee_ratio),
        assumed=response is ClockResponse.ASSUMED,
    )


def _timing(spec: Timing) -> physics.Timing:
    return physics.Timing(
        host_s=float(spec.host_seconds),
        weights_s=float(spec.weights_seconds),
        per_sequence_s=float(spec.per_sequence_seconds),
        per_context_token_s=float(spec.per_context_token_seconds),
        prefill_base_s=float(spec.prefill_base_seconds),
        prefill_per_token_s=float(spec.prefill_per_token_seconds),
        prefill_per_token_long_s=float(spec.prefill_per_token_long_seconds),
        prefill_min_s=float(spec.prefill_min_seconds),
        attention_per_token2_s=float(spec.attention_per_token_squared_seconds),
        decode_clock_ratio=float(spec.decode_clock_ratio),
        prefill_clock_ratio=float(spec.prefill_clock_ratio),
        queue_host_s=float(spec.queue_host_seconds),
        bend=float(spec.bend),
        stock_clock_ratio=float(spec.stock_clock_ratio),
        expert_weights_s=float(spec.expert_weights_seconds),
    )


def _draw(spec: Draw) -> physics.Draw:
    return physics.Draw(
        unloaded_w=float(spec.unloaded_watts),
        loaded_idle_w=float(spec.loaded_idle_watts),
        static_w=float(spec.static_watts),
        memory_w=float(spec.memory_watts),
        dynamic_w=float(spec.dynamic_watts),
        compute_w=float(spec.compute_watts),
        gamma=float(spec.gamma),
        limit_w=float(spec.limit_watts),
        min_limit_w=float(spec.min_limit_watts),
        context_w=float(spec.context_watts),
    )


def _work(spec: Work) -> physics.Work:
    return physics.Work(
        weight_bytes=float(spec.weight_bytes),
        kv_bytes_per_token=float(spec.kv_bytes_per_token),
        flops_per_token=float(spec.flops_per_token),
        peak_bytes_per_s=float(spec.peak_bytes_per_second),
        peak_flops_per_s=float(spec.peak_flops_per_second),
        expert_bytes=float(spec.expert_bytes),
        expert_share_ratio=float(spec.expert_share_ratio),
    )
