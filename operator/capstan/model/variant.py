"""Other ways to serve one service: fewer bits, drafted tokens, a smaller LLM; each with the quality that it has.

Who calls it: `optimize.variants`, `replay.variants`. Must not know: which variant is in force, who
measured quality.

A variant is served by a profile; where nobody has measured it, by one that is derived here from that of the plain LLM,
and its provenance says *derived, not measured*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from capstan.model.profile import Profile

DERIVED = "derived, not measured"


@dataclass(frozen=True, slots=True)
class Draft:
    """Speculative decoding: a draft proposes `tokens` tokens a step; the LLM keeps the first that it would say.

    Attributes:
        tokens: Drafted per step, >= 1 (vLLM `num_speculative_tokens`).
        acceptance_ratio: Chance that a drafted token is kept where the one before it was, in [0, 1).
        cost_ratio: Time of drafting one token over a step's time to stream the LLM's weights.
    """

    tokens: int
    acceptance_ratio: float
    cost_ratio: float

    def __post_init__(self) -> None:
        if self.tokens < 1 or not 0 <= self.acceptance_ratio < 1 or not self.cost_ratio >= 0:
            raise ValueError("a draft needs tokens >= 1, an acceptance in [0, 1) and a cost >= 0")

    @property
    def made_tokens(self) -> float:
        """Mean tokens that one step of the LLM makes of a sequence.

        Example: three drafted, each kept with 0.666: 1 + 0.666 + 0.444 + 0.295 = 2.405.

        Source: Leviathan et al., "Fast inference from transformers via speculative decoding", ICML 2023, eq. 1.
        """
        kept = self.acceptance_ratio
        return (1 - kept ** (self.tokens + 1)) / (1 - kept)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to serve a service.

    Attributes:
        name: For people and plans.
        llm: Whose profiles it is derived from.
        quality_ratio: Share of a benchmark's answers that are right, in [0, 1]; only compared within one service.
        weight_ratio: Bytes of a weight over the profile's (fp8 of bfloat16: 0.5).
        multiply_ratio: Time of matrix products bound by FLOP/s over the profile's.
        draft: Speculative decoding, None: none.
    """

    name: str
    llm: str
    quality_ratio: float
    weight_ratio: float = 1.0
    multiply_ratio: float = 1.0
    draft: Draft | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.quality_ratio <= 1:
            raise ValueError("a quality is a share of 0 to 1")
        if not (0 < self.weight_ratio <= 1 and 0 < self.multiply_ratio <= 1):
            raise ValueError("a variant's weights and products are in (0, 1] of the profile's")

    def profile(self, plain: Profile) -> Profile:
        """Return the physics of this variant on the GPUs of a profile; the profile itself where nothing is changed."""
        made = _drafted(_quantised(plain, self.weight_ratio, self.multiply_ratio), self.draft)
        if made == plain:
            return plain
        name = f"{plain.name}-{self.name}"
        return replace(made, name=name, fit_error_ratio=None, provenance=f"{self.name}: {DERIVED}, from {plain.name}")


def _quantised(plain: Profile, weight_ratio: float, multiply_ratio: float) -> Profile:
    """Return a profile with smaller weights: they stream faster, and what they leave of the memory holds context.

    Example: 17.4 GB of weights a GPU and 40,960 bytes of context per token: half of the weights is 212,106 tokens.
    """
    t, work = plain.timing, plain.work
    freed = (work.weight_bytes + work.expert_bytes) * (1 - weight_ratio)
    timing = replace(
        t,
        weights_s=t.weights_s * weight_ratio,
        expert_weights_s=t.expert_weights_s * weight_ratio,
        prefill_per_token_s=t.prefill_per_token_s * multiply_ratio,
        prefill_per_token_long_s=t.prefill_per_token_long_s * multiply_ratio,
    )
    smaller = replace(
        work,
        weight_bytes=work.weight_bytes * weight_ratio,
        expert_bytes=work.expert_bytes * weight_ratio,
        peak_flops_per_s=work.peak_flops_per_s / multiply_ratio,
    )
    return replace(plain, timing=timing, work=smaller, kv_tokens=plain.kv_tokens + int(freed / work.kv_bytes_per_token))


def _drafted(plain: Profile, draft: Draft | None) -> Profile:
    """Return a profile whose decode step is the share of a verifying step that makes one token of each sequence.

    Of what a verifying step costs, host, weights and context count once for all tokens that it makes; products of the
    drafted tokens count in full and are never hidden behind the weights, which overstates them at a small batch. Their
    FLOPs are charged to prompts, too, whose watts are then at the board's limit a little early.
    """
    if draft is None:
        return plain
    made, tried = draft.made_tokens, draft.tokens + 1
    t, work = plain.timing, plain.work
    wasted_s = t.prefill_per_token_s * max(tried / made - 1, 0.0)
    timing = replace(
        t,
        host_s=t.host_s / made,
        weights_s=t.weights_s * (1 + draft.tokens * draft.cost_ratio) / made,
        expert_weights_s=t.expert_weights_s / made,
        per_sequence_s=t.per_sequence_s * tried / made + wasted_s,
        per_context_token_s=t.per_context_token_s / made,
    )
    per_token = replace(
        work,
        weight_bytes=work.weight_bytes * (1 + draft.tokens * draft.cost_ratio) / made,
        expert_bytes=work.expert_bytes / made,
        kv_bytes_per_token=work.kv_bytes_per_token,
        flops_per_token=work.flops_per_token * tried / made,
    )
    return replace(plain, timing=timing, work=per_token)
