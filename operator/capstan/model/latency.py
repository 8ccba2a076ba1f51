"""Step times of an engine as functions of batch, context, prompt tokens and clock ratio (DESIGN 5).

Who calls it: `model.steady`, `model.saturated`, `replay.world`, and `replay.kernel`, which compiles these very
functions. So they take positional floats, give floats, use `math` only and read the profile by attribute: `p` is a
`Profile` in Python and a numba record in the kernel.

A step computes n tokens: one per decoding sequence and the prompt chunk. Its matrices are streamed once and
multiplied n times; the longer of the two counts, with a soft bend between them:

    step = host + soft_max(weights(n), per_token n) + per_sequence (B - 1) + kv C            decoding alone
         + base + attention N (prior + N / 2), and never under the floor of a prefill        with N prompt tokens

x is clock / max clock, in (0, 1]; batch counts decoding sequences; context_tokens sums their contexts.
Properties held by tests: a higher clock never lengthens a step; at a fixed batch a decode step is affine in context.
"""

from __future__ import annotations

import math

from capstan.model.profile import Profile

PREFILL_KINK_TOKENS = 2048  # beyond it Splitwise's prompt times bend at tp 8 (its all-reduces pass 64 MB), not at tp 2


def decode_slowdown(p: Profile, x: float) -> float:
    """Return s_m(x): how much longer the memory-bound part of a step takes at clock ratio `x`."""
    share = p.timing.decode_clock_ratio
    return (1 - share) + share / x


def prefill_slowdown(p: Profile, x: float) -> float:
    """Return s_p(x): the same for what is bound by FLOP/s, relative to the clock that the board held when measured."""
    t = p.timing
    share = t.prefill_clock_ratio
    if x >= t.stock_clock_ratio:
        return 1.0
    return ((1 - share) + share / x) / ((1 - share) + share / t.stock_clock_ratio)


def weights_s(p: Profile, tokens: float) -> float:
    """Return the time to stream the weights that `tokens` tokens touch: all of them, or the experts they meet."""
    t = p.timing
    if t.expert_weights_s <= 0:
        return t.weights_s
    return t.weights_s + t.expert_weights_s * (1 - math.pow(1 - p.work.expert_share_ratio, tokens))


def soft_max(a: float, b: float, bend: float) -> float:
    """Return (a^bend + b^bend)^(1/bend): the longer of two times that overlap, rounded where they are close."""
    if a > b:
        return a * math.pow(1 + math.pow(b / a, bend), 1 / bend)
    return b * math.pow(1 + math.pow(a / b, bend), 1 / bend)


def linear_s(p: Profile, tokens: float, x: float) -> float:
    """Return the time of the matrix products of a step of `tokens` tokens."""
    t = p.timing
    near = min(tokens, PREFILL_KINK_TOKENS) * t.prefill_per_token_s
    far = max(tokens - PREFILL_KINK_TOKENS, 0.0) * t.prefill_per_token_long_s
    multiply_s = (near + far) * prefill_slowdown(p, x)
    stream_s = weights_s(p, tokens) * decode_slowdown(p, x)
    return soft_max(stream_s, multiply_s, t.bend)


def decode_parts(p: Profile, batch: float, x: float) -> tuple[float, float]:
    """Return (fixed_s, per_context_token_s): at a fixed batch a decode step is affine in the context it holds."""
    t = p.timing
    slowdown = decode_slowdown(p, x)
    fixed_s = t.host_s + linear_s(p, batch, x) + t.per_sequence_s * max(batch - 1, 0.0) * slowdown
    return fixed_s, t.per_context_token_s * slowdown


def decode_step_s(p: Profile, batch: float, context_tokens: float, x: float) -> float:
    """Return the time of one decode step in seconds.

    Args:
        p: The physics.
        batch: Decoding sequences, >= 1.
        context_tokens: Sum of the sequences' contexts, >= 0.
        x: Clock ratio in (0, 1].
    """
    fixed_s, per_context_token_s = decode_parts(p, batch, x)
    return fixed_s + per_context_token_s * context_tokens


def prefill_step_s(p: Profile, tokens: float, x: float) -> float:
    """Return the time of a pure prefill step of `tokens` new tokens of one prompt in seconds."""
    return mixed_step_s(p, 0.0, 0.0, tokens, 0.0, x)


def mixed_step_s(
    p: Profile, batch: float, context_tokens: float, chunk_tokens: float, prior_tokens: float, x: float
) -> float:
    """Return the time of a step that decodes `batch` sequences and prefills `chunk_tokens` tokens.

    Args:
        p: The physics.
        batch: Decoding sequences, >= 0.
        context_tokens: Sum of their contexts.
        chunk_tokens: New prompt tokens of the step; 0: a decode step.
        prior_tokens: Mean, over the new prompt tokens, of the context in KV that precedes the chunk.
        x: Clock ratio in (0, 1].
    """
    if chunk_tokens <= 0:
        return decode_step_s(p, batch, context_tokens, x)
    t = p.timing
    slowdown = decode_slowdown(p, x)
    decode_s = (t.per_sequence_s * max(batch - 1, 0.0) + t.per_context_token_s * context_tokens) * slowdown
    pairs = chunk_tokens * (prior_tokens + chunk_tokens / 2)
    attention_s = t.attention_per_token2_s * pairs * prefill_slowdown(p, x)
    linear = linear_s(p, batch + chunk_tokens, x)
    return max(t.prefill_min_s, t.host_s + t.prefill_base_s + linear + decode_s + attention_s)
