"""The global model: from (LLM, GPU, tp, engine level) to the flat physics that planner, world and kernel evaluate.

Who calls it: `calibrate.solve` while fitting, `calibrate.estimate` afterwards: the same function, so a fit error is
that of the shipped record. It reads no data and holds no fitted figure.

Silicon is what all engines share on a GPU, an engine level is what one engine vintage adds on the host and how near
it comes to the silicon. Expert parallelism inside a node, pipeline stages and tp across nodes are part of the form;
no shared data fits those, and profiles that use them say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from capstan.calibrate.geometry import Geometry
from capstan.calibrate.gpus import Gpu
from capstan.model.profile import Draw, Timing, Work

NORMS_OF_LLAMA = 2
KV_DTYPE_BYTES = 2.0
ACTIVATION_BYTES = 2.0
REDUCES_PER_LAYER = 2  # Megatron's split: one all-reduce after attention, one after the feed-forward part
GPUS_PER_NODE = 8
NODE_LINK_BYTES_PER_S = 50e9
"""400 Gbit/s InfiniBand per GPU, the port of a DGX H100; assumed, no data varies it."""

NODE_LATENCY_S = 20e-6
"""A message between nodes, assumed; about twice what Vidur's smallest all-reduces take inside a node."""

DECODE_CLOCK_RATIO, PREFILL_CLOCK_RATIO = 0.15, 0.9
"""Shares that follow the clock: decode is bound by memory, prefill by FLOP/s. Assumed: no public sweep varies it."""


