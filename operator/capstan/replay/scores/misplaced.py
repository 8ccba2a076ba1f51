"""What wrong guesses of an answer's length cost: who was put into the wrong pool, and how it went for them.

Who calls it: `pages`, where requests were routed by guessed classes. Must not know: who guessed, what a pool is.

Long answers have worse luck than short ones whatever the guess, so the attainment of misplaced requests says little by
itself. Beside it stands that of requests of the very same true classes that were placed well. What wrong guesses cost
in joules one run cannot say: compare runs at `--predictor 1` and at less, whose guesses differ in those requests only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capstan.replay import classify
from capstan.replay.runs import Ints, Outcomes, Requests, Routed
from capstan.replay.scores import limits, measure

BLOCK = 1 << 20
"""Requests counted at a time, so that a week needs no further columns."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Requests that were guessed alike.

    Attributes:
        requests, good: How many, and how many of them kept their limits.
        like_ratio: Attainment of well placed requests in the same mix of true classes; None where there is none.
        lost_requests: How many more would have been good at that attainment; below 0: misplacing them helped.
    """

    requests: int
    good: int
    like_ratio: float | None
    lost_requests: float | None

    @property
    def attainment_ratio(self) -> float | None:
        """Good over all; None where there is none."""
        return self.good / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class Misplaced:
    """The guesses of one service's run.

    Attributes:
        accuracy_ratio: Share of the requests whose output bucket was guessed right; None where nothing arrived.
        confusion: Requests by true output bucket (row) and guessed one (column), shortest first.
        right, shorter, longer: Those guessed right; taken for a shorter answer (they may miss the SLO); for a longer.
    """

    accuracy_ratio: float | None
    confusion: tuple[tuple[int, ...], ...]
    right: Placed
    shorter: Placed
    longer: Placed


def of(outcomes: Outcomes, routed: Routed, held: limits.Limits) -> Misplaced:
    """Return what guesses did to a service's requests.

    Raises:
        ValueError: Guesses and requests differ in number, or a guess is no class.
    """
    _check(outcomes.requests, routed)
    arrived = _counts(outcomes.requests, routed, np.ones(len(outcomes.requests), dtype=np.bool_))
    good = _counts(outcomes.requests, routed, measure.good(outcomes, held))
    outputs = routed.edges.outputs
    true = np.arange(routed.edges.count) % outputs
    off = np.arange(outputs) - true[:, np.newaxis]  # [class, guessed bucket]: guessed less true
    by_bucket = [arrived[true == bucket].sum(axis=0).tolist() for bucket in range(outputs)]
    total = int(arrived.sum())
    right, shorter, longer = (_placed(arrived, good, off, chosen) for chosen in (off == 0, off < 0, off > 0))
    return Misplaced(
        accuracy_ratio=right.requests / total if total else None,
        confusion=tuple(map(tuple, by_bucket)),
        right=right,
        shorter=shorter,
        longer=longer,
    )


def _placed(arrived: Ints, good: Ints, off: Ints, chosen: npt.NDArray[np.bool_]) -> Placed:
    """Return the requests of the chosen cells `[class, guessed bucket]` beside the well placed of their classes."""
    count, kept = int(arrived[chosen].sum()), int(good[chosen].sum())
    well, well_good = (np.where(off == 0, cells, 0).sum(axis=1) for cells in (arrived, good))
    mix, mix_good = (np.where(chosen, cells, 0).sum(axis=1) for cells in (arrived, good))
    known = (well > 0) & (mix > 0)
    if not known.any():
        return Placed(count, kept, None, None)
    like = float((mix[known] * well_good[known] / well[known]).sum())
    return Placed(count, kept, like / int(mix[known].sum()), like - int(mix_good[known].sum()))


def _counts(requests: Requests, routed: Routed, counted: npt.NDArray[np.bool_]) -> Ints:
    """Return how many counted requests there are, shape `[true class, guessed output bucket]`."""
    edges = routed.edges
    cells = np.zeros(edges.count * edges.outputs, dtype=np.int64)
    for start in range(0, len(requests), BLOCK):
        part = slice(start, start + BLOCK)
        some = Requests(requests.arrival_s[part], requests.prompt_tokens[part], requests.output_tokens[part])
        place = classify.true_codes(some, edges) * edges.outputs + routed.codes[part] % edges.outputs
        cells += np.bincount(place[counted[part]], minlength=len(cells))
    return cells.reshape(edges.count, edges.outputs)


def _check(requests: Requests, routed: Routed) -> None:
    codes, edges = routed.codes, routed.edges
    if len(codes) != len(requests):
        raise ValueError(f"{len(codes)} guesses for {len(requests)} requests")
    if len(codes) and not (codes.min() >= 0 and codes.max() < edges.count):
        raise ValueError(f"a guessed class lies outside 0 to {edges.count - 1}")
