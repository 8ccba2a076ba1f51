"""Prices per token that no step of the world undercuts: a linear programme, then a certificate over every step.

Who calls it: `searches.bound`, whose docstring has the proof. Must not know: systems, how a run went.

A *level* is a crowd: at most that many requests that keep their limits are inside one engine. Prices fall with the
crowd, as more sequences share the reading of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, vstack

from capstan.replay.runs import Floats, Ints
from capstan.replay.searches import steps

UNITS = (1.0, 1.0, 1e-3, 1e-6)
"""Scale of the four prices in the programme: contexts come by the thousand, pairs by the million."""

TOLERANCE_RATIO = 0.005  # how far below the cheapest step found a box may lie before it is split: half a per cent


@dataclass(frozen=True, slots=True)
class Market:
    """What prices are fitted to: shapes `[level, 4]` for amounts of (decode, prompt, context, pair).

    `late_decode_tokens`: decode tokens of the requests that may miss their limits, priced without a crowd limit.
    `standing_gpu_s`: GPU seconds that exist whatever is done, at `idle_w` when no step runs.
    """

    crowd: Floats
    amounts: Floats
    late_decode_tokens: float
    tpot_s: float
    standing_gpu_s: float
    idle_w: float
    most_idle_ratio: float


@dataclass(frozen=True, slots=True)
class Prices:
    """Joules: `each` has shape `[level, 4]`, falling along the levels; `late_j` per decode token of a late request.

    `pace_w` is the price of a second beyond the TPOT limit; `idle_ratio` the share of idle watts that is booked with
    the standing GPUs and so taken off every step.
    """

    each: Floats
    late_j: float
    pace_w: float
    idle_ratio: float

    def scaled(self, ratio: float) -> Prices:
        """Return token prices times a ratio; the other two are terms of the proof, not prices."""
        return Prices(self.each * ratio, self.late_j * ratio, self.pace_w, self.idle_ratio)


def _made(batch: Floats, chunk: Floats, context: Floats, pair: Floats) -> Floats:
    return np.stack([batch, chunk, context, pair], axis=1)


def _rows(costs: steps.Costs, market: Market, level: int, *, late_only: bool) -> tuple[csr_array, Floats]:
    """Return the constraints `prices x made <= joules` of some steps at one level.

    Columns: four prices per level, then late decode, pace, idle ratio.
    """
    count, levels = len(costs.batch), len(market.crowd)
    good = np.zeros(count) if late_only else np.minimum(costs.batch, market.crowd[level])
    made = _made(good, costs.chunk, costs.context_tokens, costs.pair_tokens2) * UNITS
    late = costs.batch - good
    pace = good * (market.tpot_s - costs.duration_s)
    idle = market.idle_w * costs.gpus * costs.duration_s
    values = np.concatenate([made, late[:, None], pace[:, None], idle[:, None]], axis=1)
    columns = np.concatenate([np.arange(4) + 4 * level, np.arange(3) + 4 * levels])
    row_of = np.repeat(np.arange(count), 7)
    shape = (count, 4 * levels + 3)
    matrix = coo_array((values.ravel(), (row_of, np.tile(columns, count))), shape=shape).tocsr()
    return matrix, costs.energy_j


def _falling(levels: int) -> csr_array:
    """Return the constraints that each price falls from level to level, and that late decode is no dearer."""
    rows, columns, values = [], [], []
    for row, (low, high) in enumerate((4 * i + j, 4 * (i + 1) + j) for i in range(levels - 1) for j in range(4)):
        rows += [row, row]
        columns += [high, low]
        values += [1.0, -1.0]
    last = 4 * (levels - 1)
    rows += [last, last]
    columns += [4 * levels, last]
    values += [1.0, -1.0]
    return coo_array((values, (rows, columns)), shape=(last + 1, 4 * levels + 3)).tocsr()


def fit(costs: steps.Costs, market: Market) -> Prices:
    """Return the prices that make the work dearest while no given step is undercut.

    Raises:
        ArithmeticError: The programme has no solution (physics with joules that are not above zero).
    """
    levels = len(market.crowd)
    parts = [_rows(costs, market, 0, late_only=True)]
    below = -1.0
    for level, crowd in enumerate(market.crowd.tolist()):
        # Prices fall with the level, so a step that fits a smaller crowd is held by that level's row already.
        parts.append(_rows(costs.where(costs.batch > below), market, level, late_only=False))
        below = crowd
    falling = _falling(levels)
    matrix = vstack([*(part[0] for part in parts), falling])
    limit = np.concatenate([*(part[1] for part in parts), np.zeros(falling.shape[0])])
    gain = np.concatenate(
        [
            (market.amounts * UNITS).ravel(),
            [market.late_decode_tokens, 0.0, market.standing_gpu_s * market.idle_w],
        ]
    )
    bounds = [(0.0, None)] * (4 * levels + 2) + [(0.0, market.most_idle_ratio)]
    scale = max(float(gain.max()), 1.0)
    found = linprog(-gain / scale, A_ub=matrix, b_ub=limit, bounds=bounds, method="highs")
    if found.x is None:
        raise ArithmeticError(f"the bound's programme has no solution: {found.message}")
    each = np.asarray(found.x[: 4 * levels]).reshape(levels, 4) * UNITS
    return Prices(each, float(found.x[-3]), float(found.x[-2]), float(found.x[-1]))


def ratios(costs: steps.Costs, upper: tuple[Floats, Floats], prices: Prices, market: Market) -> Floats:
    """Return, per composition and level, a lower bound of (joules, corrected) / (prices x what is made).

    `upper` are the sequences and prompt tokens that are made at most; the costs are those of the least corner.
    """
    high_batch, high_chunk = upper
    pair = costs.pair_tokens2 * high_chunk / np.maximum(costs.chunk, 1)
    paid_j = costs.energy_j - prices.idle_ratio * market.idle_w * costs.gpus * costs.duration_s
    answers = []
    for level, crowd in enumerate(market.crowd):
        price = prices.each[level]
        rest = price[1] * high_chunk + price[2] * costs.context_tokens + price[3] * pair
        low_good, high_good = np.minimum(costs.batch, crowd), np.minimum(high_batch, crowd)
        corrected_j = paid_j + prices.pace_w * (low_good * costs.duration_s - market.tpot_s * high_good)
        mixed = rest + price[0] * high_good + prices.late_j * (high_batch - high_good)
        late = rest + prices.late_j * high_batch
        answers.append(np.minimum(corrected_j / np.maximum(mixed, 1e-12), paid_j / np.maximum(late, 1e-12)))
    return np.stack(answers, axis=1)


def certify(prices: Prices, market: Market, space: steps.Space) -> tuple[float, steps.Costs]:
    """Return the ratio by which these prices must shrink so that no step at all undercuts them, and the worst steps.

    Branch and bound: a box whose least corner, paid for its most tokens, is above the worst step found is done.
    """
    boxes = steps.fitting(steps.whole(space.pairs), space.pairs)
    worst, found = np.inf, []
    while len(boxes):
        costs = space.corners(boxes)
        real = costs.context_tokens <= costs.batch * space.reach.most_context
        exact = np.where(real[:, None], ratios(costs, (costs.batch, costs.chunk), prices, market), np.inf)
        worst = min(worst, float(exact.min()))
        found.append(costs.where(np.unique(exact.argmin(axis=0))))
        upper = (boxes.most_batch[costs.box].astype(float), boxes.most_chunk[costs.box].astype(float))
        low = np.full(len(boxes), np.inf)
        np.minimum.at(low, costs.box, ratios(costs, upper, prices, market).min(axis=1))
        boxes = steps.fitting(steps.split(boxes.where(low < worst * (1 - TOLERANCE_RATIO))), space.pairs)
    return worst * (1 - TOLERANCE_RATIO), steps.joined(tuple(found))


def level_of(crowd: Ints, edges: Floats) -> Ints:
    """Return the first level whose crowd is not below each request's; the last one has no limit that binds."""
    return np.minimum(np.searchsorted(edges, crowd, side="left"), len(edges) - 1)
