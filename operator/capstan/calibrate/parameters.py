"""What is fitted: every parameter of the global model with its starting value and how far data may move it.

Who calls it: `calibrate.solve` and `calibrate.fitted`. A spread is one standard deviation of the logarithm: it holds a
parameter that no row determines at its start, and yields to a handful of rows that do. Starts are orders of magnitude
that anyone would write down before seeing the rows; docs/explanation/physics.md prints where each ended.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from capstan.calibrate import form
from capstan.calibrate.gpus import Gpu
from capstan.model.profile import Draw


@dataclass(frozen=True, slots=True)
class Prior:
    """A starting value and its spread; 0: not fitted."""

    start: float
    spread: float


A100, H100_FAMILY = "A100", "H100"
PER_FAMILY = {
    "bandwidth_ratio": Prior(0.85, 0.1),  # a large matrix-vector product reaches 80 to 95 % of HBM
    "flops_ratio": Prior(0.62, 0.3),  # a large matrix product reaches 50 to 75 % of the dense peak
}
SHARED = {
    "attention_flops_ratio": Prior(0.4, 0.5),  # FlashAttention 2's published range is 0.3 to 0.7
    "shard_loss": Prior(0.06, 0.5),
    "layer_s": Prior(40e-6, 0.7),  # about ten kernels of a few microseconds
    "norm_s": Prior(8e-6, 0.7),  # two kernels
    "reduce_s": Prior(10e-6, 0.7),  # Vidur's smallest NCCL all-reduces take 7 to 38 us; engines have faster ones
    "link_ratio": Prior(0.7, 0.3),
}
_ENGINE = {
    "step_s": Prior(1e-3, 1.0),
    "group_s": Prior(0.3e-3, 1.0),
    "sequence_s": Prior(20e-6, 1.0),
    "sequence_layer_s": Prior(0.3e-6, 1.0),
    "kv_ratio": Prior(0.7, 0.5),
    "prefill_base_layer_s": Prior(20e-6, 1.5),
    "prefill_layer_s": Prior(50e-6, 1.0),
    "flops_level": Prior(1.0, 0.1),
    "link_level": Prior(1.0, 0.0),
    "long_level": Prior(0.02, 0.0),
    "queue_s": Prior(1e-3, 0.0),
    "bend": Prior(2.0, 0.6),
}
MODERN, APEX, LIB, TRT, SAGE, SPLITWISE = (
    "vllm-2025",
    "vllm-2024-apex",
    "vllm-2024",
    "trt-llm-2024",
    "vllm-sageserve",
    "splitwise-2023",
)
OPERATORS = "operators"
"""Vidur's rows: no engine at all, kernels alone."""

ENGINES: dict[str, dict[str, Prior]] = {
    MODERN: _ENGINE | {"queue_s": Prior(5e-3, 1.0)},
    APEX: _ENGINE | {"step_s": Prior(3e-3, 1.0), "queue_s": Prior(5e-3, 1.0)},
    LIB: _ENGINE | {"step_s": Prior(2e-3, 1.0)},
    TRT: _ENGINE,
    SAGE: _ENGINE
    | {
        "step_s": Prior(4e-3, 1.0),
        "sequence_s": Prior(200e-6, 1.0),
        "kv_ratio": Prior(0.3, 0.5),
        "prefill_layer_s": Prior(0.8e-3, 1.0),  # its shortest prompts take 30 ms: kernels launched one by one
        "link_level": Prior(0.1, 1.0),  # its README: these hosts are probably not NVLink-connected
    },
    SPLITWISE: _ENGINE
    | {
        "step_s": Prior(10e-3, 1.0),  # its README: 25-30 ms of host time per step
        "group_s": Prior(5e-3, 1.0),
        "prefill_base_layer_s": Prior(60e-6, 1.5),
        "prefill_layer_s": Prior(0.3e-3, 1.0),
        "long_level": Prior(4.0, 1.0),  # all-reduces of more than 64 MB, visible at tp 8 alone
    },
}
LEVEL = {"host": 0.15, "sequence": 0.5, "context": 0.2, "multiply": 0.15, "first": 0.7}
"""Spread of each factor of a measured (LLM, GPU, engine) around 1."""