@dataclass(frozen=True, slots=True)
class Silicon:
    """What a GPU attains, whatever the engine. Shares of data-sheet peaks in (0, 1].

    Attributes:
        bandwidth_ratio, flops_ratio: Attained by the matrix products.
        attention_flops_ratio: Attained by attention over a prompt.
        shard_loss: Exponent: FLOP/s attained fall as tp ** -shard_loss, since the matrices get narrower.
        layer_s: Launches and gaps of one decoder layer beyond its matrices; norm_s: of each further normalisation.
        reduce_s: Latency of one all-reduce; link_ratio: attained share of the link.
    """

    bandwidth_ratio: float
    flops_ratio: float
    attention_flops_ratio: float
    shard_loss: float
    layer_s: float
    norm_s: float
    reduce_s: float
    link_ratio: float


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine vintage in one environment.

    Attributes:
        step_s: Host time per step. group_s: more of it at every doubling of the GPUs.
        sequence_s: Host time per decoding sequence and step; sequence_layer_s: the GPU's, per layer.
        kv_ratio: Attained share of bandwidth when attention reads the cache.
        prefill_base_layer_s: What a step with prompt tokens takes more, per layer; prefill_layer_s: its floor.
        flops_level: Attained FLOP/s over the silicon's. link_level: the same for links (hosts without NVLink).
        long_level: Further all-reduce time beyond 2,048 tokens in a step, over that below.
        queue_s: Host time from arrival to the first step at no load, of one GPU; as much more at every doubling.
        bend: Exponent of the soft maximum of streaming and multiplying; kernels alone bend harder than whole engines.
    """

    step_s: float
    group_s: float
    sequence_s: float
    sequence_layer_s: float
    kv_ratio: float
    prefill_base_layer_s: float
    prefill_layer_s: float
    flops_level: float
    link_level: float
    long_level: float
    queue_s: float
    bend: float


@dataclass(frozen=True, slots=True)
class Level:
    """How far one measured (LLM, GPU, engine) lies from the global model: factors on parts of its physics.

    Attributes:
        host, sequence, context, multiply, first: On a step's host time, on its growth per sequence and per token of
            context, on multiplying (and attention), and on what a step with prompt tokens takes more.
        power: On the draw above the static one.
    """

    host: float = 1.0
    sequence: float = 1.0
    context: float = 1.0
    multiply: float = 1.0
    first: float = 1.0
    power: float = 1.0


def levelled(timing: Timing, level: Level) -> Timing:
    """Return step times at a measured level."""
    return replace(
        timing,
        host_s=timing.host_s * level.host,
        per_sequence_s=timing.per_sequence_s * level.sequence,
        per_context_token_s=timing.per_context_token_s * level.context,
        prefill_per_token_s=timing.prefill_per_token_s * level.multiply,
        prefill_per_token_long_s=timing.prefill_per_token_long_s * level.multiply,
        attention_per_token2_s=timing.attention_per_token2_s * level.multiply,
        prefill_base_s=timing.prefill_base_s * level.first,
        prefill_min_s=timing.prefill_min_s * level.first,
    )


def levelled_draw(draw: Draw, level: Level) -> Draw:
    """Return the draw at a measured level."""
    return replace(
        draw,
        memory_w=draw.memory_w * level.power,
        dynamic_w=draw.dynamic_w * level.power,
        compute_w=draw.compute_w * level.power,
        context_w=draw.context_w * level.power,
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """How an LLM lies on GPUs: `tp` shards per stage, `stages` pipeline stages one after the other."""

    tp: int
    stages: int = 1

    @property
    def nodes(self) -> int:
        """Return nodes that one all-reduce spans."""
        return -(-self.tp // GPUS_PER_NODE)


def work(llm: Geometry, gpu: Gpu, layout: Layout) -> Work:
    """Return bytes and FLOPs per GPU; keys and values are copied where there are fewer heads than shards."""
    shards = layout.tp * layout.stages
    kv_shards = min(layout.tp, llm.kv_shards_max) * layout.stages
    fp8 = llm.weight_dtype_bytes < 2  # bytes of a 16-bit weight
    return Work(
        weight_bytes=llm.dense_count * llm.weight_dtype_bytes / shards,
        kv_bytes_per_token=llm.kv_count_per_token * KV_DTYPE_BYTES / kv_shards,
        flops_per_token=2 * llm.active_count / shards,
        peak_bytes_per_s=gpu.bytes_per_s,
        peak_flops_per_s=gpu.fp8_flops_per_s if fp8 else gpu.bf16_flops_per_s,
        expert_bytes=llm.expert_count * llm.weight_dtype_bytes / shards,
        expert_share_ratio=llm.active_share_ratio,
    )


def timing(llm: Geometry, gpu: Gpu, layout: Layout, silicon: Silicon, engine: Engine) -> Timing:
    """Return the step times of one replica at full clock.

    Stages run one after the other for a token, so a stage's time counts `stages` times: step times are those of one
    pipeline without overlap (its throughput is higher; the form does not know by how much).
    """
    per_gpu = work(llm, gpu, layout)
    stages, tp = layout.stages, layout.tp
    bytes_per_s = gpu.bytes_per_s * silicon.bandwidth_ratio
    flops_per_s = per_gpu.peak_flops_per_s * silicon.flops_ratio * engine.flops_level
    multiply_s = stages * per_gpu.flops_per_token / (flops_per_s * tp**-silicon.shard_loss)
    reduce_latency_s, reduce_s = _all_reduce(llm, gpu, layout, silicon, engine)
    layer_s = silicon.layer_s + silicon.norm_s * (llm.norms - NORMS_OF_LLAMA)
    attention_flops = 4 * llm.layers * llm.heads * llm.head_dim / tp
    attention_per_s = gpu.bf16_flops_per_s * silicon.attention_flops_ratio * engine.flops_level
    long_s = reduce_s * engine.long_level * max(1 - 2 / tp, 0.0)
    return Timing(
        host_s=engine.step_s + engine.group_s * math.log2(tp) + llm.layers * layer_s + reduce_latency_s,
        weights_s=stages * per_gpu.weight_bytes / bytes_per_s,
        per_sequence_s=engine.sequence_s + engine.sequence_layer_s * llm.layers,
        per_context_token_s=stages * per_gpu.kv_bytes_per_token / (gpu.bytes_per_s * engine.kv_ratio),
        prefill_base_s=engine.prefill_base_layer_s * llm.layers,
        prefill_per_token_s=multiply_s + reduce_s,
        prefill_per_token_long_s=multiply_s + reduce_s + long_s,
        prefill_min_s=engine.prefill_layer_s * llm.layers,
        attention_per_token2_s=attention_flops / attention_per_s,
        decode_clock_ratio=DECODE_CLOCK_RATIO,
        prefill_clock_ratio=PREFILL_CLOCK_RATIO,
        queue_host_s=engine.queue_s * (1 + math.log2(tp)),
        bend=engine.bend,
        expert_weights_s=stages * per_gpu.expert_bytes / bytes_per_s,
    )


def _all_reduce(llm: Geometry, gpu: Gpu, layout: Layout, silicon: Silicon, engine: Engine) -> tuple[float, float]:
    """Return (latency of a step's all-reduces and hops, their time per token) in seconds."""
    reduces = REDUCES_PER_LAYER * llm.layers
    token_bytes = llm.hidden * ACTIVATION_BYTES
    hops = layout.stages - 1
    latency_s, token_s = hops * NODE_LATENCY_S, hops * token_bytes / NODE_LINK_BYTES_PER_S
    if layout.tp == 1:
        return latency_s, token_s
    inside = min(layout.tp, GPUS_PER_NODE)
    level = engine.link_level if inside > 2 else 1.0  # pairs are bridged where switches are missing
    link_bytes_per_s = gpu.link_bytes_per_s * silicon.link_ratio * level
    token_s += reduces * token_bytes * 2 * (inside - 1) / inside / link_bytes_per_s
    latency_s += reduces * silicon.reduce_s
    if layout.nodes > 1:
        latency_s += reduces * NODE_LATENCY_S
        token_s += reduces * token_bytes * 2 * (layout.nodes - 1) / layout.nodes / NODE_LINK_BYTES_PER_S
    return latency_s, token_s
