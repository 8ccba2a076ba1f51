"""Synthetic traces from published statistics, for where the Azure files are not at hand.

Who calls it: `replay.scenario`, which says in the run's settings that the trace is synthetic. Must not know: files.

Source of every table: Azure LLM inference trace 2023 (github.com/Azure/AzurePublicDataset, CC-BY 4.0, Patel et al.,
"Splitwise", ISCA 2024), first half of each file by time: conversation 9,739 requests, code 5,353. What is lost:
prompt and output lengths are drawn independently (their correlation is -0.17 in conversation, 0.00 in code), and
arrivals are Poisson within each minute (code is burstier than that inside a minute).
"""

from __future__ import annotations

import bisect
import random
from dataclasses import dataclass

from capstan.model.workload import Request

MINUTE_S = 60.0

QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
"""The quantiles at which the length tables below are given."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is known of a trace: arrivals per minute, and lengths in tokens at `QUANTILES`."""

    name: str
    per_minute: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]


CONVERSATION = Statistics(
    name="conv",
    per_minute=(
        *(191, 265, 329, 353, 307, 273, 268, 261, 322, 298, 301, 302, 345, 326, 283),
        *(279, 280, 308, 343, 351, 351, 343, 408, 396, 386, 398, 432, 480, 476),
    ),
    prompt_tokens=(2, 40, 181, 298, 390, 407, 968, 1035, 1081, 1140, 1317, 4075, 4086, 4122, 5279, 14050),
    output_tokens=(7, 16, 38, 50, 71, 88, 102, 140, 211, 393, 404, 428, 463, 611, 939, 1000),
)

CODE = Statistics(
    name="code",
    per_minute=(
        *(63, 0, 0, 531, 187, 130, 15, 42, 38, 476, 421, 63, 0, 0, 632),
        *(299, 0, 20, 396, 315, 116, 78, 306, 447, 252, 34, 128, 111),
    ),
    prompt_tokens=(3, 18, 76, 149, 388, 767, 1066, 1465, 1884, 2410, 3155, 4995, 7067, 7436, 7437, 7437),
    output_tokens=(6, 6, 6, 7, 8, 9, 11, 13, 15, 19, 28, 54, 86, 246, 845, 1899),
)

BY_NAME = {statistics.name: statistics for statistics in (CONVERSATION, CODE)}


def requests(statistics: Statistics, *, seed: int) -> list[Request]:
    """Return a trace with the arrivals per minute and the lengths of `statistics`; the same seed, the same trace."""
    chance = random.Random(seed)  # noqa: S311 - a simulation, not a secret
    made: list[Request] = []
    for minute, count in enumerate(statistics.per_minute):
        for arrival_s in _arrivals(chance, count):
            prompt = _drawn(chance, statistics.prompt_tokens)
            output = _drawn(chance, statistics.output_tokens)
            made.append(Request(len(made), minute * MINUTE_S + arrival_s, prompt, output))
    return made


def _arrivals(chance: random.Random, per_minute: int) -> list[float]:
    """Return Poisson arrivals within one minute, ascending."""
    times: list[float] = []
    t_s = 0.0
    while per_minute:
        t_s += chance.expovariate(per_minute / MINUTE_S)
        if t_s >= MINUTE_S:
            break
        times.append(t_s)
    return times


def _drawn(chance: random.Random, lengths: tuple[int, ...]) -> int:
    """Return a length by inverting the quantile table, linear between its points."""
    u = chance.random()
    i = bisect.bisect_right(QUANTILES, u) - 1
    share = (u - QUANTILES[i]) / (QUANTILES[i + 1] - QUANTILES[i])
    return round(lengths[i] + share * (lengths[i + 1] - lengths[i]))
