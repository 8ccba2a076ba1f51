"""What a profile says about one operating point: the figures that `capstan profile predict` prints.

Who calls it: `app.profile`. Formulas are `model`'s; here they are put together as benchmarks report them.
"""

from __future__ import annotations

from dataclasses import dataclass

from capstan.calibrate import modelled
from capstan.model import latency, power, saturated
from capstan.model.profile import Profile


@dataclass(frozen=True, slots=True)
class Point:
    """One step of each kind. `power_w`: one GPU while decoding; joules: all GPUs of the replica."""

    decode_step_s: float
    prefill_s: float
    ttft_s: float
    power_w: float
    energy_j_per_output_token: float


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """A saturated engine's steady state, prefill included. `power_w`: one GPU; joules: all GPUs of the replica."""

    itl_mean_s: float
    output_tokens_per_s: float
    power_w: float
    energy_j_per_output_token: float


def point(p: Profile, *, batch: float, context_tokens: float, prompt_tokens: float, x: float) -> Point:
    """Return one decode step of `batch` sequences of `context_tokens` each, and one prompt on an idle engine."""
    context = batch * context_tokens
    step_s = latency.decode_step_s(p, batch, context, x)
    prefill_s = latency.prefill_step_s(p, prompt_tokens, x)
    drawn_w = power.step_w(p, batch, context, step_s, x)
    return Point(
        decode_step_s=step_s,
        prefill_s=prefill_s,
        ttft_s=p.timing.queue_host_s + prefill_s,
        power_w=drawn_w,
        energy_j_per_output_token=drawn_w * p.tp * step_s / batch,
    )


def closed_loop(p: Profile, *, max_num_seqs: float, prompt_tokens: float, output_tokens: float, x: float) -> ClosedLoop:
    """Return the steady state of an engine that always has `max_num_seqs` requests, as far as its KV cache goes."""
    load = saturated.Load(max_num_seqs, prompt_tokens, output_tokens, modelled.BENCHMARK_CHUNK_TOKENS)
    found = saturated.steady(p, load, x, p.tp)
    return ClosedLoop(found.itl_mean_s, found.tokens_per_s, found.gpu_w, found.j_per_output_token)
