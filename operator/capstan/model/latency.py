"""Step times of an engine as functions of batch, context and clock ratio (DESIGN 5).

Who calls it: `model.steady`, `replay.world`, and `replay.kernel`, which compiles these very functions. So they take
positional floats, give floats, use `math` only and read the profile by attribute: `p` is a `Profile` in Python and a
numba record in the kernel.

x is clock / max clock, in (0, 1]; batch counts decoding sequences; context_tokens sums their contexts.
Property held by tests: a higher clock never lengthens a step.
"""

from __future__ import annotations

from capstan.model.profile import Profile

PREFILL_KINK_TOKENS = 2048  # DESIGN 5: the per-token slope changes here (Splitwise's sweep bends there)


def decode_slowdown(p: Profile, x: float) -> float:
    """Return s_m(x): how much longer the GPU part of a decode step takes at clock ratio `x`."""
    share = p.timing.decode_clock_ratio
    return (1 - share) + share / x


def prefill_slowdown(p: Profile, x: float) -> float:
    """Return s_p(x), the same for prefill."""
    share = p.timing.prefill_clock_ratio
    return (1 - share) + share / x


def decode_parts(p: Profile, batch: float, x: float) -> tuple[float, float]:
    """Return (fixed_s, per_context_token_s): at a fixed batch a decode step is affine in the context it holds."""
    t = p.timing
    slowdown = decode_slowdown(p, x)
    fixed_s = t.host_s + (t.weights_s + t.per_sequence_s * (batch - 1)) * slowdown
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
    """Return the time of a pure prefill step of `tokens` new tokens in seconds."""
    t = p.timing
    near = min(tokens, PREFILL_KINK_TOKENS) * t.prefill_per_token_s
    far = max(tokens - PREFILL_KINK_TOKENS, 0) * t.prefill_per_token_long_s
    return max(t.prefill_min_s, t.prefill_base_s + near + far) * prefill_slowdown(p, x)


def chunk_s(p: Profile, tokens: float, prior_tokens: float, x: float) -> float:
    """Return what a chunk of `tokens` prompt tokens adds to a step, with `prior_tokens` already in KV."""
    t = p.timing
    linear_s = t.prefill_per_token_s * tokens
    attention_s = t.attention_per_token2_s * tokens * prior_tokens
    return (linear_s + attention_s) * prefill_slowdown(p, x)


def mixed_step_s(
    p: Profile, batch: float, context_tokens: float, chunk_tokens: float, prior_tokens: float, x: float
) -> float:
    """Return the time of a step that decodes `batch` sequences and prefills `chunk_tokens` tokens.

    Args:
        p: The physics.
        batch: Decoding sequences, >= 0.
        context_tokens: Sum of their contexts.
        chunk_tokens: New prompt tokens of the step; 0: a decode step.
        prior_tokens: Mean, over the new prompt tokens, of the context that precedes them.
        x: Clock ratio in (0, 1].
    """
    if chunk_tokens <= 0:
        return decode_step_s(p, batch, context_tokens, x)
    added_s = chunk_s(p, chunk_tokens, prior_tokens, x)
    if batch < 1:
        t = p.timing
        return max(t.prefill_min_s * prefill_slowdown(p, x), t.prefill_base_s + added_s)
    return decode_step_s(p, batch, context_tokens, x) + added_s
