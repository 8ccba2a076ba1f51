"""What is asked of each request: the SLO sets of DESIGN 7.1 and the classes by length.

Who calls it: `scores.measure`, `scores.score`, the command line (`--slo`). Must not know: outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capstan.api.scenario import SloSet
from capstan.model.classes import OUTPUT_EDGES, PROMPT_EDGES, Edges
from capstan.model.slo import Slo
from capstan.replay.runs import Floats, Ints

__all__ = ["CHAT", "CLASSES", "OUTPUT_EDGES", "PROMPT_EDGES", "Limits", "SloSet", "aim", "class_codes", "of"]

CLASSES = tuple(Edges().name(code) for code in range(Edges().count))
"""Class names by code: prompt bucket, then output bucket; `SL` is a short prompt and a long answer."""

CHAT = Slo(ttft_s=2.0, tpot_s=0.1, percentile_ratio=0.99)
"""DESIGN 7.1, set `chat`."""

CLASS_TTFT_S = (0.25, 0.4, 2.0)
CLASS_TPOT_S = 0.1
CLASS_PERCENTILE_RATIO = 0.99
"""DESIGN 7.1, set `class`: TTFT by input bucket."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one service's requests; `ttft_s` holds one for each prompt bucket of `edges_tokens`, shortest first."""

    ttft_s: tuple[float, ...]
    tpot_s: float
    percentile_ratio: float
    edges_tokens: tuple[int, ...] = PROMPT_EDGES

    def ttft_of(self, prompt_tokens: Ints) -> Floats:
        """Return each request's limit on its time to first token, shape `[request]`."""
        return np.asarray(self.ttft_s)[_bucket(prompt_tokens, self.edges_tokens)]

    @property
    def words(self) -> str:
        """The limits for people, as `250/400/2,000 ms, 100 ms`."""
        first = dict.fromkeys(f"{1e3 * limit_s:,.0f}" for limit_s in self.ttft_s)
        return f"{'/'.join(first)} ms, {1e3 * self.tpot_s:,.0f} ms"


def of(slo_set: SloSet, slo: Slo) -> Limits:
    """Return the limits under which a service with `slo` is scored."""
    if slo_set is SloSet.CLASS:
        return Limits(CLASS_TTFT_S, CLASS_TPOT_S, CLASS_PERCENTILE_RATIO)
    held = CHAT if slo_set is SloSet.CHAT else slo
    if not held.tiers:
        return Limits((held.ttft_s,) * 3, held.tpot_s, held.percentile_ratio)
    edges, limits_s = zip(*held.tiers, strict=True)
    return Limits((*limits_s, held.ttft_s), held.tpot_s, held.percentile_ratio, edges)


def aim(slo_set: SloSet, slo: Slo) -> Slo:
    """Return the SLO that a policy aims at where it is judged by a set."""
    held = of(slo_set, slo)
    pairs = zip(held.edges_tokens, held.ttft_s[:-1], strict=True)
    tiers = tuple((tokens, ttft_s) for tokens, ttft_s in pairs if ttft_s < held.ttft_s[-1])
    return Slo(held.ttft_s[-1], held.tpot_s, held.percentile_ratio, tiers)


def class_codes(prompt_tokens: Ints, output_tokens: Ints) -> npt.NDArray[np.intp]:
    """Return the class of each request, an index into `CLASSES`."""
    return 3 * _bucket(prompt_tokens, PROMPT_EDGES) + _bucket(output_tokens, OUTPUT_EDGES)


def _bucket(tokens: Ints, edges: tuple[int, ...]) -> npt.NDArray[np.intp]:
    return np.searchsorted(np.asarray(edges), tokens, side="right")
