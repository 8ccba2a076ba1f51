"""What one cycle asks Prometheus: six queries for all policies together, and a record per pod from the answers.

Who calls it: `app.operator`. Names are vLLM 0.33's; where a version has another, the query falls back pod by pod.

Arrivals. `request_success_total` and the `request_*_tokens` histograms count at the *end* of a request, tens of seconds
late; `prompt_tokens_total` counts at the end of prefill, in tokens. The first token is the earliest thing that vLLM
counts per request, and what has arrived without one stands in `num_requests_waiting` (but for the few in prefill), so
arrivals of a window = first tokens + growth of the queue. A load step shows at the next scrape, even where it only
queues, and nothing is counted twice. A request that gives up while it waits is not counted.

Every sum is over `max by (…, engine, model_name)`: the same engine scraped twice (a pair of Prometheus servers behind
one query endpoint, two jobs) counts once. Ages are on Prometheus' clock, so that ours may be wrong.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from capstan.adapters import errors
from capstan.adapters.prometheus.client import Answer, Point, Prometheus, matcher
from capstan.model.reading import Histogram, Lengths, PodReading, Readings, Source, SourceError
from capstan.model.slo import WINDOW_S

LENGTHS_S = 300.0  # lengths drift over hours, and a minute of a small service has too few requests to tell a mix by
PROMPTS, OUTPUTS = "vllm:request_prompt_tokens", "vllm:request_generation_tokens"
MAX_GPU_W = 5000.0  # dcgm's "not supported" is 9.2e18; no board draws this
ENGINE = "namespace, pod, engine, model_name"
GPU = "namespace, pod, exported_namespace, exported_pod"
LATELY = "lately"
TPOT = (  # newest name first: per request; then per token, which is all that vLLM <= 0.11 and llm-d's simulator have
    "vllm:request_time_per_output_token_seconds_bucket",
    "vllm:inter_token_latency_seconds_bucket",
    "vllm:time_per_output_token_seconds_bucket",
)


@dataclass(frozen=True, slots=True)
class Queries:
    """The PromQL of one cycle. `matchers` are asked of every series; see `client.Source`."""

    window_s: float
    matchers: Mapping[str, str] = field(default_factory=dict)

    def engines(self) -> str:
        """Return the query for every number of an engine but its histograms; the label `what` says which."""
        running, waiting = "vllm:num_requests_running", "vllm:num_requests_waiting"
        first = self._pods("increase", "vllm:time_to_first_token_seconds_count")
        return _labelled(
            {
                "arrived": f"{first} + {self._pods('delta', waiting)}",
                "finished": self._pods("increase", "vllm:request_generation_tokens_count"),
                "prompt": self._pods("increase", "vllm:request_prompt_tokens_sum"),
                "output": self._pods("increase", "vllm:request_generation_tokens_sum"),
                "tokens_per_s": self._pods("rate", "vllm:generation_tokens_total"),
                "running": _summed(self._series(running)),
                "waiting": _summed(self._series(waiting)),
                "age_s": f"time() - max by (namespace, pod) (timestamp({self._series(running)}))",
            }
        )

    def ttft(self, window: str = "") -> str:
        """Return the query for TTFT buckets; those that counted nothing are left out."""
        return f"{self._buckets('vllm:time_to_first_token_seconds_bucket', window)} > 0"

    def tpot(self, window: str = "") -> str:
        """Return the query for TPOT buckets, of each pod under the newest name that it has."""
        return f"({' or on (namespace, pod) '.join(self._buckets(name, window) for name in TPOT)}) > 0"

    def and_lately(self, buckets: Callable[[str], str]) -> str:
        """Join a query for buckets with the same over the window that an SLO is judged by, `lately` in label `what`.

        One query for both: a moment of one window beside another moment of the other is no record.
        """
        lately = buckets(_window(max(self.window_s, WINDOW_S)))
        return f'{buckets("")} or label_replace({lately}, "what", "{LATELY}", "", "")'

    def lengths(self, name: str) -> str:
        """Return the query for a histogram of lengths: buckets by `le`, and in the label `what` the sum of all.

        Empty buckets stay: without the last one below, the first that counted would seem to begin at 0.
        """
        window = _window(max(self.window_s, LENGTHS_S))
        total = _summed(f"increase({self._series(f'{name}_sum')}{window})")
        return f'{self._buckets(f"{name}_bucket", window)} or label_replace({total}, "what", "sum", "", "")'

    def gpus(self) -> str:
        """Return the query for GPU watts; the workload's pod is `exported_pod` unless the scrape honors labels."""
        series = self._series("DCGM_FI_DEV_POWER_USAGE")
        board = f"max by ({GPU}, UUID) ({series} >= 0 < {MAX_GPU_W:g})"
        return _labelled(
            {
                "watts": f"sum by ({GPU}) ({board})",
                "gpus": f"count by ({GPU}) ({board})",
                "age_s": f"time() - min by ({GPU}) (max by ({GPU}, UUID) (timestamp({series})))",
            }
        )

    def _pods(self, function: str, name: str) -> str:
        return _summed(f"{function}({self._series(name)}{_window(self.window_s)})")

    def _buckets(self, name: str, window: str = "") -> str:
        counted = f"increase({self._series(name)}{window or _window(self.window_s)})"
        return f"sum by (namespace, pod, le) (max by ({ENGINE}, le) ({counted}))"

    def _series(self, name: str) -> str:
        asked = ",".join(matcher(label, value) for label, value in sorted(self.matchers.items()))
        return f"{name}{{{asked}}}"


