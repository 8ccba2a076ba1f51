"""Rows of shared/data as observations: what was run, what was measured, and in which vintage of engine.

Who calls it: `calibrate.solve` and `calibrate.table`. Rows that the data sets' READMEs call wrong are left out here,
each with its reason; no figure is changed except by the arithmetic that the READMEs give.
"""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from capstan.calibrate import memory
from capstan.calibrate.geometry import Geometry

Row = dict[str, str]


class Kind(StrEnum):
    """What an observation's figure is."""

    DECODE = "decode step"
    RUN = "step of a static batch, prefill spread over it"
    LOOP_STEP = "median step of a closed loop"
    LOOP_MEAN = "mean step of a closed loop"
    PREFILL = "prefill step"
    TTFT = "time to first token"
    LAYERS = "matrix products of all layers"
    REDUCE = "one all-reduce"
    LOOP_POWER = "watts of a GPU in a closed loop"
    RUN_POWER = "watts of a GPU over a static batch"
    LOOP_ENERGY = "joules per output token in a closed loop"


class Quantity(StrEnum):
    """What the goals name."""

    DECODE = "decode"
    PREFILL = "prefill"
    POWER = "power"
    ENERGY = "energy"


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured figure. Times in seconds, power in watts of one GPU.

    Attributes:
        source: Data set; engine: the vintage whose level it carries.
        batch: Sequences; prompt_tokens, output_tokens: of one request; context_tokens: mean of one sequence.
        size_bytes: Of an all-reduce.
    """

    source: str
    engine: str
    llm: str
    gpu: str
    tp: int
    kind: Kind
    value: float
    batch: float = 1.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    context_tokens: float = 0.0
    size_bytes: float = 0.0


H100, A100_40, A100_80 = "H100-SXM5-80GB", "A100-40GB", "A100-80GB"
CHAT_PROMPT_TOKENS = 200.0
"""ML.ENERGY gives no prompt lengths; mean over median step of its chat rows implies about 200."""

GPQA_PROMPT_TOKENS = 250.0
"""Length of a GPQA question with its four answers, assumed; beside 7,000 output tokens it hardly counts."""

APEX_PROMPT_TOKENS = {"lmsys": 74.3, "creation": 320.0, "summarization": 2755.0}  # its README
APEX_LIGHT_RPS = 0.26
"""Per replica; above, a mean TTFT holds queueing and a prefill is not seen alone."""

MEDIAN_PROMPTS_PER_STEP = 0.35
"""Above, a median step may carry a prompt and is no decode step (a share 1 - exp(-0.35) = 30 % does)."""

SPLITWISE_MODELS = {"llama2-70b": "meta-llama/Llama-2-70b-hf", "bloom-176b": "bigscience/bloom"}
SPLITWISE_OUTPUT_TOKENS = 128  # its rows with 512 and more stop early
SPLITWISE_POWER_PROMPT_TOKENS = 2048  # average power of longer prompts reads too low
A100_TDP_W = 400.0
SAGE_OUTLIER_TOKENS = 8192
LAYER_TOKENS = (1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
REDUCE_MIN_BYTES = 8e6  # smaller ones are latency, which engines hide or replace by kernels of their own


def read(data: Path) -> tuple[Observation, ...]:
    """Return every observation that a parameter may be fitted to."""
    readers = (
        _ml_energy,
        _apex,
        _inference_bench,
        _inference_bench_power,
        _splitwise,
        _sage_serve,
        _vidur,
        _vidur_links,
    )
    return tuple(found for reader in readers for found in reader(data))


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _ml_energy(data: Path) -> Iterator[Observation]:
    for row in _rows(data / "ml-energy" / "h100_dense_llm.train.csv"):
        tp, batch, output = int(row["tensor_parallel"]), float(row["avg_batch_size"]), float(row["avg_output_len"])
        tokens_per_s = float(row["output_throughput_tokens_per_sec"])
        prompt = CHAT_PROMPT_TOKENS if row["task"] == "lm-arena-chat" else GPQA_PROMPT_TOKENS
        figures = {Kind.LOOP_MEAN: batch / tokens_per_s, Kind.LOOP_POWER: float(row["avg_power_watts"]) / tp}
        figures[Kind.LOOP_ENERGY] = float(row["energy_per_token_joules"])
        if batch / output < MEDIAN_PROMPTS_PER_STEP:
            figures[Kind.LOOP_STEP] = float(row["median_itl_ms"]) / 1e3
        for kind, value in figures.items():
            yield Observation("ml-energy", "vllm-2025", row["model_id"], H100, tp, kind, value, batch, prompt, output)


def _apex(data: Path) -> Iterator[Observation]:
    for row in _rows(data / "apex-plus" / "vllm_llama31_70b_h100.train.csv"):
        prompt, tp = APEX_PROMPT_TOKENS[row["workload"]], int(row["tensor_parallel"])
        requests = float(row["prompt_tokens_sum"]) / prompt
        output = float(row["output_tokens_sum"]) / requests
        rate_rps = float(row["trace_rate_rps"]) / int(row["data_parallel"])
        if row["workload"] == "summarization" and rate_rps > APEX_LIGHT_RPS:
            continue  # its README: overloaded
        batch = float(row["sum_request_latency_s"]) * rate_rps / requests + 1  # the others, as met, and itself
        what = ("apex-plus", "vllm-2024-apex", "meta-llama/Llama-3.1-70B-Instruct", H100, tp)
        context = prompt + output / 2
        yield Observation(*what, Kind.DECODE, float(row["mean_tpot_s"]), batch, prompt, output, context)
        if rate_rps < APEX_LIGHT_RPS / 2 or (tp == 8 and row["workload"] != "summarization"):
            for engine in ("vllm-2024-apex", "vllm-2025"):  # nobody publishes a prefill of the newer engine on H100
                seen = Observation(*what, Kind.TTFT, float(row["mean_ttft_s"]), 1.0, prompt)
                yield replace(seen, engine=engine)


LIB_GPUS = {"Nvidia A100 GPU": A100_40, "Nvidia H100 GPU": H100}
LIB_ENGINES = {"vLLM": "vllm-2024", "TensorRT-LLM": "trt-llm-2024"}


def _inference_bench(data: Path) -> Iterator[Observation]:
    for row in _rows(data / "llm-inference-bench" / "throughput.train.csv"):
        found = _static_batch(row, Kind.RUN, float(row["Latency"]) / float(row["Input Output Length"]))
        if found is not None:
            yield found


def _inference_bench_power(data: Path) -> Iterator[Observation]:
    for row in _rows(data / "llm-inference-bench" / "power.train.csv"):
        if row["Framework"] == "vLLM":  # H100 TensorRT-LLM rows sit at 449 W; DeepSpeed-MII is nobody's level
            found = _static_batch(row, Kind.RUN_POWER, float(row["avg_power"]) / 1e3)
            if found is not None:
                yield found


def _static_batch(row: Row, kind: Kind, value: float) -> Observation | None:
    """Return a row of LLM-Inference-Bench, None where its batch does not fit in the KV cache (preemption)."""
    length, batch = float(row["Input Output Length"]), float(row["Batch Size"])
    tp, gpu, llm = int(row["Num of Hardware"]), LIB_GPUS[row["Hardware"]], row["Model"]
    if not memory.holds(shape(llm), gpu, tp, batch * 2 * length):
        return None
    engine = LIB_ENGINES[row["Framework"]]
    return Observation("llm-inference-bench", engine, llm, gpu, tp, kind, value, batch, length, length, 1.5 * length)


def _splitwise(data: Path) -> Iterator[Observation]:
    groups: dict[tuple[str, str, int, int, int], list[Row]] = defaultdict(list)
    for row in _rows(data / "splitwise-sim" / "perf_model.train.csv"):
        key = (
            row["model"],
            row["hardware"],
            int(row["tensor_parallel"]),
            int(row["prompt_size"]),
            int(row["batch_size"]),
        )
        out_of_memory = key[0] == "llama2-70b" and key[2] == 2 and key[4] == 64  # its README
        if int(row["token_size"]) <= SPLITWISE_OUTPUT_TOKENS and not out_of_memory:
            groups[key].append(row)
    for (model, hardware, tp, prompt, batch), rows in sorted(groups.items()):
        gpu = A100_80 if hardware == "a100-80gb" else H100
        what = ("splitwise-sim", "splitwise-2023", SPLITWISE_MODELS[model], gpu, tp)
        size = (float(batch), float(prompt), float(SPLITWISE_OUTPUT_TOKENS), prompt + SPLITWISE_OUTPUT_TOKENS / 2)
        yield Observation(*what, Kind.PREFILL, _median(rows, "prompt_time") / 1e3, *size)
        yield Observation(*what, Kind.DECODE, _median(rows, "token_time") / 1e3, *size)
        share = _median(rows, "average_power")
        if share > 0 and prompt <= SPLITWISE_POWER_PROMPT_TOKENS:
            yield Observation(*what, Kind.RUN_POWER, share * A100_TDP_W, *size)


def _median(rows: list[Row], column: str) -> float:
    return statistics.median(float(row[column]) for row in rows)


def _sage_serve(data: Path) -> Iterator[Observation]:
    what = ("sageserve", "vllm-sageserve", "meta-llama/Llama-3.1-8B-Instruct", A100_80)
    groups: dict[tuple[int, int, int], list[Row]] = defaultdict(list)
    for row in _rows(data / "sageserve" / "Llama-3.1-8B-tp-2.csv"):
        groups[int(row["prompt_size"]), int(row["batch_size"]), int(row["token_size"])].append(row)
    for (prompt, batch, output), rows in sorted(groups.items()):
        if prompt >= SAGE_OUTLIER_TOKENS or output >= SAGE_OUTLIER_TOKENS:
            continue
        step_s = _median(rows, "token_time") / (output - 1)
        size = (float(batch), float(prompt), float(output), prompt + output / 2)
        yield Observation(*what, 2, Kind.DECODE, step_s, *size)
        if batch == 1 and output == SPLITWISE_OUTPUT_TOKENS:  # prompts of a larger batch did not run together
            yield Observation(*what, 2, Kind.PREFILL, _median(rows, "prompt_time"), *size)
    lengths: dict[int, list[float]] = defaultdict(list)
    for row in _rows(data / "sageserve" / "llama-3.1-8B-tp-4-prefill.csv"):
        lengths[int(row["PromptLength"])].append(float(row["ExecTime"]))
    for prompt in sorted(lengths)[::16]:
        yield Observation(*what, 4, Kind.PREFILL, statistics.median(lengths[prompt]), 1.0, float(prompt))
    for row in list(_rows(data / "sageserve" / "decode_step_vs_context.csv"))[1::20]:
        context = float(row["context_tokens"])
        yield Observation(*what, 4, Kind.DECODE, float(row["step_s_median"]), 1.0, 0.0, 0.0, context)


def _vidur(data: Path) -> Iterator[Observation]:
    for row in _rows(data / "vidur" / "linear_layer_ms.train.csv"):
        tokens, tp = int(row["num_tokens"]), int(row["tensor_parallel"])
        if tokens in LAYER_TOKENS:
            gpu = A100_80 if row["gpu"] == "a100" else H100
            value = float(row["layer_ms"]) * float(row["num_layers"]) / 1e3
            yield Observation("vidur", "operators", row["model"], gpu, tp, Kind.LAYERS, value, float(tokens))


def _vidur_links(data: Path) -> Iterator[Observation]:
    for row in list(_rows(data / "vidur" / "all_reduce_ms.csv"))[::25]:
        size = float(row["size_bytes"])
        if row["node"] == "h100_dgx" and size >= REDUCE_MIN_BYTES:  # a100_dgx is an upper bound, says its README
            tp = int(row["num_workers"])
            value = float(row["median_ms"]) / 1e3
            yield Observation("vidur", "operators", "", H100, tp, Kind.REDUCE, value, size_bytes=size)


def shape(llm: str) -> Geometry:
    """Return the shape of an LLM that shared/data measures."""
    return memory.published()[llm]
