"""A fitted or estimated profile as a ServingProfile manifest: every parameter with its source, rounded for people.

Who calls it: `capstan profile fit | estimate`. The figures come from `calibrate.estimate`; here they get words.
"""

from __future__ import annotations

from collections.abc import Mapping

from capstan.calibrate.estimate import Estimate
from capstan.calibrate.fitted import Fitted
from capstan.model.profile import Profile

Manifest = dict[str, object]
DIGITS = 5

SETS = {
    "vllm-2025": "ML.ENERGY benchmark v3 (github.com/ml-energy/leaderboard 0cd52da, H100), vLLM of 2025",
    "vllm-2024-apex": "APEX+ validation runs (github.com/microsoft/apex_plus 8769096), custom all-reduce off",
    "vllm-2024": "LLM-Inference-Bench (github.com/argonne-lcf/LLM-Inference-Bench 4211f5d), vLLM of 2024",
    "vllm-sageserve": "SageServe (github.com/shashwatj07/SageServe 0b95ca2), vLLM on A100-80GB without NVLink",
    "splitwise-2023": "Splitwise (github.com/Mutinifni/splitwise-sim 8f99e7d), an engine of 2023 bound by its host",
}
SHAPE = "shape shared by all sets and Vidur's operator tables (github.com/microsoft/vidur 7d47513)"
NO_SWEEP = (
    "No public sweep varies the clock of this GPU: A100's shape, read off the power-cap sweep of Emerald AI's Phoenix "
    "demonstration (speed taken as clock, 60 W static): voltage flat up to about 0.75 of the maximum. An assumption: "
    "read results for 0.60, 0.72 and 0.85."
)
IDLE = (
    "Loaded, idle: 20 % of an A100's limit (POLCA), assumed elsewhere. Static and dynamic watts cannot be told apart "
    "without a clock sweep."
)
A100_SWEEP = (
    "From power caps, not from locked clocks: Emerald AI's Phoenix demonstration (speed taken as clock, 60 W static): "
    "voltage flat up to about 0.75 of the maximum clock at 0.72 to 0.8 of the voltage."
)


def number(value: float) -> str:
    """Return a fitted figure as custom resources hold it."""
    return f"{float(f'{value:.{DIGITS}g}'):g}" if value else "0"


def build(found: Estimate, fit: Fitted, *, models: tuple[str, ...] = ()) -> Manifest:
    """Return the manifest; `models`: names beside the estimate's own."""
    p = found.profile
    spec: Manifest = {
        "models": list(dict.fromkeys((*p.models, *models))),
        "gpuProducts": list(p.gpu_products),
        "tensorParallel": p.tp,
        "engine": {
            "name": "vLLM",
            "version": "not stated (2025)" if "2025" in found.choice.engine else "older (2023-24)",
        },
        "dtype": found.dtype,
        "role": "Mixed",
        "clockResponse": "Assumed",
        "clocks": _clocks(p),
        "timing": _timing(p),
        "draw": _draw(p),
        "work": _work(p),
        "kvTokens": p.kv_tokens,
        "maxNumSeqs": p.max_num_seqs,
        "chunkTokens": p.chunk_tokens,
        "startupSeconds": round(p.startup_s),
    }
    if p.fit_error_ratio is not None:
        spec["fitErrorRatio"] = f"{p.fit_error_ratio:.3f}"
    spec["validRange"] = _valid_range(found, fit)
    spec["provenance"] = provenance(found)
    spec["sources"] = _sources(found)
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "ServingProfile",
        "metadata": {"name": p.name},
        "spec": spec,
    }


def _clocks(p: Profile) -> Manifest:
    c = p.clocks
    return {
        "minMegahertz": round(c.min_mhz),
        "maxMegahertz": round(c.max_mhz),
        "stepMegahertz": round(c.step_mhz),
        "voltageMinRatio": number(c.v_min_ratio),
        "voltageKneeRatio": number(c.knee_ratio),
    }


def _timing(p: Profile) -> Manifest:
    t = p.timing
    return {
        "hostSeconds": number(t.host_s),
        "weightsSeconds": number(t.weights_s),
        "perSequenceSeconds": number(t.per_sequence_s),
        "perContextTokenSeconds": number(t.per_context_token_s),
        "prefillBaseSeconds": number(t.prefill_base_s),
        "prefillPerTokenSeconds": number(t.prefill_per_token_s),
        "prefillPerTokenLongSeconds": number(t.prefill_per_token_long_s),
        "prefillMinSeconds": number(t.prefill_min_s),
        "attentionPerTokenSquaredSeconds": number(t.attention_per_token2_s),
        "decodeClockRatio": number(t.decode_clock_ratio),
        "prefillClockRatio": number(t.prefill_clock_ratio),
        "queueHostSeconds": number(t.queue_host_s),
        "bend": number(t.bend),
        "stockClockRatio": number(t.stock_clock_ratio),
        "expertWeightsSeconds": number(t.expert_weights_s),
    }


def _draw(p: Profile) -> Manifest:
    d = p.draw
    return {
        "unloadedWatts": number(d.unloaded_w),
        "loadedIdleWatts": number(d.loaded_idle_w),
        "staticWatts": number(d.static_w),
        "memoryWatts": number(d.memory_w),
        "dynamicWatts": number(d.dynamic_w),
        "computeWatts": number(d.compute_w),
        "gamma": number(d.gamma),
        "limitWatts": round(d.limit_w),
        "minLimitWatts": round(d.min_limit_w),
        "contextWatts": number(d.context_w),
    }