def _window(span_s: float) -> str:
    return f"[{round(span_s * 1000)}ms]"  # PromQL's durations take no fractions


def _summed(expression: str) -> str:
    return f"sum by (namespace, pod) (max by ({ENGINE}) ({expression}))"


def _labelled(parts: Mapping[str, str]) -> str:
    """Join expressions into one query; each answer says in the label `what` which one it is."""
    return " or ".join(f'label_replace({expr}, "what", "{what}", "", "")' for what, expr in parts.items())


@dataclass(slots=True)
class _Rows:
    """Values of one pod by the word of their query."""

    engine: dict[str, float] = field(default_factory=dict)
    gpu: dict[str, float] = field(default_factory=dict)
    ttft: dict[float, float] = field(default_factory=dict)
    tpot: dict[float, float] = field(default_factory=dict)
    ttft_lately: dict[float, float] = field(default_factory=dict)
    tpot_lately: dict[float, float] = field(default_factory=dict)
    prompts: dict[float, float] = field(default_factory=dict)
    outputs: dict[float, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)


class Telemetry:
    """Reads a cycle's numbers. `window_s` is the rate window: at least four scrapes."""

    def __init__(self, prometheus: Prometheus, *, window_s: float, wall_s: Callable[[], float] = time.time) -> None:
        self._prometheus = prometheus
        self._queries = Queries(window_s, prometheus.source.matchers)
        self._wall_s = wall_s

    async def read(self) -> Readings:
        """Return the newest readings; a source that fails is an error inside the answer, never an exception."""
        asks = _asks(self._queries)
        (engines, engine_error), (lengths, lengths_error), (gpus, gpu_error) = await asyncio.gather(
            *(self._ask(source, *(query for query, _ in asked)) for source, asked in asks)
        )
        pods: defaultdict[tuple[str, str], _Rows] = defaultdict(_Rows)
        for (_, asked), answers in zip(asks, (engines, lengths, gpus), strict=True):
            for (_, fill), answer in zip(asked, answers, strict=False):  # none where the source is down
                _fill(pods, answer.points, fill)
        # Without lengths classes are not told apart, which is no reason to say that the engines are silent.
        said = () if lengths_error is None else (f"lengths of requests: {lengths_error.message}",)
        return Readings(
            taken_at_s=self._wall_s(),
            pods=tuple(_reading(key, rows, self._queries.window_s) for key, rows in sorted(pods.items())),
            errors=tuple(error for error in (engine_error, gpu_error) if error is not None),
            warnings=(*(w for answer in (*engines, *lengths, *gpus) for w in answer.warnings), *said),
        )

    async def _ask(self, source: Source, *queries: str) -> tuple[tuple[Answer, ...], SourceError | None]:
        """Ask several queries at once; all or nothing, so that no record is half of a moment."""
        try:
            answers = await asyncio.gather(*(self._prometheus.instant(query) for query in queries))
        except errors.AdapterError as problem:
            return (), SourceError(source, str(problem))
        return tuple(answers), None


_Asked = tuple[tuple[str, Callable[[_Rows, Point], None]], ...]


def _asks(queries: Queries) -> tuple[tuple[Source, _Asked], ...]:
    """Return what is asked together: engines, lengths and GPUs, each query with what takes its answer."""
    ttft, tpot = (queries.and_lately(buckets) for buckets in (queries.ttft, queries.tpot))
    engines = ((queries.engines(), _engine), (ttft, _ttft), (tpot, _tpot))
    lengths = ((queries.lengths(PROMPTS), _prompts), (queries.lengths(OUTPUTS), _outputs))
    return (Source.ENGINE, engines), (Source.ENGINE, lengths), (Source.GPU, ((queries.gpus(), _gpu),))


