"""The steady state of a replica that plays both phases of its requests, or only prefill, or only decode.

Who calls it: `optimize.sizing`; `replay.kernel` and the searches take a transfer's physics from here, too. Must not
know: pools, who hands over to whom.

A prefill replica is one whose answers have a single token: prompts queue for its chunk budget (`steady`), nothing
decodes beside them. In a decode replica sequences arrive with their keys and values; their number is the fixed point of
Little's law, Poisson around its mean (M/G/inf), and no chunk lengthens its steps. The transfer in between delays the
second token, so it counts for TPOT, most in short answers.

Not counted: the network's watts, transfers that queue, decode replicas that stand idle while others are full.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Unpack

from capstan.model import latency, power, steady, waiting
from capstan.model.profile import Profile
from capstan.model.workload import Phase, Workload

# One 200 Gb/s NIC a GPU, as vLLM with Mooncake moves KV from node to node: 4.50 GB in 31.65 ms over eight of them is
# 17.8 GB/s each, and 20 MB take 0.54 ms, of which 0.14 ms at that speed (kvcache-ai.github.io/Mooncake, "vLLM with
# Mooncake Transfer Engine Benchmark"). Inside a server NVLink 4 moves 450e9 bytes/s each way (data sheet of the H100).
LINK_BYTES_PER_S = 17.8e9
LINK_SETUP_S = 0.4e-3

TURNS = 500
PRECISION_RATIO = 1e-9
"""Of the batch, approached from below; a load that needs more turns is at the edge of what is served at all."""


def operating_point(profile: Profile, load: Workload, **asked: Unpack[steady.Asked]) -> steady.OperatingPoint | None:
    """Return `steady.operating_point` of the load's phase, or None where there is no steady state.

    The latency that belongs to the other phase is what this replica makes of it, and no pool's limit: of prefill TPOT
    as if it went on by itself, of decode TTFT from the last byte sent to the first token made there.
    """
    if load.phase is not Phase.DECODE:
        return steady.operating_point(profile, _steadily(load), **asked)
    found = _decoding(profile, load, asked)
    if found is None:
        return None
    known = _latencies(profile, load, found)
    kv_usage = found.sequences * (load.prompt_tokens + load.output_tokens) / profile.kv_tokens
    return steady.OperatingPoint(found.batch, known.ttft_s, known.tpot_s, _gpu_w(profile, load, found), kv_usage)


def latencies(profile: Profile, load: Workload, **asked: Unpack[steady.Asked]) -> steady.Latencies | None:
    """Return the latencies of `operating_point`."""
    if load.phase is not Phase.DECODE:
        return steady.latencies(profile, _steadily(load), **asked)
    found = _decoding(profile, load, asked)
    return None if found is None else _latencies(profile, load, found)


def transfer_s(profile: Profile, prompt_tokens: float) -> float:
    """Return what the keys and values of a prompt take to a replica: every GPU receives its share at its own port."""
    return LINK_SETUP_S + profile.work.kv_bytes_per_token * prompt_tokens / LINK_BYTES_PER_S


# --- inside ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Decoding:
    """A decode replica at a clock: its mean batch, the sequences at the quantile asked for, and its step with those."""

    x_ratio: float
    batch: float
    sequences: float
    high_step_s: float


def _steadily(load: Workload) -> Workload:
    """Return the demand that `steady` is asked for: of prefill, answers of one token."""
    return load if load.phase is Phase.BOTH else replace(load, output_tokens=1.0)


def _decoding(profile: Profile, load: Workload, asked: steady.Asked) -> _Decoding | None:
    """Return what a replica holds of the sequences that arrive with their prompts computed; None: no steady state."""
    x, percentile_ratio = asked.get("x", 1.0), asked.get("percentile_ratio", steady.PERCENTILE_RATIO)
    most = min(profile.max_num_seqs, profile.kv_tokens / (load.prompt_tokens + load.output_tokens))
    tokens_rps = load.arrival_rps * load.output_tokens
    convex = profile.timing.expert_weights_s <= 0  # with more sequences steps meet experts that they have met before
    batch = _fixed_point(lambda held: tokens_rps * _step_s(profile, load, held, x), most, convex=convex)
    high = math.inf if batch is None else batch + waiting.normal_quantile(percentile_ratio) * math.sqrt(batch)
    if batch is None or high >= most:
        return None
    return _Decoding(x, batch, high, _step_s(profile, load, high, x))


def _step_s(profile: Profile, load: Workload, batch: float, x: float) -> float:
    """Return a step with these many sequences of the load's mean context, at least one."""
    full = max(batch, 1.0)
    return latency.decode_step_s(profile, full, full * load.context_tokens, x)


def _latencies(profile: Profile, load: Workload, found: _Decoding) -> steady.Latencies:
    moved_s = transfer_s(profile, load.prompt_tokens)
    short_tokens = max(steady.SHORT_OUTPUT_RATIO * load.output_tokens, 1.0)
    return steady.Latencies(moved_s + found.high_step_s, found.high_step_s + moved_s / short_tokens)


def _gpu_w(profile: Profile, load: Workload, found: _Decoding) -> float:
    """Return mean watts of one GPU: decoding and idle by their shares of time."""
    idle_share = math.exp(-found.batch)
    busy = max(found.batch / max(1 - idle_share, 1e-9), 1.0)
    step_s = _step_s(profile, load, busy, found.x_ratio)
    busy_w = power.step_w(profile, busy, busy * load.context_tokens, step_s, found.x_ratio)
    return (1 - idle_share) * busy_w + idle_share * power.idle_w(profile)


def _fixed_point(following: Callable[[float], float], most: float, *, convex: bool) -> float | None:
    """Return the least batch that follows from itself, None where there is none below `most`.

    Where steps grow more than in proportion Steffensen's secant, taken below, ends below, and few turns do; elsewhere
    it might leap over the least batch to where none follows.
    """
    batch = following(0.0)
    for _ in range(TURNS):
        after = following(batch)
        if after > most:
            return None
        change = after - batch
        if change <= PRECISION_RATIO * after:
            return after
        fading = change - (following(after) - after) if convex else 0.0  # change x (1 - slope)
        batch = min(batch + change * change / fading, most) if fading > 0 else after
    return None
