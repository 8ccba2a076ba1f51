"""The steady state that a replica reaches under a load and a clock: batch, latency quantiles, mean watts.

Who calls it: `optimize`. A lower clock lengthens steps, longer steps hold more sequences, more sequences lengthen
steps: the batch is a fixed point, here in closed form because a decode step is affine in the batch.

What is approximated, and checked against the world in tests/replay: arrivals are Poisson; the number of decoding
sequences is Poisson around its mean (M/G/inf); prompts queue for the chunk budget as M/G/1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from capstan.model import latency, power
from capstan.model.profile import Profile
from capstan.model.workload import Workload

PROMPT_TAIL_RATIO = 3.5
"""p99 over mean prompt length: 4,004 / 1,155 tokens in the Azure 2023 conversation trace (facts/dynamollm.md 1.3)."""

PROMPT_CV2 = 1.0
"""Squared coefficient of variation of prompt lengths, same trace: 0.92, rounded up."""

MAX_SHARE = 0.97
"""Above this share of busy time the closed form says nothing useful: the queue is longer than any SLO."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One replica in steady state. Latencies at the quantile asked for; `gpu_w` is the mean of one GPU."""

    batch: float
    ttft_s: float
    tpot_s: float
    gpu_w: float
    kv_usage: float


def _context_tokens(load: Workload) -> float:
    """Return the mean context of a decoding sequence: its prompt and half its output."""
    return load.prompt_tokens + load.output_tokens / 2


def _batch(profile: Profile, load: Workload, x: float, prefill_share: float) -> float | None:
    """Return the mean number of decoding sequences, or None where no steady state exists."""
    t = profile.timing
    slowdown = latency.decode_slowdown(profile, x)
    fixed_s = t.host_s + (t.weights_s - t.per_sequence_s) * slowdown
    slope_s = (t.per_sequence_s + t.per_context_token_s * _context_tokens(load)) * slowdown
    tokens_rps = load.arrival_rps * load.output_tokens
    room = 1 - prefill_share - tokens_rps * slope_s
    return tokens_rps * fixed_s / room if room > 1 - MAX_SHARE else None


def _step_s(profile: Profile, load: Workload, batch: float, x: float) -> float:
    """Return a decode step with `batch` sequences of this load's mean context, at least one."""
    full = max(batch, 1.0)
    return latency.decode_step_s(profile, full, full * _context_tokens(load), x)


def _ttft_s(profile: Profile, load: Workload, *, step_s: float, x: float, tail: float) -> float | None:
    """Return the TTFT quantile of an M/G/1 queue for the chunk budget; None where the queue grows for ever."""
    chunks = load.prompt_tokens / profile.chunk_tokens
    service_s = chunks * step_s + latency.chunk_s(profile, load.prompt_tokens, load.prompt_tokens / 2, x)
    share = load.arrival_rps * service_s
    if share >= MAX_SHARE:
        return None
    mean_wait_s = share * service_s * (1 + PROMPT_CV2) / (2 * (1 - share))
    wait_s = mean_wait_s / share * max(math.log(share / tail), 0.0) if share > 0 else 0.0
    longest = load.prompt_tokens * PROMPT_TAIL_RATIO
    longest_chunks = math.ceil(longest / profile.chunk_tokens)
    prompt_s = longest_chunks * step_s + latency.chunk_s(profile, longest, longest / 2, x)
    return profile.timing.queue_host_s + wait_s + prompt_s


def _gpu_w(profile: Profile, load: Workload, *, batch: float, step_s: float, x: float) -> float:
    """Return mean watts of one GPU: decoding, prefilling and idle by their shares of time."""
    chunk = min(load.prompt_tokens, profile.chunk_tokens)
    chunk_step_s = step_s + latency.chunk_s(profile, chunk, load.prompt_tokens / 2, x)
    prefill_share = min(load.arrival_rps * load.prompt_tokens / chunk * chunk_step_s, 1.0)
    in_system = batch + load.arrival_rps * load.prompt_tokens / chunk * chunk_step_s
    idle_share = math.exp(-in_system)
    busy_batch = max(batch / max(1 - idle_share, 1e-9), 1.0)
    context = busy_batch * _context_tokens(load)
    decode_w = power.step_w(profile, busy_batch, context, latency.decode_step_s(profile, busy_batch, context, x), x)
    prefill_w = power.step_w(profile, busy_batch + chunk, context, chunk_step_s, x)
    prefill_share = min(prefill_share, 1 - idle_share)
    decode_share = 1 - idle_share - prefill_share
    mean_w = decode_share * decode_w + prefill_share * prefill_w + idle_share * power.idle_w(profile)
    return min(mean_w, profile.draw.limit_w)


def operating_point(
    profile: Profile, load: Workload, *, x: float = 1.0, percentile_ratio: float = 0.99
) -> OperatingPoint | None:
    """Return the steady state of one replica under `load` at clock ratio `x`, or None where none exists.

    Args:
        profile: The physics.
        load: Demand on this one replica.
        x: Clock ratio in (0, 1].
        percentile_ratio: Quantile of the latencies, as the SLO's.
    """
    prefill_s = latency.chunk_s(profile, load.prompt_tokens, load.prompt_tokens / 2, x)
    batch = _batch(profile, load, x, load.arrival_rps * prefill_s)
    if batch is None:
        return None
    z = NormalDist().inv_cdf(percentile_ratio)
    high_batch = batch + z * math.sqrt(batch)
    high_step_s = _step_s(profile, load, high_batch, x)
    stay_s = load.output_tokens * high_step_s
    arrivals = load.arrival_rps * stay_s
    high_share = (arrivals + z * math.sqrt(arrivals)) * prefill_s / stay_s
    usage = high_batch * (load.prompt_tokens + load.output_tokens) / profile.kv_tokens
    if high_share >= MAX_SHARE or usage >= 1 or high_batch >= profile.max_num_seqs:
        return None
    step_s = _step_s(profile, load, batch, x)
    ttft_s = _ttft_s(profile, load, step_s=step_s, x=x, tail=1 - percentile_ratio)
    if ttft_s is None:
        return None
    return OperatingPoint(
        batch=batch,
        ttft_s=ttft_s,
        tpot_s=high_step_s / (1 - high_share),
        gpu_w=_gpu_w(profile, load, batch=batch, step_s=step_s, x=x),
        kv_usage=usage,
    )
