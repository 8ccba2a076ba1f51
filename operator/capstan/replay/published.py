"""Published statistics of known traces, from which `synth` draws where the files are not at hand.

Who calls it: `replay.load`. Must not know: files.

`CONVERSATION`, `CODE`: Azure LLM inference trace 2023 (github.com/Azure/AzurePublicDataset, CC-BY 4.0, Patel et al.,
"Splitwise", ISCA 2024), first half of each file by time, its whole minutes: conversation 9,655 requests of 9,739, code
5,100 of 5,353. What is lost: prompt and output lengths are drawn independently (their correlation is -0.17 in
conversation, 0.00 in code), and arrivals are Poisson within each minute (code is burstier than that inside a minute).

`WEEK`: the Conversation service of the Azure trace 2024 (same repository, Stojkovic et al., "DynamoLLM", HPCA 2025), as
read off its notebook's figures: seven daily means times the mean shape of a working day or of a weekend day. That
product is within 4.5 % of the digitised hours on average, 28 % at worst (tests/replay/test_published.py measures it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from capstan.replay.traces.tables import MINUTE_S, Lengths, Rates, steady

QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
"""The quantiles at which the length tables of 2023 are given."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is known of a trace: arrivals over time, and quantiles of its lengths."""

    name: str
    rates: Rates
    lengths: Lengths
    words: str = ""


def _by_minute(*per_minute: int) -> Rates:
    starts_s = MINUTE_S * np.arange(len(per_minute), dtype=np.float64)
    return steady(starts_s, np.array(per_minute, float), len(per_minute) * MINUTE_S)


def _lengths(quantiles: tuple[float, ...], prompt: tuple[int, ...], output: tuple[int, ...]) -> Lengths:
    return Lengths(np.array(quantiles), np.array(prompt, float), np.array(output, float))


CONVERSATION = Statistics(
    name="conv",
    rates=_by_minute(
        *(191, 265, 329, 353, 307, 273, 268, 261, 322, 298, 301, 302, 345, 326, 283),
        *(279, 280, 308, 343, 351, 351, 343, 408, 396, 386, 398, 432, 480, 476),
    ),
    lengths=_lengths(
        QUANTILES,
        (2, 40, 181, 298, 390, 407, 968, 1035, 1081, 1140, 1317, 4075, 4086, 4122, 5279, 14050),
        (7, 16, 38, 50, 71, 88, 102, 140, 211, 393, 404, 428, 463, 611, 939, 1000),
    ),
    words="drawn from the published statistics of the conversation trace of 2023",
)

CODE = Statistics(
    name="code",
    rates=_by_minute(
        *(63, 0, 0, 531, 187, 130, 15, 42, 38, 476, 421, 63, 0, 0, 632),
        *(299, 0, 20, 396, 315, 116, 78, 306, 447, 252, 34, 128, 111),
    ),
    lengths=_lengths(
        QUANTILES,
        (3, 18, 76, 149, 388, 767, 1066, 1465, 1884, 2410, 3155, 4995, 7067, 7436, 7437, 7437),
        (6, 6, 6, 7, 8, 9, 11, 13, 15, 19, 28, 54, 86, 246, 845, 1899),
    ),
    words="drawn from the published statistics of the code trace of 2023",
)

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
DAYS_PER_MIN = (1720, 3199, 3311, 3067, 3093, 2788, 1783)
"""Mean requests per minute of Sunday to Saturday, 2024-05-12 to 05-18."""

WORKDAY_RATIO = (
    *(0.893, 0.976, 0.957, 0.796, 0.804, 0.877, 1.010, 1.089, 1.112, 1.083, 0.975, 1.030),
    *(1.152, 1.273, 1.337, 1.241, 1.130, 1.085, 1.076, 1.009, 0.919, 0.768, 0.689, 0.719),
)
"""Each hour (UTC) of Monday to Friday against its day's mean, mean of the five."""

WEEKEND_RATIO = (
    *(0.868, 0.937, 0.934, 0.789, 0.772, 0.801, 0.821, 0.916, 0.941, 0.864, 0.918, 1.021),
    *(1.092, 1.220, 1.233, 1.275, 1.198, 1.172, 1.128, 1.060, 1.059, 1.018, 0.947, 1.017),
)
"""The same of Sunday and Saturday."""

ENVELOPE_RATIO = 0.11
"""Single minutes lie within this of their seven minutes' mean: half the median width of the plot's envelope."""


def _week() -> Rates:
    shapes = (WEEKEND_RATIO, *(WORKDAY_RATIO,) * 5, WEEKEND_RATIO)
    per_min = np.concatenate([day * np.array(shape) for day, shape in zip(DAYS_PER_MIN, shapes, strict=True)])
    starts_s = HOUR_S * np.arange(len(per_min), dtype=np.float64)
    low, high = per_min * (1 - ENVELOPE_RATIO), per_min * (1 + ENVELOPE_RATIO)
    return Rates(starts_s, per_min, low, high, len(per_min) * HOUR_S)


WEEK = Statistics(
    name="week",
    rates=_week(),
    lengths=_lengths(
        (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99),
        (86, 200, 293, 526, 914, 2341, 3775, 4885, 6568),
        (1, 1, 6, 18, 41, 111, 342, 455, 694),
    ),
    words="drawn from the published statistics of the conversation week of 2024",
)

BY_NAME = {statistics.name: statistics for statistics in (CONVERSATION, CODE, WEEK)}

DAY_SPREAD_RATIO = 0.06
"""How far a day's level lies from another's like it: the five working days of the published week spread by 6 %."""


def another(statistics: Statistics, seed: int) -> Statistics:
    """Return statistics of an earlier span of the same service: each of its days a bit busier or quieter, by seed.

    Levels are lognormal with a mean of 1. Without them a drawn history would hold the very hours that come, and every
    forecast by last week's hours would look better than it can be.
    """
    rates = statistics.rates
    days = ((rates.start_s - rates.start_s[0]) // DAY_S).astype(np.int64)
    spread = DAY_SPREAD_RATIO * np.random.default_rng(seed).standard_normal(int(days[-1]) + 1)
    levels = np.exp(spread - DAY_SPREAD_RATIO**2 / 2)[days]
    mid, low, high = (column * levels for column in (rates.per_min, rates.low_per_min, rates.high_per_min))
    return replace(statistics, rates=Rates(rates.start_s, mid, low, high, rates.end_s))