def _work(p: Profile) -> Manifest:
    w = p.work
    return {
        "weightBytes": round(w.weight_bytes),
        "kvBytesPerToken": round(w.kv_bytes_per_token),
        "flopsPerToken": round(w.flops_per_token),
        "peakBytesPerSecond": round(w.peak_bytes_per_s),
        "peakFlopsPerSecond": round(w.peak_flops_per_s),
        "expertBytes": round(w.expert_bytes),
        "expertShareRatio": number(w.expert_share_ratio),
    }


def _valid_range(found: Estimate, fit: Fitted) -> Manifest:
    """Return what the level was measured at; the clock is always the maximum."""
    clock = round(found.profile.clocks.max_mhz)
    ranges: Manifest = {}
    key = found.choice.measured
    span = fit.spans.get((key.engine, key.llm, key.gpu, found.profile.tp)) if key else None
    if span is not None:
        ends = {
            "batch": (span.batch_min, span.batch_max),
            "contextTokens": (span.context_min, span.context_max),
            "promptTokens": (span.prompt_min, span.prompt_max),
        }
        ranges = {name: {"min": low, "max": high} for name, (low, high) in ends.items() if high > 0}
    return ranges | {"clockMegahertz": {"min": clock, "max": clock}}


def provenance(found: Estimate) -> str:
    """Return how the profile came about, for people."""
    gpu, p = found.gpu, found.profile
    words = [
        "One global model of (LLM, GPU, tp, engine), fitted to all published sets at once by `capstan profile fit`."
    ]
    key = found.choice.measured
    words.append(found.choice.reason)
    if key is None:
        words.append("Estimated: nobody measured this LLM on this GPU.")
    words.append(f"Clock response of {gpu.name}: assumed, {'from power caps' if _is_a100(found) else 'not measured'}.")
    if not gpu.measured:
        words.append(
            f"Unvalidated: no data of {gpu.name}; attained shares and draw are those of {gpu.borrows}, by data sheet."
        )
    if found.dtype == "fp8":
        words.append("FP8 weights: unvalidated, attained shares are those of bfloat16.")
    if p.work.expert_bytes > 0:
        words.append("Mixture of experts: expert bytes touched per step are part of the form; no data fits them yet.")
    if p.tp > 8:  # GPUs of a node
        words.append("More than one node: the link between nodes is assumed (400 Gbit/s per GPU); no data fits it yet.")
    return " ".join(words)


def _is_a100(found: Estimate) -> bool:
    return found.gpu.name.startswith("A100")


def _sources(found: Estimate) -> list[Mapping[str, object]]:
    """Return each parameter's source, each named once."""
    choice, gpu = found.choice, found.gpu
    measured = choice.measured is not None
    origin = "Fitted" if measured else "Derived"
    decode = SETS[choice.engine] + (f"; {SHAPE}." if measured else f"; {choice.reason}")
    first = SETS[choice.prefill_engine] + f"; {SHAPE}."
    timing = (
        "hostSeconds",
        "weightsSeconds",
        "perSequenceSeconds",
        "perContextTokenSeconds",
        "bend",
        "expertWeightsSeconds",
    )
    prefill = ("prefillBaseSeconds", "prefillPerTokenSeconds", "prefillPerTokenLongSeconds", "prefillMinSeconds",
               "attentionPerTokenSquaredSeconds", "queueHostSeconds")  # fmt: skip
    draw = ("memoryWatts", "dynamicWatts", "computeWatts", "gamma", "contextWatts")
    shape = ("weightBytes", "kvBytesPerToken", "flopsPerToken", "expertBytes", "expertShareRatio")
    sheet = ["clocks.minMegahertz", "clocks.maxMegahertz", "clocks.stepMegahertz", "draw.limitWatts",
             "draw.minLimitWatts", "work.peakBytesPerSecond", "work.peakFlopsPerSecond"]  # fmt: skip
    watts = (
        "ML.ENERGY and LLM-Inference-Bench (H100)"
        if gpu.borrows.startswith("H100")
        else "LLM-Inference-Bench (A100-40GB)"
    )
    watts = "Splitwise" if gpu.borrows == "A100-80GB" else watts
    return [
        _source([f"timing.{name}" for name in timing], origin, decode),
        _source([f"timing.{name}" for name in prefill], origin, first),
        _source([f"draw.{name}" for name in draw], origin, f"{watts}: mean watts of one GPU at the modelled shares."),
        _source([f"work.{name}" for name in shape], "Derived", f"Shape of the LLM (config.json) in {found.dtype}."),
        _source(["kvTokens"], "Derived", "0.9 of the memory less weights and 4 GB, over bytes per token."),
        _source(["clocks.voltageMinRatio", "clocks.voltageKneeRatio"], "Assumed",
                A100_SWEEP if _is_a100(found) else NO_SWEEP),
        _source(["timing.decodeClockRatio", "timing.prefillClockRatio"], "Assumed",
                "Decode is bound by memory, prefill by compute; round figures until a clock sweep exists."),
        _source(["timing.stockClockRatio"], "Derived",
                "Highest clock that keeps the fitted draw of a long prefill under the board's limit."),
        _source(sheet, "DataSheet", gpu.stands_for + "; clock grid and lowest limit as the driver lists them."),
        _source(["draw.unloadedWatts"], "Assumed", "Round figure of an idle board (H100: splitwise-sim's constant)."),
        _source(["draw.loadedIdleWatts", "draw.staticWatts"], "Assumed",
                IDLE),
        _source(["startupSeconds"], "Assumed", "Pod start to Ready, as in our scenarios until it is measured."),
        _source(["maxNumSeqs", "chunkTokens"], "Assumed", "What our scenarios run vLLM with."),
    ]  # fmt: skip


def _source(names: list[str], origin: str, text: str) -> Mapping[str, object]:
    return {"parameters": names, "origin": origin, "source": text}
