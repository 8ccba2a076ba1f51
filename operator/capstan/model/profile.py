"""The measured physics of one engine set-up: (LLM, GPU, tp, engine); the record behind a ServingProfile.

Who calls it: `model.latency`, `model.power`, `optimize`, the replay's world. A profile never extrapolates in
silence: `covers` says whether a question lies inside what the parameters were fitted to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Clocks:
    """The SM clock grid of a GPU and how power answers it.

    Attributes:
        min_mhz, max_mhz, step_mhz: Supported graphics clocks, ascending from `min_mhz`.
        v_min_ratio: Relative core voltage at and below `knee_ratio` (DESIGN 5: v(x) = max(v_min, ...)).
        knee_ratio: x_0, the clock ratio under which voltage no longer falls.
        assumed: True where nobody has published a clock sweep for this GPU (H100: A100's shape).
    """

    min_mhz: float
    max_mhz: float
    step_mhz: float
    v_min_ratio: float
    knee_ratio: float
    assumed: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.min_mhz < self.max_mhz or self.step_mhz <= 0:
            raise ValueError("clocks need 0 < min < max and a step above zero")
        if not (0 < self.v_min_ratio <= 1 and 0 <= self.knee_ratio < 1):
            raise ValueError("v_min_ratio lies in (0, 1], knee_ratio in [0, 1)")

    def snapped_mhz(self, wanted_mhz: float) -> float:
        """Return the highest supported clock that is not above `wanted_mhz`; the lowest where none is."""
        if wanted_mhz >= self.max_mhz:
            return self.max_mhz
        steps = math.floor((wanted_mhz - self.min_mhz) / self.step_mhz + 1e-9)
        return self.min_mhz + max(steps, 0) * self.step_mhz

    def ratio(self, clock_cap_mhz: float | None) -> float:
        """Return x = clock / max clock of a cap (None: full clock)."""
        return 1.0 if clock_cap_mhz is None else self.snapped_mhz(clock_cap_mhz) / self.max_mhz


@dataclass(frozen=True, slots=True)
class Timing:
    """Step times at full clock (DESIGN 5; `model.latency` has the form). Seconds; tokens; per replica.

    Attributes:
        host_s: F, host, framework and link latency of a step; not on the SM clock.
        weights_s: Time to stream this GPU's share of the weights that every step reads.
        per_sequence_s: w, growth of a decode step per further sequence, beyond its matrix products.
        per_context_token_s: kv, growth per token of context held by the batch.
        prefill_base_s: a, what a step that holds prompt tokens takes more.
        prefill_per_token_s, prefill_per_token_long_s: s1, s2: matrix products and all-reduce of a token where they
            bound the step, of the first 2,048 tokens of a step and of those beyond.
        prefill_min_s: t_min, no step with prompt tokens is shorter (the host launches its kernels one by one).
        attention_per_token2_s: Growth per (new token x token before it).
        decode_clock_ratio: c_m, share of a step's memory-bound part that scales with the clock.
        prefill_clock_ratio: c_p, the same for what FLOP/s bound.
        queue_host_s: Host time from arrival to the first step at no load.
        bend: Exponent of the soft maximum of streaming and multiplying the weights; 4 fits Vidur's operator tables.
        stock_clock_ratio: x_eff that the board held at its stock limit when prefill was measured; 1: no throttling.
        expert_weights_s: Time to stream this GPU's share of all routed experts (mixture of experts); 0: a dense LLM.
    """

    host_s: float
    weights_s: float
    per_sequence_s: float
    per_context_token_s: float
    prefill_base_s: float
    prefill_per_token_s: float
    prefill_per_token_long_s: float
    prefill_min_s: float
    attention_per_token2_s: float
    decode_clock_ratio: float
    prefill_clock_ratio: float
    queue_host_s: float = 0.0
    bend: float = 4.0
    stock_clock_ratio: float = 1.0
    expert_weights_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Draw:
    """Board power of one GPU: P = P_s + P_m u_m + [P_d + P_c u_c^gamma + P_k u_k] x v(x)^2 (DESIGN 5, and P_k).

    u_m, u_c and u_k are shares: of memory bandwidth, of FLOP/s, of bandwidth at which attention reads the KV cache. A
    byte of keys and values costs more than a byte of weights: the cores work on it.

    Attributes:
        unloaded_w: No model on the GPU.
        loaded_idle_w: Model loaded, no request.
        static_w, memory_w, dynamic_w, compute_w, gamma, context_w: P_s, P_m, P_d, P_c, the exponent, P_k.
        limit_w: Board power limit at stock settings; the board never sustains more.
        min_limit_w: Lowest limit that the device accepts.
    """

    unloaded_w: float
    loaded_idle_w: float
    static_w: float
    memory_w: float
    dynamic_w: float
    compute_w: float
    gamma: float
    limit_w: float
    min_limit_w: float
    context_w: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes and FLOPs behind utilisation, per GPU of the replica.

    Attributes:
        weight_bytes: This GPU's share of the weights that every step reads.
        kv_bytes_per_token: Its share of one token's keys and values.
        flops_per_token: FLOPs per new token (2 x parameters / tp).
        peak_bytes_per_s, peak_flops_per_s: From the GPU's data sheet, dense at the profile's dtype.
        expert_bytes: Its share of all routed experts; 0: a dense LLM.
        expert_share_ratio: Routed experts that one token meets, over all of them.
    """

    weight_bytes: float
    kv_bytes_per_token: float
    flops_per_token: float
    peak_bytes_per_s: float
    peak_flops_per_s: float
    expert_bytes: float = 0.0
    expert_share_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class Profile:
    """One engine set-up. `models` and `gpu_products` are the names under which it appears in the field.

    Attributes:
        kv_tokens: Tokens of context that fit in the replica's KV cache.
        max_num_seqs, chunk_tokens: The engine's limits the profile is valid for (vLLM `--max-num-seqs`,
            `--max-num-batched-tokens`).
        startup_s: Time from pod start to Ready; `decide` takes the measured one where there is one.
        fit_error_ratio: Mean absolute relative error of the fit; None where nothing was fitted.
        provenance: Where the figures come from, for people.
    """

    name: str
    models: tuple[str, ...]
    gpu_products: tuple[str, ...]
    tp: int
    clocks: Clocks
    timing: Timing
    draw: Draw
    work: Work
    kv_tokens: int
    max_num_seqs: int
    chunk_tokens: int
    startup_s: float
    fit_error_ratio: float | None = None
    provenance: str = ""

    def __hash__(self) -> int:
        """Return the name's hash: profiles are keys of all that is remembered, and to hash sixty fields takes time.

        Equal profiles have equal names; of one name there are few.
        """
        return hash(self.name)

    def covers(self, llm: str, gpu_product: str | None, tp: int) -> bool:
        """Return whether this profile speaks for `llm` at `tp` on a GPU; None means any GPU it knows."""
        gpu_fits = gpu_product is None or gpu_product in self.gpu_products
        return llm in self.models and gpu_fits and tp == self.tp


class ClockResponse(StrEnum):
    """How far the core voltage of a GPU falls with its clock, where nobody measured it."""

    LOW = "low"
    NOMINAL = "nominal"
    HIGH = "high"


V_MIN_RATIOS = {ClockResponse.LOW: 0.60, ClockResponse.NOMINAL: 0.72, ClockResponse.HIGH: 0.85}
"""The band of DESIGN 5: 0.72 is A100's in Emerald's power-cap sweep; a lower voltage makes a lower clock save more."""


def with_clock_response(profile: Profile, level: ClockResponse) -> Profile:
    """Return the profile with the voltage of one end, or the middle, of the assumed band.

    A profile whose clock response was measured is returned as it is.
    """
    if not profile.clocks.assumed:
        return profile
    return replace(profile, clocks=replace(profile.clocks, v_min_ratio=V_MIN_RATIOS[level]))
