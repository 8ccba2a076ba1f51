"""What vLLM 0.33 says of itself: metric names, labels, types and buckets of its Prometheus logger.

Source: `vllm/v1/metrics/loggers.py` and `buckets.py` of 0.33, listed in the ecosystem fact sheet, section 1.1. Only
what an engine without LoRA, KV connector, speculation and multi-modal input would export is here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from rig.simulator import exposition
from rig.simulator.exposition import Histogram

VERSION = "0.33.0"
BLOCK_TOKENS = 16  # vLLM's KV block

LATENCY_EDGES = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
TTFT_EDGES = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
GAP_EDGES = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
ITERATION_EDGES = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)

FAMILIES: dict[str, tuple[float, ...] | None] = {  # None: 1-2-5 series up to the model's length
    "request_latency": LATENCY_EDGES,
    "time_to_first_token": TTFT_EDGES,
    "inter_token_latency": GAP_EDGES,
    "iteration_tokens": ITERATION_EDGES,
    "request_params_n": (1.0, 2.0, 5.0, 10.0, 20.0),
    "request_tokens": None,
    "kv_cache_residency": (),  # only with --kv-cache-metrics, which the simulator has not
}
HISTOGRAMS = {  # metric -> (bucket family, help)
    "vllm:time_to_first_token_seconds": ("time_to_first_token", "Histogram of time to first token in seconds."),
    "vllm:inter_token_latency_seconds": ("inter_token_latency", "Histogram of inter-token latency in seconds."),
    "vllm:request_time_per_output_token_seconds": (
        "inter_token_latency",
        "Histogram of time_per_output_token_seconds per request.",
    ),
    "vllm:e2e_request_latency_seconds": ("request_latency", "Histogram of e2e request latency in seconds."),
    "vllm:request_queue_time_seconds": ("request_latency", "Histogram of time spent in WAITING phase for request."),
    "vllm:request_inference_time_seconds": ("request_latency", "Histogram of time spent in RUNNING phase for request."),
    "vllm:request_prefill_time_seconds": ("request_latency", "Histogram of time spent in PREFILL phase for request."),
    "vllm:request_decode_time_seconds": ("request_latency", "Histogram of time spent in DECODE phase for request."),
    "vllm:request_prompt_tokens": ("request_tokens", "Number of prefill tokens processed."),
    "vllm:request_generation_tokens": ("request_tokens", "Number of generation tokens processed."),
    "vllm:request_prefill_kv_computed_tokens": (
        "request_tokens",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
    ),
    "vllm:request_max_num_generation_tokens": (
        "request_tokens",
        "Histogram of maximum number of requested generation tokens.",
    ),
    "vllm:request_params_max_tokens": ("request_tokens", "Histogram of the max_tokens request parameter."),
    "vllm:request_params_n": ("request_params_n", "Histogram of the n request parameter."),
    "vllm:request_num_preemptions": ("request_tokens", "Histogram of preemptions per request."),
    "vllm:iteration_tokens_total": ("iteration_tokens", "Histogram of number of tokens per engine_step."),
}
FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")
PROMPT_SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")


@dataclass(frozen=True, slots=True)
class Config:
    """What labels and buckets depend on. `overrides` is `--custom-histogram-buckets`, checked."""

    model_name: str
    max_model_len: int
    kv_tokens: int
    overrides: Mapping[str, tuple[float, ...]]

    def edges(self, family: str) -> tuple[float, ...]:
        """Return the bucket edges of a family, the override first."""
        default = FAMILIES[family]
        return self.overrides.get(family) or (series_1_2_5(self.max_model_len) if default is None else default)


@dataclass(frozen=True, slots=True)
class Now:
    """The engine at the moment of a scrape. `kv_usage` lies in [0, 1]."""

    running: int
    waiting: int
    kv_usage: float
    prompt_tokens_total: int
    generation_tokens_total: int


@dataclass(frozen=True, slots=True)
class Finished:
    """One request at its end; moments in seconds of one clock."""

    reason: str
    prompt_tokens: int
    output_tokens: int
    arrival_s: float
    scheduled_s: float
    first_s: float
    finish_s: float


class Metrics:
    """Everything one engine counts."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._histograms = {name: Histogram(config.edges(family)) for name, (family, _) in HISTOGRAMS.items()}
        self._finished = dict.fromkeys(FINISHED_REASONS, 0)

    def first_token(self, ttft_s: float) -> None:
        """Book a request's time to first token."""
        self._histograms["vllm:time_to_first_token_seconds"].observe(ttft_s)

    def gap(self, gap_s: float) -> None:
        """Book the time between two tokens of a request."""
        self._histograms["vllm:inter_token_latency_seconds"].observe(gap_s)

    def iteration(self, tokens: int) -> None:
        """Book one engine step of `tokens` new tokens, prompt and output together."""
        self._histograms["vllm:iteration_tokens_total"].observe(tokens)

    def finish(self, done: Finished) -> None:
        """Book a finished request; of a request of one token vLLM's mean time per output token is 0."""
        self._finished[done.reason] += 1
        decode_s = done.finish_s - done.first_s
        later_tokens = done.output_tokens - 1
        for name, value in (
            ("e2e_request_latency_seconds", done.finish_s - done.arrival_s),
            ("request_queue_time_seconds", done.scheduled_s - done.arrival_s),
            ("request_inference_time_seconds", done.finish_s - done.scheduled_s),
            ("request_prefill_time_seconds", done.first_s - done.scheduled_s),
            ("request_decode_time_seconds", decode_s),
            ("request_time_per_output_token_seconds", decode_s / later_tokens if later_tokens else 0.0),
            ("request_prompt_tokens", done.prompt_tokens),
            ("request_prefill_kv_computed_tokens", done.prompt_tokens),
            ("request_generation_tokens", done.output_tokens),
            ("request_max_num_generation_tokens", done.output_tokens),
            ("request_params_max_tokens", done.output_tokens),
            ("request_params_n", 1),
            ("request_num_preemptions", 0),
        ):
            self._histograms[f"vllm:{name}"].observe(value)

    def lines(self, now: Now) -> Iterator[str]:
        """Yield the page of this engine."""
        pairs = exposition.labels({"model_name": self._config.model_name, "engine": "0"})
        yield from self._gauges(pairs, now)
        yield from self._counters(pairs, now)
        for name, histogram in self._histograms.items():
            yield from histogram.lines(name, HISTOGRAMS[name][1], pairs)

    def _gauges(self, pairs: str, now: Now) -> Iterator[str]:
        waiting = ((f'{pairs},reason="capacity"', now.waiting), (f'{pairs},reason="deferred"', 0))
        sleep = ((f'{pairs},sleep_state="{s}"', float(s == "awake")) for s in SLEEP_STATES)
        for name, text, samples in (
            ("num_requests_running", "Number of requests in model execution batches.", [(pairs, now.running)]),
            ("num_requests_waiting", "Number of requests waiting to be processed.", [(pairs, now.waiting)]),
            ("num_requests_waiting_by_reason", "Number of waiting requests by reason.", waiting),
            ("engine_sleep_state", "Engine sleep state.", sleep),
            ("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", [(pairs, now.kv_usage)]),
            ("cache_config_info", "Information of the LLMEngine CacheConfig", [(self._cache_config(), 1)]),
        ):
            yield from exposition.family(f"vllm:{name}", "gauge", text, samples)

    def _cache_config(self) -> str:
        blocks = self._config.kv_tokens // BLOCK_TOKENS
        return exposition.labels(
            {
                "block_size": str(BLOCK_TOKENS),
                "cache_dtype": "auto",
                "enable_prefix_caching": "False",
                "num_gpu_blocks": str(blocks),
                "engine": "0",
            }
        )

    def _counters(self, pairs: str, now: Now) -> Iterator[str]:
        finished = [(f'{pairs},finished_reason="{reason}"', count) for reason, count in self._finished.items()]
        by_source = [
            (f'{pairs},source="{s}"', now.prompt_tokens_total if s == "local_compute" else 0) for s in PROMPT_SOURCES
        ]
        for name, text, samples in (
            ("prompt_tokens", "Number of prefill tokens processed.", [(pairs, now.prompt_tokens_total)]),
            ("prompt_tokens_by_source", "Number of prompt tokens by source.", by_source),
            ("prompt_tokens_cached", "Number of cached prompt tokens (local + external).", [(pairs, 0)]),
            ("generation_tokens", "Number of generation tokens processed.", [(pairs, now.generation_tokens_total)]),
            ("request_success", "Count of successfully processed requests.", finished),
            # The world keeps a sequence's KV from its first chunk to its end: it never preempts.
            ("num_preemptions", "Cumulative number of preemption from the engine.", [(pairs, 0)]),
            ("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", [(pairs, 0)]),
            ("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", [(pairs, 0)]),
        ):
            yield from exposition.family(f"vllm:{name}_total", "counter", text, samples)


SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")


def series_1_2_5(limit: int) -> tuple[float, ...]:
    """Return 1, 2, 5, 10, ... up to `limit` (vLLM's buckets of token counts)."""
    series = (mantissa * 10.0**exponent for exponent in range(len(str(limit))) for mantissa in (1, 2, 5))
    return tuple(value for value in series if value <= limit)


def checked_overrides(overrides: Mapping[str, object]) -> dict[str, tuple[float, ...]]:
    """Return `--custom-histogram-buckets` as vLLM would take it.

    Raises:
        ValueError: An unknown family, or edges that are not finite, above zero and strictly ascending.
    """
    return {family: _checked_edges(family, edges) for family, edges in overrides.items()}


def _checked_edges(family: str, edges: object) -> tuple[float, ...]:
    if family not in FAMILIES:
        raise ValueError(f"--custom-histogram-buckets: unknown bucket family {family!r}; known: {sorted(FAMILIES)}")
    if not isinstance(edges, list) or not edges or not all(_is_edge(edge) for edge in edges):
        raise ValueError(f"--custom-histogram-buckets[{family!r}]: give a list of finite numbers above zero")
    if any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"--custom-histogram-buckets[{family!r}]: edges must ascend without repeats")
    return tuple(float(edge) for edge in edges)


def _is_edge(edge: object) -> bool:
    number = isinstance(edge, int | float) and not isinstance(edge, bool)
    return number and math.isfinite(float(str(edge))) and float(str(edge)) > 0
