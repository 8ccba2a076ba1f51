"""How long an answer will be: running quantiles per route, tenant and prompt length, and `max_tokens` as a bound.

Who calls it: whoever routes a request, through `LengthPredictor`; `replay.classify` runs it over a trace. It knows no
text: what it goes by is who asks, what for and how long the prompt is. No clock and no chance: the same requests in the
same order leave the same memory. Must not know: pools.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from capstan.model.classes import Edges

BIN_RATIO = 1.1
"""Answers are counted in bins this wide, so a quantile is right to 5 %; up to 20 tokens every length has its own."""

LONGEST_TOKENS = 1 << 20
"""Longer answers, if there are any, are counted here: eight times a context of 128k."""

_HUGE = 1e100  # weights grow instead of all counts shrinking; from here on all are divided by it

Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Shape:
    """How finely it tells requests apart, and for how long it remembers. `capstan lengths --sweep` prints the others.

    Attributes:
        bins_per_octave: Prompts within a factor of 2^(1/4) = 1.19 of each other are alike. Wider bins mix what differs,
            narrower ones have seen too little.
        half_life_requests: After so many further requests of a key one counts half: some 2,900 carry weight, which is a
            share known to 1 %.
        min_requests: A key that weighs less is not asked. A few of its own say more about a bucket than many of all;
            a p99 of so few is their longest, and low.
        most_keys: Keys remembered, the one learnt longest ago goes first: about 1 kB each.
    """

    bins_per_octave: int = 4
    half_life_requests: int = 2000
    min_requests: int = 5
    most_keys: int = 4096

    def __post_init__(self) -> None:
        if min(self.bins_per_octave, self.half_life_requests, self.min_requests, self.most_keys) < 1:
            raise ValueError("every figure of a predictor's shape is at least 1")
        if self.min_requests > self.half_life_requests:
            raise ValueError("min_requests is above half_life_requests: no key would ever weigh enough")


class Scope(StrEnum):
    """What a prediction was made from, most telling first."""

    TENANT = "route, tenant and prompt length"
    ROUTE = "route and prompt length"
    PROMPT = "prompt length"
    ALL = "all requests"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a request when it arrives. Empty: no route, no tenant known; None: no bound was set."""

    prompt_tokens: int
    route: str = ""
    tenant: str = ""
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or (self.max_tokens is not None and self.max_tokens < 1):
            raise ValueError("prompt_tokens and max_tokens are at least 1")


class LengthPredictor(Protocol):
    """The port: what a router asks before it sends a request, and tells after it was served."""

    def predict(self, asked: Asked) -> Prediction | None:
        """Return what the answer will be like; None: nothing is known yet. Changes nothing."""
        ...

    def learn(self, asked: Asked, output_tokens: int) -> None:
        """Take note of a finished request."""
        ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """How long the answers of like requests were.

    Attributes:
        scope: What they have in common with the one that asks.
        sample_requests: How many they are, each by its weight (an old one counts less).
        bounds: Where bins begin, in tokens, ascending, the first at 1. Shape `[bin]`.
        weights: What each bin weighs; their sum is above 0. Shape `[bin]`.
        max_tokens: No answer is longer; None: no bound.
    """

    scope: Scope
    sample_requests: float
    bounds: tuple[int, ...]
    weights: tuple[float, ...]
    max_tokens: int | None = None

    def quantile_tokens(self, ratio: float) -> float:
        """Return the length that this share of the answers does not pass, right to 5 %, at most `max_tokens`.

        Raises:
            ValueError: `ratio` is no share.
        """
        if not 0 <= ratio <= 1:
            raise ValueError("a quantile's ratio lies in [0, 1]")
        wanted, met = ratio * math.fsum(self.weights), 0.0
        for index, weight in enumerate(self.weights):
            met += weight
            if weight and met >= wanted * (1 - 1e-12):
                return self._bounded(_middle_tokens(self.bounds, index))
        return self._bounded(_middle_tokens(self.bounds, max(i for i, weight in enumerate(self.weights) if weight)))

    def shares(self, edges: Edges) -> tuple[float, ...]:
        """Return how likely each output bucket is; exact where bins begin at its edges (`RunningQuantiles(edges)`)."""
        starts = [bisect.bisect_left(self.bounds, edge) for edge in edges.output_tokens]
        ends = [*starts, len(self.bounds)]
        found = [math.fsum(self.weights[i:j]) for i, j in zip([0, *starts], ends, strict=True)]
        if self.max_tokens is not None:
            last = bisect.bisect_right(edges.output_tokens, self.max_tokens)
            found[last:] = [math.fsum(found[last:]), *[0.0] * (len(found) - last - 1)]
        whole = math.fsum(found)
        return tuple(share / whole for share in found)

    def bucket(self, edges: Edges) -> int:
        """Return the likeliest output bucket, of equals the longest: too long costs watts, too short the SLO."""
        shares = self.shares(edges)
        return max(range(len(shares)), key=lambda bucket: (shares[bucket], bucket))

    def _bounded(self, length_tokens: float) -> float:
        return length_tokens if self.max_tokens is None else min(length_tokens, float(self.max_tokens))


