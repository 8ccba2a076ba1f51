"""What Prometheus said in one cycle: a record per pod, and the pure sums from pods to a policy.

Who calls it: `adapters.prometheus.vllm` fills the records; `serving` picks a policy's pods (the kube cache knows which
they are) and asks `pooled` for what they did together. Must not know: PromQL, Kubernetes, clocks.
A field that is None was not in the answer; it is never 0 for "no data".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from capstan.model.slo import Slo


class Source(StrEnum):
    """Where a reading comes from; a label of `capstan_input_age_seconds`."""

    ENGINE = "engine"  # vLLM's /metrics
    GPU = "gpu"  # dcgm-exporter


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations of one window: `counts[i]` of them were at most `edges[i]`.

    Cumulative, as Prometheus has it; the last edge is +Inf, so the last count is the total. Counts are floats because
    `increase` extrapolates; one that falls below its predecessor (a scrape between two increments) is lifted to it.
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) or not self.edges:
            raise ValueError("a histogram has one count per edge, and at least one")
        if list(self.edges) != sorted(set(self.edges)) or self.edges[-1] != math.inf:
            raise ValueError("edges must rise and end in inf")
        if not all(0 <= count < math.inf for count in self.counts):
            raise ValueError("a count is negative or not finite")
        high = 0.0
        lifted = tuple(high := max(high, count) for count in self.counts)
        object.__setattr__(self, "counts", lifted)

    @property
    def total(self) -> float:
        """Return how many observations there are."""
        return self.counts[-1]

    def within(self, limit: float) -> float:
        """Return how many observations were at most `limit`, linear inside a bucket (exact where it is an edge)."""
        reached, below = 0.0, 0.0
        for edge, count in zip(self.edges, self.counts, strict=True):
            if limit >= edge:
                reached, below = edge, count
                continue
            if edge == math.inf:
                return below
            return below + (count - below) * max(limit - reached, 0.0) / (edge - reached)
        return below


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of requests that ended in a window: how they are spread, and all of their tokens, >= 0."""

    histogram: Histogram
    sum_tokens: float

    @property
    def mean_tokens(self) -> float | None:
        """Return their mean; None where nothing was counted, or nothing but empty requests."""
        total = self.histogram.total
        return self.sum_tokens / total if total > 0 and self.sum_tokens > 0 else None


@dataclass(frozen=True, slots=True)
class PodReading:
    """One engine pod over the last rate window.

    Attributes:
        namespace: Namespace of the pod.
        pod: Name of the pod.
        age_s: Since the engine was last scraped, on Prometheus' clock; None: no engine series for this pod.
        arrival_rps: Requests that arrived, per second (see `adapters.prometheus.vllm` for how).
        sample_requests: Requests that finished in the window, whatever their end; the next two rest on them.
        finished_prompt_tokens: Prompt tokens of those requests, summed.
        finished_output_tokens: Output tokens of those requests, summed.
        running: Requests being served, now.
        waiting: Requests queued, now.
        output_tokens_per_s: Tokens generated, per second.
        ttft: Time to first token, of the requests that got theirs in the window.
        tpot: Mean time per output token of a request, of the requests that finished in the window.
        ttft_lately, tpot_lately: The same over `slo.WINDOW_S`, which an SLO is judged by.
        prompts: Lengths of the prompts of requests that finished lately; over a longer window than the rest.
        outputs: Lengths of their answers.
        power_w: All GPUs of the pod, now.
        gpus: How many GPUs `power_w` sums; fewer than the pod holds: some did not report.
        power_age_s: Since dcgm-exporter was last scraped.
    """

    namespace: str
    pod: str
    age_s: float | None = None
    arrival_rps: float | None = None
    sample_requests: float | None = None
    finished_prompt_tokens: float | None = None
    finished_output_tokens: float | None = None
    running: float | None = None
    waiting: float | None = None
    output_tokens_per_s: float | None = None
    ttft: Histogram | None = None
    tpot: Histogram | None = None
    ttft_lately: Histogram | None = None
    tpot_lately: Histogram | None = None
    prompts: Lengths | None = None
    outputs: Lengths | None = None
    power_w: float | None = None
    gpus: int = 0
    power_age_s: float | None = None

    @property
    def key(self) -> str:
        """Return `namespace/pod`."""
        return f"{self.namespace}/{self.pod}"


@dataclass(frozen=True, slots=True)
class SourceError:
    """A source that did not answer, or not with sense. `message` names the fault and the fix."""

    source: Source
    message: str


@dataclass(frozen=True, slots=True)
class Readings:
    """One cycle's answer. `taken_at_s` is the caller's clock (epoch seconds); `warnings` are Prometheus' own."""

    taken_at_s: float
    pods: tuple[PodReading, ...] = ()
    errors: tuple[SourceError, ...] = ()
    warnings: tuple[str, ...] = ()

    def error_of(self, source: Source) -> SourceError | None:
        """Return why a source is down, None while it answers."""
        return next((error for error in self.errors if error.source is source), None)


@dataclass(frozen=True, slots=True)
class Pooled:
    """Several pods together, each field None where no pod has it.

    `prompt_tokens` and `output_tokens` are means per request; `ttft_s` and `tpot_s` are at the percentile asked for;
    `sample_requests` is how many requests those rest on; `age_s` and `power_age_s` are the oldest pod's.
    """

    arrival_rps: float | None
    prompt_tokens: float | None
    output_tokens: float | None
    running: float | None
    waiting: float | None
    output_tokens_per_s: float | None
    ttft_s: float | None
    tpot_s: float | None
    sample_requests: float | None
    power_w: float | None
    gpus: int
    age_s: float | None
    power_age_s: float | None
    prompts: Lengths | None = None
    outputs: Lengths | None = None


