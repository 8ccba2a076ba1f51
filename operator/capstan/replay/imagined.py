"""Statistics of loads that nobody has published whole, made from the single figures that are: for the experiments.

Who calls it: `replay.sources`. Must not know: files.

Each table says which of its figures is published and which is assumed. Nothing here was tuned to a result: the spiky
week is for being kept aside, so its figures were fixed before a system was run on it.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from capstan.replay.published import CODE, HOUR_S, Statistics
from capstan.replay.traces.tables import Lengths, Rates, steady

DAY_HOURS = 24

# --- a week of a service like Coding -----------------------------------------------------------------

WEEK_REQUESTS = 16_803_695
"""Coding, Azure trace 2024, 10 to 16 May (facts: rows of the public file)."""

PEAK_RATIO, SWING_RATIO = 2.8, 34.6
"""Coding's highest load over its mean, and over its lowest (DynamoLLM, HPCA 2025). Of which span is not said: here it
is hours, so that the minutes below go further."""

WORKDAY_SHAPE = (
    *(0.14, 0.07, 0.03, 0.00, 0.01, 0.04, 0.12, 0.28, 0.55, 0.82, 0.94, 0.97),
    *(0.72, 0.80, 0.98, 1.00, 0.95, 0.80, 0.57, 0.42, 0.35, 0.31, 0.26, 0.20),
)
"""From the week's lowest hour (0) to its highest (1): office hours with a lunch. Assumed: Coding has no plot here."""

FIRST_WEEKEND_DAY = 1
"""The week begins on a Friday, as the trace does."""

MINUTE_LOW_RATIO, MINUTE_HIGH_RATIO = 0.5, 2.0
"""Single minutes against their hour: a coefficient of variation of 0.41. Assumed, between Conversation's week (0.06, a
large service) and the code trace of 2023 (1.02 from minute to minute, a small sample of one)."""


def _spiky_week() -> Statistics:
    """Return the week; its weekend is as quiet as peak, valley and mean of the published week leave it."""
    low = PEAK_RATIO / SWING_RATIO
    workday = np.array(WORKDAY_SHAPE)
    mean_shape = (1 - low) / (PEAK_RATIO - low)
    weekend_ratio = (7 * mean_shape / float(workday.mean()) - 5) / 2
    days = [workday * (weekend_ratio if FIRST_WEEKEND_DAY <= day <= FIRST_WEEKEND_DAY + 1 else 1.0) for day in range(7)]
    mean_per_min = WEEK_REQUESTS / (7 * DAY_HOURS * 60)
    per_min = mean_per_min * (low + (PEAK_RATIO - low) * np.concatenate(days))
    starts_s = HOUR_S * np.arange(len(per_min), dtype=np.float64)
    rates = Rates(starts_s, per_min, per_min * MINUTE_LOW_RATIO, per_min * MINUTE_HIGH_RATIO, len(per_min) * HOUR_S)
    words = "a week made of Coding's published mean, peak and valley of 2024 and the code trace's lengths of 2023"
    return Statistics("spiky-week", rates, CODE.lengths, words)


# --- long prompts, long answers ----------------------------------------------------------------------

POINTS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)

LONG_PROMPT_TOKENS = (32_768, 128_000)
"""Issue's own span, log-uniform; 128,000 and the longest answer fit the 131,072 tokens of Llama 3.1's context."""

LONG_OUTPUT_MEDIAN_TOKENS, LONG_OUTPUT_SIGMA = 250, 0.7
"""An answer about a document is as long as one in a conversation. Assumed."""

REASONING_MEAN_TOKENS = 7_000
"""GPQA answers of Qwen3-32B on H100: 6,906 to 7,176 tokens on average (ML.ENERGY benchmark v3)."""

REASONING_SIGMA = 0.8
"""Spread of the logarithm: the median is 5,083 tokens, one answer in a hundred is above 32,700. Assumed: the benchmark
publishes means only. ServeGen (NSDI 2026) sees two humps in production, which no lognormal has."""

REASONING_PROMPT_MEDIAN_TOKENS, REASONING_PROMPT_SIGMA = 250, 0.6
"""A question of some sentences with its answers to choose from. Assumed: the benchmark prints no prompt lengths."""

PER_MIN = 60.0
"""Of both: one request a second, for a scenario to scale, or to take the lengths from (`steady`)."""

SPAN_S = HOUR_S


def _lognormal(median_tokens: float, sigma: float) -> list[float]:
    """Return quantiles of a lognormal, at least one token."""
    return [max(median_tokens * math.exp(sigma * NormalDist().inv_cdf(at)), 1.0) for at in POINTS]


def _flat(name: str, prompt: list[float], output: list[float], words: str) -> Statistics:
    rates = steady(np.array([0.0]), np.array([PER_MIN]), SPAN_S)
    return Statistics(name, rates, Lengths(np.array(POINTS), np.array(prompt), np.array(output)), words)


def _long_context() -> Statistics:
    shortest, longest = LONG_PROMPT_TOKENS
    span = math.log(longest / shortest)
    prompt = [shortest * math.exp(span * at) for at in (0.0, *POINTS, 1.0)]
    output = _lognormal(LONG_OUTPUT_MEDIAN_TOKENS, LONG_OUTPUT_SIGMA)
    lengths = Lengths(np.array((0.0, *POINTS, 1.0)), np.array(prompt), np.array([output[0], *output, output[-1]]))
    words = "prompts of 32,768 to 128,000 tokens, log-uniform, assumed"
    return Statistics("long-context", steady(np.array([0.0]), np.array([PER_MIN]), SPAN_S), lengths, words)


def _reasoning() -> Statistics:
    median_tokens = REASONING_MEAN_TOKENS / math.exp(REASONING_SIGMA**2 / 2)
    return _flat(
        "reasoning",
        _lognormal(REASONING_PROMPT_MEDIAN_TOKENS, REASONING_PROMPT_SIGMA),
        _lognormal(median_tokens, REASONING_SIGMA),
        "answers of 7,000 tokens on average (ML.ENERGY v3, GPQA), lognormal with an assumed spread",
    )


SPIKY_WEEK, LONG_CONTEXT, REASONING = _spiky_week(), _long_context(), _reasoning()

BY_NAME = {statistics.name: statistics for statistics in (SPIKY_WEEK, LONG_CONTEXT, REASONING)}
