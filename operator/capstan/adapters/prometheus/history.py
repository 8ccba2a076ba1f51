"""Long histories of vLLM from Prometheus: counts of requests and histograms of their lengths, step by step.

Who calls it: the command line on a laptop, never a control loop: the client blocks. Must not know: what becomes of the
series. Needs the extra `replay` (prometheus-api-client), so nothing that the operator imports may import it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import prometheus_api_client
from prometheus_api_client import exceptions
from urllib3.util import Retry

from capstan.adapters import errors

FINISHED = "vllm:request_success_total"
PROMPT = "vllm:request_prompt_tokens"
OUTPUT = "vllm:request_generation_tokens"

MAX_POINTS = 10_000
"""Steps per query: Prometheus refuses more than 11,000 points of a series."""

DEADLINE_S = 60
RETRIES = Retry(total=2, backoff_factor=0.5, status_forcelist=(502, 503, 504))

SELECTOR = re.compile(r"\{?\s*(.*?)\s*,?\s*\}?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted: steps of `step_s` from `start` to `end`, of the engines that a selector matches."""

    url: str
    start: datetime
    end: datetime
    step_s: int
    selector: str = ""

    @property
    def steps(self) -> int:
        """Whole steps in the span."""
        return int((self.end - self.start).total_seconds() // self.step_s)


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram of lengths: cumulative counts by upper edge in tokens, and all tokens; one value per step."""

    counts: dict[float, tuple[float, ...]]
    sum_tokens: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Series:
    """What was found, one value per step, NaN for no sample; `counted` is the query that counted requests."""

    counted: str
    requests: tuple[float, ...]
    prompt: Buckets
    output: Buckets


def read(ask: Ask, told: Callable[[float], None] = lambda _share: None) -> Series:
    """Fetch the history; requests are counted by `vllm:request_success_total`, else by the prompts' histogram.

    Args:
        ask: What is wanted.
        told: The share of the questions that were answered, 0 to 1.

    Raises:
        NotFound: The server has no such metric; says what was asked. Unavailable, Malformed, Rejected: as they say.
    """
    if not ask.url.startswith(("http://", "https://")):
        raise errors.Rejected(f"{ask.url}: write the server's address with http:// or https://")
    client = prometheus_api_client.PrometheusConnect(url=ask.url.rstrip("/"), retry=RETRIES, timeout=DEADLINE_S)
    queries = [f"sum(increase({metric}{_braces(ask)}[{ask.step_s}s]))" for metric in (FINISHED, f"{PROMPT}_count")]
    found = next(((query, rows) for query in queries if (rows := _values(client, ask, query, ""))), None)
    if found is None:
        raise errors.NotFound(f"{ask.url} has no samples between {ask.start} and {ask.end} of: {' or '.join(queries)}")
    query, rows = found
    told(1 / 3)
    prompt = _histogram(client, ask, PROMPT)
    told(2 / 3)
    return Series(query, rows[""], prompt, _histogram(client, ask, OUTPUT))


def _histogram(client: prometheus_api_client.PrometheusConnect, ask: Ask, metric: str) -> Buckets:
    query = f"sum by (le) (increase({metric}_bucket{_braces(ask)}[{ask.step_s}s]))"
    rows = _values(client, ask, query, "le")
    if not rows:
        raise errors.NotFound(f"{ask.url} has no samples between {ask.start} and {ask.end} of: {query}")
    sums = _values(client, ask, f"sum(increase({metric}_sum{_braces(ask)}[{ask.step_s}s]))", "")
    return Buckets({_number(edge): values for edge, values in rows.items()}, sums.get(""))


def _values(
    client: prometheus_api_client.PrometheusConnect, ask: Ask, query: str, label: str
) -> dict[str, tuple[float, ...]]:
    """Return a value per step for each value of a label; the value at a step's end tells of the step."""
    rows: dict[str, list[float]] = {}
    for first, last in _windows(ask.steps):
        start, end = (ask.start + timedelta(seconds=ask.step_s * (step + 1)) for step in (first, last))
        for series in _asked(client, query, start, end, ask.step_s):
            key, samples = _parsed(ask, series, label)
            row = rows.setdefault(key, [math.nan] * ask.steps)
            for moment_s, value in samples:
                step = round((moment_s - ask.start.timestamp()) / ask.step_s) - 1
                if 0 <= step < ask.steps:
                    row[step] = value
    return {key: tuple(row) for key, row in rows.items()}


def _parsed(ask: Ask, series: object, label: str) -> tuple[str, list[tuple[float, float]]]:
    """Return a series' label and its samples as (moment, value)."""
    match series:
        case {"metric": {**labels}, "values": [*samples]}:
            pairs = [sample for sample in samples if isinstance(sample, list) and len(sample) == 2]
            if len(pairs) == len(samples):
                return str(labels.get(label, "")), [(_number(moment), _number(text)) for moment, text in pairs]
    raise errors.Malformed(f"{ask.url}: a series has no labels or samples; is it Prometheus?")


def _windows(steps: int) -> Iterator[tuple[int, int]]:
    for first in range(0, steps, MAX_POINTS):
        yield first, min(first + MAX_POINTS, steps) - 1


def _asked(
    client: prometheus_api_client.PrometheusConnect, query: str, start: datetime, end: datetime, step_s: int
) -> list[object]:
    try:
        found = client.custom_query_range(query, start, end, f"{step_s}s")
    except exceptions.PrometheusApiClientException as error:
        raise errors.Rejected(f"{client.url}: {str(error)[:300]}") from error
    except ValueError as error:  # requests' JSON error is an OSError, too, so it goes first
        raise errors.Malformed(f"{client.url}: the answer is not JSON; is it Prometheus?") from error
    except OSError as error:  # every error of requests is one
        raise errors.Unavailable(f"{client.url} cannot be reached: {str(error)[:200]}") from error
    except (KeyError, TypeError) as error:
        raise errors.Malformed(f"{client.url}: the answer has no result; is it Prometheus?") from error
    if not isinstance(found, list):
        raise errors.Malformed(f"{client.url}: the result is no list; is it Prometheus?")
    return found


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        raise errors.Malformed(f"{str(text)[:40]!r} is no number") from None


def _braces(ask: Ask) -> str:
    inner = SELECTOR.fullmatch(ask.selector.strip())
    return f"{{{inner[1]}}}" if inner and inner[1] else ""
