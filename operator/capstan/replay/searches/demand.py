"""What a trace asks of the engines, whoever runs them: tokens to make, contexts to read, and how crowded it can get.

Who calls it: `searches.bound`, `searches.fluid`. Must not know: physics, systems, plans.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capstan.replay.runs import Floats, Ints, Requests

MOST_BINS = 100_000  # a crowd is counted per bin: at most this many, at least a second each
SHORTEST_BIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The SLO of each request: `ttft_s` has shape `[request]` (limits differ by prompt length), TPOT is one."""

    ttft_s: Floats
    tpot_s: float
    percentile_ratio: float = 0.99

    @classmethod
    def flat(cls, requests: Requests, *, ttft_s: float, tpot_s: float, percentile_ratio: float = 0.99) -> Limits:
        """Return the same TTFT limit for every request."""
        return cls(np.full(len(requests), ttft_s), tpot_s, percentile_ratio)

    def most_bad(self) -> int:
        """Return how many requests may miss their limits in a run that meets the SLO (other rules only lower it)."""
        return int((1 - self.percentile_ratio) * len(self.ttft_s) + 1e-9)


@dataclass(frozen=True, slots=True)
class Demand:
    """Work per request, shapes `[request]`; no schedule does with less.

    Attributes:
        decode_tokens: Tokens after the first, one step each.
        context_tokens: Contexts read while decoding, summed over those steps.
        prompt_tokens: Tokens to prefill.
        pair_tokens2: Products of new prompt tokens and prompt tokens before their chunk, chunks as large as they get.
        crowd: The most requests that can be inside at one moment of this one's stay while all keep their limits.
    """

    decode_tokens: Floats
    context_tokens: Floats
    prompt_tokens: Floats
    pair_tokens2: Floats
    crowd: Ints


def of(requests: Requests, limits: Limits, *, chunk_tokens: int) -> Demand:
    """Return the work of a trace in an engine whose steps take at most `chunk_tokens` new tokens.

    The world's sequence holds prompt + 1 tokens in its first decode step and one more in each that follows:
    out - 1 steps read (out - 1) x prompt + out (out - 1) / 2. The j-th chunk of a prompt attends to j - 1 whole
    ones; smaller chunks only add pairs.
    """
    prompt = requests.prompt_tokens.astype(np.float64)
    output = requests.output_tokens.astype(np.float64)
    whole, rest = np.divmod(prompt, chunk_tokens)
    pairs = (prompt**2 - whole * float(chunk_tokens) ** 2 - rest**2) / 2
    return Demand(
        decode_tokens=output - 1,
        context_tokens=(output - 1) * prompt + output * (output - 1) / 2,
        prompt_tokens=prompt,
        pair_tokens2=pairs,
        crowd=_crowd(requests, limits),
    )


def _crowd(requests: Requests, limits: Limits) -> Ints:
    """Return, per request, the most windows [arrival, arrival + TTFT + TPOT x (out - 1)] that overlap within its own.

    Counted per bin, so a little too many: the safe side for a bound.
    """
    start_s = requests.arrival_s
    end_s = start_s + limits.ttft_s + limits.tpot_s * (requests.output_tokens - 1)
    span_s = float(end_s.max() - start_s[0])
    bin_s = max(SHORTEST_BIN_S, span_s / MOST_BINS)
    first = ((start_s - start_s[0]) / bin_s).astype(np.int64)
    last = ((end_s - start_s[0]) / bin_s).astype(np.int64)
    bins = int(last.max()) + 1
    entered = np.cumsum(np.bincount(first, minlength=bins))
    left = np.concatenate(([0], np.cumsum(np.bincount(last, minlength=bins))[:-1]))
    return _range_maximum(entered - left, first, last)


def _range_maximum(values: Ints, first: Ints, last: Ints) -> Ints:
    """Return max(values[first..last]) for each pair, by a table of maxima over powers of two."""
    power = np.floor(np.log2(last - first + 1)).astype(np.int64)
    answer = np.zeros(len(first), dtype=np.int64)
    table, width = values, 1
    for exponent in range(int(power.max()) + 1):
        chosen = power == exponent
        answer[chosen] = np.maximum(table[first[chosen]], table[last[chosen] - width + 1])
        if len(table) > width:
            table = np.maximum(table[:-width], table[width:])
        width *= 2
    return answer