class RunningQuantiles:
    """The predictor that runs live: counts of answers by length, old ones fading, the narrowest key that knows enough.

    Args:
        edges: Where its bins begin, among others, so that shares of these buckets are exact; DESIGN 7.1's by default.
        shape: How finely and for how long it remembers.
    """

    def __init__(self, edges: Edges | None = None, shape: Shape | None = None) -> None:
        self._shape = shape or Shape()
        self._bounds = _bounds((edges or Edges()).output_tokens)
        self._keys: OrderedDict[Key, _Counts] = OrderedDict()
        self._growth = 2 ** (1 / self._shape.half_life_requests)
        self._all = _Counts(len(self._bounds))

    @property
    def remembered(self) -> int:
        """How many keys are remembered (no `__len__`: an empty predictor is one all the same)."""
        return len(self._keys)

    def predict(self, asked: Asked) -> Prediction | None:
        """Return what the answers of like requests were: None before the first one finished."""
        for scope, key in self._keys_of(asked):
            counts = self._keys.get(key)
            if counts is not None and counts.requests >= self._shape.min_requests:
                return self._prediction(scope, counts, asked)
        return self._prediction(Scope.ALL, self._all, asked) if self._all.requests else None

    def learn(self, asked: Asked, output_tokens: int) -> None:
        """Count a finished request under all its keys.

        Raises:
            ValueError: It has no token; a request that failed has no length to learn from.
        """
        if output_tokens < 1:
            raise ValueError("output_tokens must be at least 1; leave failed requests out")
        place = bisect.bisect_right(self._bounds, output_tokens) - 1
        self._all.add(place, self._growth)
        for _, key in self._keys_of(asked):
            counts = self._keys.pop(key, None) or _Counts(len(self._bounds))
            counts.add(place, self._growth)
            self._keys[key] = counts
        while len(self._keys) > self._shape.most_keys:
            self._keys.popitem(last=False)

    def _keys_of(self, asked: Asked) -> Iterator[tuple[Scope, Key]]:
        """Yield the keys of a request, the most telling first; none that is the same as the next."""
        prompt = math.floor(self._shape.bins_per_octave * math.log2(asked.prompt_tokens) + 1e-9)
        if asked.tenant:
            yield Scope.TENANT, (asked.route, asked.tenant, prompt)
        if asked.route:
            yield Scope.ROUTE, (asked.route, "", prompt)
        yield Scope.PROMPT, ("", "", prompt)

    def _prediction(self, scope: Scope, counts: _Counts, asked: Asked) -> Prediction:
        return Prediction(scope, counts.requests, self._bounds, tuple(counts.weights), asked.max_tokens)


class _Counts:
    """Weights per bin. A new request weighs a little more than the one before: that is how old ones fade."""

    __slots__ = ("newest", "total", "weights")

    def __init__(self, bins: int) -> None:
        self.weights = array("d", bytes(8 * bins))
        self.total = 0.0
        self.newest = 1.0

    @property
    def requests(self) -> float:
        """Requests counted, each by its weight beside the newest one's."""
        return self.total / self.newest

    def add(self, place: int, growth: float) -> None:
        self.newest *= growth
        self.weights[place] += self.newest
        self.total += self.newest
        if self.newest > _HUGE:
            self.weights = array("d", (weight / _HUGE for weight in self.weights))
            self.total, self.newest = math.fsum(self.weights), self.newest / _HUGE


def _bounds(edges: tuple[int, ...]) -> tuple[int, ...]:
    """Return where bins begin: every length at first, then powers, and the edges themselves."""
    steps = math.ceil(math.log(LONGEST_TOKENS) / math.log(BIN_RATIO))
    return tuple(sorted({round(BIN_RATIO**step) for step in range(steps + 1)} | set(range(1, 21)) | set(edges)))


def _middle_tokens(bounds: tuple[int, ...], index: int) -> float:
    """Return the geometric middle of a bin's lengths; the last bin has no end."""
    last = bounds[index + 1] - 1 if index + 1 < len(bounds) else bounds[index]
    return math.sqrt(bounds[index] * last)
