"""Builders: values of the core with sensible defaults, so that a test names only what it is about."""

from __future__ import annotations

import dataclasses
from typing import Any

from capstan.model.policy import Bounds, Knob, Knobs, Policy
from capstan.model.profile import Clocks, Draw, Profile, Timing, Work
from capstan.model.slo import Slo

CHAT = "llm/chat"
LLM = "meta-llama/Llama-3.1-70B-Instruct"
H100 = "NVIDIA-H100-80GB-HBM3"
ACT = Knobs(replicas=Knob.ACT, tensor_parallel=Knob.ADVISE, clock=Knob.ACT)


def profile(**changes: Any) -> Profile:
    """A round-numbered engine of 4 GPUs, near Llama-3.1-70B on H100; not the shipped profile."""
    base = Profile(
        name="test-tp4",
        models=(LLM,),
        gpu_products=(H100,),
        tp=4,
        clocks=Clocks(min_mhz=345, max_mhz=1980, step_mhz=15, v_min_ratio=0.72, knee_ratio=0.5),
        timing=Timing(
            host_s=0.004,
            weights_s=0.012,
            per_sequence_s=0.00009,
            per_context_token_s=25e-9,
            prefill_base_s=0.002,
            prefill_per_token_s=90e-6,
            prefill_per_token_long_s=95e-6,
            prefill_min_s=0.020,
            attention_per_token2_s=1e-9,
            decode_clock_ratio=0.15,
            prefill_clock_ratio=0.9,
            queue_host_s=0.010,
        ),
        draw=Draw(
            unloaded_w=75,
            loaded_idle_w=115,
            static_w=100,
            memory_w=100,
            dynamic_w=200,
            compute_w=420,
            gamma=0.5,
            limit_w=700,
            min_limit_w=200,
        ),
        work=Work(
            weight_bytes=35.25e9,
            kv_bytes_per_token=81_920,
            flops_per_token=35e9,
            peak_bytes_per_s=3.35e12,
            peak_flops_per_s=989e12,
        ),
        kv_tokens=400_000,
        max_num_seqs=256,
        chunk_tokens=512,
        startup_s=120,
    )
    return dataclasses.replace(base, **changes)


def policy(key: str = CHAT, **changes: Any) -> Policy:
    """A chat service that may act on replicas and clock."""
    base = Policy(
        key=key,
        llm=LLM,
        slo=Slo(ttft_s=2.0, tpot_s=0.1),
        bounds=Bounds(min_replicas=1, max_replicas=12, tensor_parallel=(4,)),
        knobs=ACT,
    )
    return dataclasses.replace(base, **changes)
