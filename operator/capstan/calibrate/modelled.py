"""What the physics says where shared/data measured: one figure per observation, through the shipped formulas.

Who calls it: `calibrate.solve` (while fitting) and `calibrate.table` (errors). It adds no formula but the arithmetic
by which a benchmark turns steps into its own figure.
"""

from __future__ import annotations

from capstan.calibrate.measurements import Kind, Observation
from capstan.model import latency, power, saturated
from capstan.model.profile import Profile

BENCHMARK_CHUNK_TOKENS = 8192.0
"""vLLM's default --max-num-batched-tokens on these GPUs since chunked prefill is its default."""

LOOP_KINDS = (Kind.LOOP_STEP, Kind.LOOP_MEAN, Kind.LOOP_POWER, Kind.LOOP_ENERGY)


def value(p: Profile, seen: Observation) -> float:
    """Return the modelled counterpart of `seen.value`."""
    if seen.kind in LOOP_KINDS:
        return _loop(p, seen)
    if seen.kind in {Kind.RUN, Kind.RUN_POWER}:
        return _static_batch(p, seen)
    if seen.kind is Kind.DECODE:
        return latency.decode_step_s(p, seen.batch, seen.batch * seen.context_tokens, 1.0)
    if seen.kind is Kind.LAYERS:
        return p.timing.host_s + latency.linear_s(p, seen.batch, 1.0)
    if seen.kind is Kind.REDUCE:
        return p.timing.host_s + p.timing.per_sequence_s * seen.size_bytes
    queue_s = p.timing.queue_host_s if seen.kind is Kind.TTFT else 0.0
    return queue_s + prefill_s(p, seen.prompt_tokens, seen.batch)


def prefill_s(p: Profile, prompt_tokens: float, prompts: float) -> float:
    """Return one step that takes `prompts` prompts whole; they attend to themselves only, not to each other."""
    own = prompt_tokens / 2 - prompts * prompt_tokens / 2  # `mixed_step_s` takes a chunk for one prompt
    return latency.mixed_step_s(p, 0.0, 0.0, prompts * prompt_tokens, own, 1.0)


def _loop(p: Profile, seen: Observation) -> float:
    load = saturated.Load(seen.batch, seen.prompt_tokens, seen.output_tokens, BENCHMARK_CHUNK_TOKENS)
    steady = saturated.steady(p, load, 1.0, seen.tp)
    figures = {
        Kind.LOOP_STEP: steady.decode_step_s,
        Kind.LOOP_MEAN: steady.itl_mean_s,
        Kind.LOOP_POWER: steady.gpu_w,
        Kind.LOOP_ENERGY: steady.j_per_output_token,
    }
    return figures[seen.kind]


def _static_batch(p: Profile, seen: Observation) -> float:
    """Return mean time per output token of a static batch, or its mean watts."""
    first_s = prefill_s(p, seen.prompt_tokens, seen.batch)
    context = seen.batch * seen.context_tokens
    step_s = latency.decode_step_s(p, seen.batch, context, 1.0)
    if seen.kind is Kind.RUN:
        return first_s / seen.output_tokens + step_s
    first_w = power.step_w(p, seen.batch * seen.prompt_tokens, 0.0, first_s, 1.0)
    step_w = power.step_w(p, seen.batch, context, step_s, 1.0)
    decode_s = seen.output_tokens * step_s
    return (first_s * first_w + decode_s * step_w) / (first_s + decode_s)
