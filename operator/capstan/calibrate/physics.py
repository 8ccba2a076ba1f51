"""A `Profile` from fitted figures: the one way from parameters to what planner, world and kernel evaluate.

Who calls it: `calibrate.solve` (parameters still moving) and `calibrate.estimate` (parameters shipped).
"""

from __future__ import annotations

import math
from dataclasses import replace

from capstan.calibrate import form, memory, parameters
from capstan.calibrate.geometry import Geometry
from capstan.calibrate.gpus import Gpu
from capstan.model import latency, power
from capstan.model.profile import Clocks, Draw, Profile, Timing

CLOCK_STEP_MHZ = 15.0
V_MIN_RATIO, KNEE_RATIO = 0.72, 0.75
"""Emerald's power-cap sweep of A100 (speed taken as clock, 60 W static): voltage flat up to about 0.75 of the maximum
clock, at 0.72 to 0.80 of the voltage. H100: assumed to be the same."""

MAX_NUM_SEQS, CHUNK_TOKENS, STARTUP_S = 256, 512, 120.0
"""What our scenarios run the engine with, and the start-up they assume (DESIGN 7.1)."""

LONG_PREFILL_TOKENS = 2048.0
"""A step of this many prompt tokens saturates the matrix products of every shape and tp that we ship."""

STOCK_RATIO_STEP = 0.001

NO_ENGINE = form.Engine(0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0)
NO_DRAW = Draw(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
REDUCE_CALL_S = 25e-6
"""A mid-range NCCL call in Vidur's table, beside transfers of 0.05 ms and more."""


def clocks(gpu: Gpu) -> Clocks:
    """Return the clock grid and voltage of a GPU; A100's is measured (through power caps), others borrow it."""
    return Clocks(
        min_mhz=gpu.min_mhz,
        max_mhz=gpu.max_mhz,
        step_mhz=CLOCK_STEP_MHZ,
        v_min_ratio=V_MIN_RATIO,
        knee_ratio=KNEE_RATIO,
        assumed=True,
    )


def step_times(values: dict[str, float], llm: Geometry, gpu: Gpu, tp: int, engine: str) -> Timing:
    """Return step times of an engine vintage, before any level of its own."""
    silicon = parameters.silicon(values, parameters.family(gpu))
    if engine == parameters.OPERATORS:
        return _kernels_alone(values, llm, gpu, tp, silicon)
    return form.timing(llm, gpu, form.Layout(tp), silicon, parameters.engine(values, engine))


def _kernels_alone(values: dict[str, float], llm: Geometry, gpu: Gpu, tp: int, silicon: form.Silicon) -> Timing:
    """Return the matrix products of Vidur's tables: no output embedding, no all-reduce, no engine."""
    group = parameters.family(gpu)
    engine = replace(NO_ENGINE, bend=values[f"{parameters.OPERATORS}.bend"])
    layers = replace(llm, dense_count=llm.dense_count - llm.embedding_count)
    bare = replace(silicon, layer_s=values[f"{parameters.OPERATORS}.layer_s@{group}"], norm_s=0.0, reduce_s=0.0)
    return form.timing(layers, gpu, form.Layout(tp), replace(bare, link_ratio=1e9), engine)


def all_reduce(values: dict[str, float], gpu: Gpu, tp: int) -> Timing:
    """Return one all-reduce as step times: `host_s` its call, `per_sequence_s` its time per byte."""
    ratio = values["silicon.link_ratio"]
    per_byte_s = 2 * (tp - 1) / tp / (gpu.link_bytes_per_s * ratio)
    return Timing(REDUCE_CALL_S, 1.0, per_byte_s, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def profile(llm: Geometry, gpu: Gpu, tp: int, timing: Timing, draw: Draw) -> Profile:
    """Return the record, nameless."""
    bare = _record(llm, gpu, tp, timing, draw)
    return replace(bare, timing=replace(timing, stock_clock_ratio=_stock_ratio(bare)))


def _stock_ratio(p: Profile) -> float:
    """Return the clock ratio that the board's own limit leaves a long prefill: its measured times hold that clock."""
    step_s = latency.prefill_step_s(p, LONG_PREFILL_TOKENS, 1.0)
    unlimited = replace(p, draw=replace(p.draw, limit_w=math.inf))
    low, high = 0.0, 1.0
    while high - low > STOCK_RATIO_STEP:
        middle = (low + high) / 2
        x = max(middle, p.clocks.min_mhz / p.clocks.max_mhz)
        fits = power.step_w(unlimited, LONG_PREFILL_TOKENS, 0.0, step_s, x) <= p.draw.limit_w
        low, high = (middle, high) if fits else (low, middle)
    return round(high, 2)


def _record(llm: Geometry, gpu: Gpu, tp: int, timing: Timing, draw: Draw) -> Profile:
    return Profile(
        name="",
        models=(),
        gpu_products=gpu.products,
        tp=tp,
        clocks=clocks(gpu),
        timing=timing,
        draw=draw,
        work=form.work(llm, gpu, form.Layout(tp)),
        kv_tokens=max(memory.kv_tokens(llm, gpu, tp), 1),
        max_num_seqs=MAX_NUM_SEQS,
        chunk_tokens=CHUNK_TOKENS,
        startup_s=STARTUP_S,
    )
