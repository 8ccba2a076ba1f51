"""The one question that the demo asks Prometheus itself: when did a scrape first show that the load had come?"""

from __future__ import annotations

import httpx

FIRST_TOKENS = "vllm:prompt_tokens_total"  # grows with the first prefill: the earliest sign of load


def first_rise_s(url: str, *, pod_prefix: str, since_s: float, until_s: float) -> float | None:
    """Return the unix time of the first scrape after `since_s` in which a policy's prompt tokens had grown.

    None where no scrape shows it, or Prometheus does not answer: a figure, not a condition.
    """
    query = f'{FIRST_TOKENS}{{pod=~"{pod_prefix}.*"}}[{max(round(until_s - since_s), 1)}s]'
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": query, "time": until_s}, timeout=10, trust_env=False)
        series = answer.raise_for_status().json()["data"]["result"]
    except (httpx.HTTPError, ValueError, KeyError):
        return None
    rises = [_rise_s([(float(t), float(v)) for t, v in one["values"]]) for one in series]
    return min((t for t in rises if t is not None), default=None)


def _rise_s(samples: list[tuple[float, float]]) -> float | None:
    """Return when a counter was first above its first value."""
    return next((t for t, value in samples if value > samples[0][1]), None)
