"""The steady state of an engine that never runs dry: every slot taken, each answer followed by the next prompt.

Who calls it: `capstan profile predict --closed-loop` and the fit, since benchmarks measure this way. Pure formulas;
the planner's open-loop counterpart is `model.steady`.

With B sequences and answers of `output` tokens, B / output prompts arrive per step, about Poisson: a share
exp(-B / output) of the steps is pure decoding, the others carry the prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from capstan.model import latency, power
from capstan.model.profile import Profile

RESIDUAL_RATIO = 0.6
"""Mean tokens already answered, over the mean answer, of a sequence seen at random: E[o^2] / (2 E[o]^2) = 0.7 at a
coefficient of variation of 0.65. ML.ENERGY's average batches under a full KV cache imply 0.6 to 0.8."""


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop. `sequences`: the engine's --max-num-seqs; `chunk_tokens`: its budget of tokens per step."""

    sequences: float
    prompt_tokens: float
    output_tokens: float
    chunk_tokens: float


@dataclass(frozen=True, slots=True)
class Steady:
    """What a benchmark of it prints. `gpu_w`: one GPU; joules: all GPUs of the replica.

    Attributes:
        batch: Sequences in the engine on average (the KV cache may hold fewer than asked for).
        decode_step_s: A step without prompt tokens.
        itl_mean_s: Batch over throughput. gpu_w: mean watts of one GPU.
    """

    batch: float
    decode_step_s: float
    itl_mean_s: float
    tokens_per_s: float
    gpu_w: float
    j_per_output_token: float


def context_per_sequence_tokens(load: Load) -> float:
    """Return the mean context of a sequence in the loop."""
    return load.prompt_tokens + RESIDUAL_RATIO * load.output_tokens


def steady(p: Profile, load: Load, x: float, gpus: int) -> Steady:
    """Return the saturated steady state at clock ratio `x` of a replica of `gpus` GPUs."""
    context = context_per_sequence_tokens(load)
    batch = max(min(load.sequences, p.kv_tokens / context), 1.0)
    decode_s = latency.decode_step_s(p, batch, batch * context, x)
    prompts = batch / load.output_tokens
    pure_share = math.exp(-prompts)
    chunk = prompts * load.prompt_tokens / (1 - pure_share)
    chunk = min(chunk, max(load.chunk_tokens - batch, 1.0))
    mixed_s = latency.mixed_step_s(p, batch, batch * context, chunk, 0.0, x)
    prefill_steps = prompts * load.prompt_tokens / chunk  # per decode step of the batch; below one: shared steps
    pure_steps = max(1 - prefill_steps, 0.0)
    itl_s = pure_steps * decode_s + prefill_steps * mixed_s
    mixed_w = power.step_w(p, batch + chunk, batch * context, mixed_s, x)
    decode_w = power.step_w(p, batch, batch * context, decode_s, x)
    gpu_w = (pure_steps * decode_s * decode_w + prefill_steps * mixed_s * mixed_w) / itl_s
    tokens_per_s = batch / itl_s
    return Steady(batch, decode_s, itl_s, tokens_per_s, gpu_w, gpu_w * gpus / tokens_per_s)
