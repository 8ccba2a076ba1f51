"""What fits on a GPU: weights, the engine's own needs, and the KV cache in what is left.

Who calls it: `calibrate.estimate`, `calibrate.measurements` (to tell rows with preemption). Checked against ML.ENERGY,
whose average batches under a full cache show its size (tests/calibrate).
"""

from __future__ import annotations

import functools
import json
from importlib import resources

from capstan.calibrate import form, geometry, gpus

UTILISATION_RATIO = 0.9
"""vLLM's default --gpu-memory-utilization."""

ENGINE_BYTES = 4e9
"""Activations of the largest step, CUDA graphs and context; between the 3.9 GB and 5.7 GB that ML.ENERGY's average
batches of Qwen3-8B (tp 1, gpqa) and Qwen3-32B (tp 1) leave."""

TENSOR_PARALLELS = (1, 2, 4, 8, 16, 32, 64)


def kv_tokens(llm: geometry.Geometry, gpu: gpus.Gpu, tp: int) -> int:
    """Return tokens of context that the KV cache of one replica holds; 0 or less where the weights do not fit."""
    per_gpu = form.work(llm, gpu, form.Layout(tp))
    held = llm.held_count * llm.weight_dtype_bytes / tp
    room = gpu.memory_bytes * UTILISATION_RATIO - ENGINE_BYTES - held
    return int(room // per_gpu.kv_bytes_per_token)


def holds(llm: geometry.Geometry, gpu_name: str, tp: int, context_tokens: float) -> bool:
    """Return whether a replica keeps `context_tokens` in its KV cache."""
    return kv_tokens(llm, gpus.find(gpu_name), tp) >= context_tokens


def smallest_tp(llm: geometry.Geometry, gpu: gpus.Gpu, context_tokens: int) -> int | None:
    """Return the smallest power of two whose replica holds the weights and one sequence of `context_tokens`."""
    return next((tp for tp in TENSOR_PARALLELS if kv_tokens(llm, gpu, tp) >= context_tokens), None)


@functools.cache
def published() -> dict[str, geometry.Geometry]:
    """Return the shapes of the LLMs that shared/data measures, from their published config.json (configs.json)."""
    text = resources.files("capstan.calibrate").joinpath("configs.json").read_text(encoding="utf-8")
    return {name: geometry.read(config) for name, config in json.loads(text).items()}