def pooled(pods: Iterable[PodReading], *, percentile_ratio: float) -> Pooled:
    """Return what `pods` did together: rates and gauges are sums, means are weighted by requests, ages are maxima."""
    of = tuple(pods)
    ttft = merged(pod.ttft for pod in of)
    tpot = merged(pod.tpot for pod in of)
    finished = _sum(of, lambda pod: pod.sample_requests)
    return Pooled(
        arrival_rps=_sum(of, lambda pod: pod.arrival_rps),
        prompt_tokens=_mean(_sum(of, lambda pod: pod.finished_prompt_tokens), finished),
        output_tokens=_mean(_sum(of, lambda pod: pod.finished_output_tokens), finished),
        running=_sum(of, lambda pod: pod.running),
        waiting=_sum(of, lambda pod: pod.waiting),
        output_tokens_per_s=_sum(of, lambda pod: pod.output_tokens_per_s),
        ttft_s=quantile_s(ttft, percentile_ratio) if ttft else None,
        tpot_s=quantile_s(tpot, percentile_ratio) if tpot else None,
        sample_requests=min(ttft.total, finished) if ttft and finished is not None else None,
        power_w=_sum(of, lambda pod: pod.power_w),
        gpus=sum(pod.gpus for pod in of),
        age_s=_max(of, lambda pod: pod.age_s),
        power_age_s=_max(of, lambda pod: pod.power_age_s),
        prompts=together(pod.prompts for pod in of),
        outputs=together(pod.outputs for pod in of),
    )


def stress_ratio(pods: Iterable[PodReading], slo: Slo, *, least_requests: float) -> float | None:
    """Return how near its limits a policy was over `slo.WINDOW_S`: the larger of two latencies over their limits.

    A request's larger latency over its own limit cannot be told from histograms: TTFT and TPOT are counted apart. So
    each is taken at the SLO's percentile by itself, and the stress is the larger of the two. It is at most the
    percentile that was meant, as far as buckets tell one: whoever is late by the one latency is late by the larger of
    the two. Nor can a request's prompt be told, so TTFT is held to `slo.ttft_s`, the loosest of its limits: a short
    prompt that is late by its own tier does not show.

    Args:
        pods: Their readings; requests of pods that are gone are not in them.
        slo: The policy's limits.
        least_requests: How many first tokens and how many ends are wanted at least, each.

    Returns:
        1 is at the limit. None: too few requests to tell, or no histogram.
    """
    of = tuple(pods)
    both = merged(pod.ttft_lately for pod in of), merged(pod.tpot_lately for pod in of)
    ratios = []
    for histogram, limit_s in zip(both, (slo.ttft_s, slo.tpot_s), strict=True):
        found_s = None if histogram is None else quantile_s(histogram, slo.percentile_ratio)
        if histogram is None or found_s is None or histogram.total < least_requests:
            return None
        ratios.append(found_s / limit_s)
    return max(ratios)


def together(lengths: Iterable[Lengths | None]) -> Lengths | None:
    """Return the lengths of several pods as one; None where no pod has any."""
    known = [one for one in lengths if one is not None]
    histogram = merged(one.histogram for one in known)
    return None if histogram is None else Lengths(histogram, sum(one.sum_tokens for one in known))


def merged(histograms: Iterable[Histogram | None]) -> Histogram | None:
    """Return the sum of histograms over the union of their edges; None where there is none.

    Engines of one policy may have different buckets (`--custom-histogram-buckets`, a rolling upgrade): a count at an
    edge that an engine does not have is linear inside its bucket.
    """
    known = [histogram for histogram in histograms if histogram is not None]
    if not known:
        return None
    if all(histogram.edges == known[0].edges for histogram in known):  # as a rule, and twenty times as fast
        return Histogram(known[0].edges, tuple(map(sum, zip(*(one.counts for one in known), strict=True))))
    edges = tuple(sorted({edge for histogram in known for edge in histogram.edges}))
    return Histogram(edges, tuple(sum(histogram.within(edge) for histogram in known) for edge in edges))


def quantile_s(histogram: Histogram, ratio: float) -> float | None:
    """Return the quantile, linear inside its bucket; None where nothing was observed.

    Above the highest finite edge nothing is known but "at least that edge", which is what is returned, as
    `histogram_quantile` does: give the engine an edge above the SLO.

    Args:
        histogram: What was observed.
        ratio: Quantile in (0, 1].
    """
    if histogram.total <= 0:
        return None
    rank = ratio * histogram.total
    reached, below = 0.0, 0.0
    for edge, count in zip(histogram.edges, histogram.counts, strict=True):
        if count >= rank:
            if edge == math.inf:
                return reached if reached > 0 else None
            return reached + (edge - reached) * (rank - below) / (count - below)
        reached, below = edge, count
    return None  # unreachable for ratio <= 1: the last count is the total


def _sum(pods: tuple[PodReading, ...], value: Callable[[PodReading], float | None]) -> float | None:
    known = [found for pod in pods if (found := value(pod)) is not None]
    return sum(known) if known else None


def _max(pods: tuple[PodReading, ...], value: Callable[[PodReading], float | None]) -> float | None:
    return max((found for pod in pods if (found := value(pod)) is not None), default=None)


def _mean(total: float | None, count: float | None) -> float | None:
    return total / count if total is not None and count else None