POWER_LEVEL_SPREAD = 0.1


def family(gpu: Gpu) -> str:
    """Return the family whose attained shares a GPU has."""
    return A100 if gpu.borrows.startswith("A100") else H100_FAMILY


def priors() -> dict[str, Prior]:
    """Return every parameter of step times by its name in the fitted file."""
    found = {f"silicon.{name}": prior for name, prior in SHARED.items()}
    for group in (A100, H100_FAMILY):
        found |= {f"silicon.{name}@{group}": prior for name, prior in PER_FAMILY.items()}
        found[f"{OPERATORS}.layer_s@{group}"] = Prior(40e-6, 0.7)
    found[f"{OPERATORS}.bend"] = Prior(4.0, 0.5)
    for engine, own in ENGINES.items():
        found |= {f"{engine}.{name}": prior for name, prior in own.items()}
    return found


def silicon(values: dict[str, float], group: str) -> form.Silicon:
    """Return what a family of GPUs attains, from named values."""
    own = {name: values[f"silicon.{name}@{group}"] for name in PER_FAMILY}
    return form.Silicon(**own, **{name: values[f"silicon.{name}"] for name in SHARED})


def engine(values: dict[str, float], name: str) -> form.Engine:
    """Return an engine vintage from named values."""
    return form.Engine(**{field.name: values[f"{name}.{field.name}"] for field in fields(form.Engine)})


@dataclass(frozen=True, slots=True)
class Power:
    """Fitted draw of one GPU type, in watts.

    Attributes:
        memory_w, dynamic_w, compute_w, gamma, context_w: as in `model.profile.Draw`, for a lone GPU.
        waiting_ratio: What a GPU of a large group draws less, since it waits for the others: 1 - w (1 - 1 / tp).
    """

    memory_w: float
    dynamic_w: float
    compute_w: float
    gamma: float
    context_w: float
    waiting_ratio: float


POWER_PRIORS = {
    "memory_w": Prior(0.3, 0.7),
    "dynamic_w": Prior(0.2, 0.7),
    "compute_w": Prior(0.75, 0.7),
    "gamma": Prior(0.7, 0.3),
    "context_w": Prior(0.3, 1.0),
    "waiting_ratio": Prior(0.1, 1.0),
}
"""Starts of watts are shares of the board's limit."""

STATIC_W = {A100: 60.0, H100_FAMILY: 100.0}
"""Static and dynamic watts cannot be told apart without a clock sweep: assumed."""

LOADED_IDLE_W = {A100: 80.0, H100_FAMILY: 110.0}
"""A loaded, idle GPU. A100: 20 % of its 400 W (POLCA's figure for an idle A100). H100: 35 W over an unloaded one,
assumed; no public figure."""


def draw(power: Power, gpu: Gpu, tp: int) -> Draw:
    """Return the draw of one GPU of a group of `tp`."""
    busy = 1 - power.waiting_ratio * (1 - 1 / tp)
    scale = gpu.limit_w / LIMITS_W[family(gpu)]
    return Draw(
        unloaded_w=gpu.idle_w,
        loaded_idle_w=LOADED_IDLE_W[family(gpu)] * scale,
        static_w=STATIC_W[family(gpu)] * scale,
        memory_w=power.memory_w * scale,
        dynamic_w=power.dynamic_w * busy * scale,
        compute_w=power.compute_w * busy * scale,
        gamma=power.gamma,
        limit_w=gpu.limit_w,
        min_limit_w=gpu.min_limit_w,
        context_w=power.context_w * busy * scale,
    )


LIMITS_W = {A100: 400.0, H100_FAMILY: 700.0}
"""Boards that the watts were fitted on; a borrowed draw scales with the limit."""
