"""Step times of an engine as functions of batch, context and clock ratio (DESIGN 5).

x is clock / max clock, in (0, 1]; batch counts decoding sequences; context_tokens sums their contexts.
Property held by tests: a higher clock never lengthens a step.
"""

from __future__ import annotations

from capstan.model.profile import Profile

PREFILL_KINK_TOKENS = 2048  # DESIGN 5: the per-token slope changes here (Splitwise's sweep bends there)


def decode_slowdown(profile: Profile, x: float) -> float:
    """Return s_m(x): how much longer the GPU part of a decode step takes at clock ratio `x`."""
    share = profile.timing.decode_clock_ratio
    return (1 - share) + share / x


def prefill_slowdown(profile: Profile, x: float) -> float:
    """Return s_p(x), the same for prefill."""
    share = profile.timing.prefill_clock_ratio
    return (1 - share) + share / x


def decode_step_s(profile: Profile, batch: float, context_tokens: float, x: float = 1.0) -> float:
    """Return the time of one decode step in seconds.

    Args:
        profile: The physics.
        batch: Decoding sequences, >= 1.
        context_tokens: Sum of the sequences' contexts, >= 0.
        x: Clock ratio in (0, 1].
    """
    t = profile.timing
    gpu_s = t.weights_s + t.per_sequence_s * (batch - 1) + t.per_context_token_s * context_tokens
    return t.host_s + gpu_s * decode_slowdown(profile, x)


def prefill_step_s(profile: Profile, tokens: float, x: float = 1.0) -> float:
    """Return the time of a pure prefill step of `tokens` new tokens in seconds."""
    t = profile.timing
    near = min(tokens, PREFILL_KINK_TOKENS) * t.prefill_per_token_s
    far = max(tokens - PREFILL_KINK_TOKENS, 0) * t.prefill_per_token_long_s
    return max(t.prefill_min_s, t.prefill_base_s + near + far) * prefill_slowdown(profile, x)


def chunk_s(profile: Profile, tokens: float, prior_tokens: float, x: float = 1.0) -> float:
    """Return what a chunk of `tokens` prompt tokens adds to a step, with `prior_tokens` already in KV."""
    t = profile.timing
    linear_s = t.prefill_per_token_s * tokens
    attention_s = t.attention_per_token2_s * tokens * prior_tokens
    return (linear_s + attention_s) * prefill_slowdown(profile, x)


def mixed_step_s(
    profile: Profile, *, batch: float, context_tokens: float, chunk_tokens: float, prior_tokens: float, x: float = 1.0
) -> float:
    """Return the time of a step that decodes `batch` sequences and prefills `chunk_tokens` tokens."""
    if chunk_tokens <= 0:
        return decode_step_s(profile, batch, context_tokens, x)
    added_s = chunk_s(profile, chunk_tokens, prior_tokens, x)
    if batch < 1:
        t = profile.timing
        return max(t.prefill_min_s * prefill_slowdown(profile, x), t.prefill_base_s + added_s)
    return decode_step_s(profile, batch, context_tokens, x) + added_s