def _fill(
    pods: defaultdict[tuple[str, str], _Rows], points: Iterable[Point], fill: Callable[[_Rows, Point], None]
) -> None:
    for point in points:
        key = _pod_of(point.labels)
        if key is not None:
            fill(pods[key], point)


def _pod_of(labels: Mapping[str, str]) -> tuple[str, str] | None:
    """Return (namespace, pod) of the workload: the exporter's own pod stands in `pod` where `exported_pod` exists."""
    pod = labels.get("exported_pod") or ("" if "exported_namespace" in labels else labels.get("pod", ""))
    namespace = labels.get("exported_namespace") or labels.get("namespace", "")
    return (namespace, pod) if pod and namespace else None


def _engine(rows: _Rows, point: Point) -> None:
    rows.engine[point.labels.get("what", "")] = point.value


def _gpu(rows: _Rows, point: Point) -> None:
    rows.gpu[point.labels.get("what", "")] = point.value


def _ttft(rows: _Rows, point: Point) -> None:
    _buckets_of(rows.ttft, rows.ttft_lately, point)


def _tpot(rows: _Rows, point: Point) -> None:
    _buckets_of(rows.tpot, rows.tpot_lately, point)


def _buckets_of(now: dict[float, float], lately: dict[float, float], point: Point) -> None:
    """Take a bucket of the window that its label says."""
    (lately if point.labels.get("what") == LATELY else now)[_edge(point)] = point.value


def _prompts(rows: _Rows, point: Point) -> None:
    _length(rows, rows.prompts, PROMPTS, point)


def _outputs(rows: _Rows, point: Point) -> None:
    _length(rows, rows.outputs, OUTPUTS, point)


def _length(rows: _Rows, buckets: dict[float, float], name: str, point: Point) -> None:
    if point.labels.get("what") == "sum":
        rows.sums[name] = point.value
    else:
        buckets[_edge(point)] = point.value


def _edge(point: Point) -> float:
    """Return a bucket's edge; NaN, which `_histogram` drops, where the label is no number."""
    try:
        return float(point.labels.get("le", "nan"))  # takes "+Inf"
    except ValueError:
        return math.nan


def _histogram(buckets: Mapping[float, float]) -> Histogram | None:
    """Return the histogram, or None where it is not whole (no +Inf) or has an impossible count."""
    edges = sorted(edge for edge in buckets if not math.isnan(edge))
    if not edges or edges[-1] != math.inf or any(buckets[edge] < 0 for edge in edges):
        return None
    return Histogram(tuple(edges), tuple(buckets[edge] for edge in edges))


def _lengths(buckets: Mapping[float, float], sum_tokens: float | None) -> Lengths | None:
    """Return lengths, or None where the histogram is not whole or its sum is not there."""
    histogram = _histogram(buckets)
    if histogram is None or sum_tokens is None or sum_tokens < 0:
        return None
    return Lengths(histogram, sum_tokens)


def _reading(key: tuple[str, str], rows: _Rows, window_s: float) -> PodReading:
    engine, gpu = rows.engine, rows.gpu
    arrived = engine.get("arrived")
    return PodReading(
        namespace=key[0],
        pod=key[1],
        age_s=_known(engine.get("age_s")),
        arrival_rps=None
        if arrived is None
        else max(arrived, 0.0) / window_s,  # given up in the queue: no negative rate
        sample_requests=_known(engine.get("finished")),
        finished_prompt_tokens=_known(engine.get("prompt")),
        finished_output_tokens=_known(engine.get("output")),
        running=_known(engine.get("running")),
        waiting=_known(engine.get("waiting")),
        output_tokens_per_s=_known(engine.get("tokens_per_s")),
        ttft=_histogram(rows.ttft),
        tpot=_histogram(rows.tpot),
        ttft_lately=_histogram(rows.ttft_lately),
        tpot_lately=_histogram(rows.tpot_lately),
        prompts=_lengths(rows.prompts, rows.sums.get(PROMPTS)),
        outputs=_lengths(rows.outputs, rows.sums.get(OUTPUTS)),
        power_w=_known(gpu.get("watts")),
        gpus=int(gpu.get("gpus", 0)),
        power_age_s=_known(gpu.get("age_s")),
    )


def _known(value: float | None) -> float | None:
    """Return a value that cannot be negative; a negative one is no value."""
    return None if value is None or value < 0 else value
