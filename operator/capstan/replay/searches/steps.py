"""Every step that an engine can make, as (tokens made, joules, seconds): where a bound gets its prices from.

Who calls it: `searches.bound`. Must not know: traces, SLOs, prices.

A *composition* is (profile, clock, decoding sequences, new prompt tokens, contexts). A *box* is a range of sequences
and of prompt tokens; the joules of its cheapest corner bound all of it, because (held by tests/replay/test_bound.py)
- a step's time and joules rise with its sequences, its prompt tokens and its contexts;
- at fixed sequences and prompt tokens they are concave in the contexts (the time is affine in them, and the power's
  form is a geometric mean of affine terms), so that the two ends of a range of contexts are its cheapest places. A
  step with a prompt has a floor under its time: there, and beyond it, so that the place between counts as an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from capstan.model import latency, power
from capstan.model.profile import Profile
from capstan.replay.runs import Floats, Ints

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reach:
    """Contexts that a trace can bring: of one decoding sequence, and before a prompt chunk."""

    least_context: int
    most_context: int
    most_prior: int


@dataclass(frozen=True, slots=True)
class Boxes:
    """Ranges of compositions, shapes `[box]`; ends included. `setting` indexes the (profile, clock ratio) pairs."""

    setting: Ints
    least_batch: Ints
    most_batch: Ints
    least_chunk: Ints
    most_chunk: Ints

    def __len__(self) -> int:
        return len(self.setting)

    def where(self, kept: Bools) -> Boxes:
        """Return some of them."""
        return Boxes(*(column[kept] for column in _sides(self)))


@dataclass(frozen=True, slots=True)
class Costs:
    """What compositions make and cost, shapes `[composition]`; `box` says whose corner a composition is."""

    box: Ints
    batch: Floats
    chunk: Floats
    context_tokens: Floats
    pair_tokens2: Floats
    energy_j: Floats
    duration_s: Floats
    gpus: Floats

    def where(self, kept: Bools | Ints) -> Costs:
        """Return some of them."""
        return Costs(self.box[kept], *(column[kept] for column in _amounts(self)))


def joined(parts: tuple[Costs, ...]) -> Costs:
    """Return several tables as one; `box` then means nothing."""
    columns = zip(*((c.box, *_amounts(c)) for c in parts), strict=True)
    return Costs(*(np.concatenate(column) for column in columns))


def _amounts(costs: Costs) -> tuple[Floats, ...]:
    return (
        costs.batch,
        costs.chunk,
        costs.context_tokens,
        costs.pair_tokens2,
        costs.energy_j,
        costs.duration_s,
        costs.gpus,
    )


Setting = tuple[Profile, float]  # physics and clock ratio


def settings(profiles: tuple[Profile, ...]) -> tuple[Setting, ...]:
    """Return every (profile, clock ratio) that a cap, or a board under its limit, can bring about."""
    return tuple((profile, x) for profile in profiles for x in _ratios(profile))


def _ratios(profile: Profile) -> Iterator[float]:
    clocks = profile.clocks
    steps = int((clocks.max_mhz - clocks.min_mhz) / clocks.step_mhz + 1e-9)
    yield from ((clocks.min_mhz + i * clocks.step_mhz) / clocks.max_mhz for i in range(steps + 1))
    if clocks.min_mhz + steps * clocks.step_mhz < clocks.max_mhz:
        yield 1.0


def cost(profile: Profile, batch: int, chunk: int, contexts: tuple[float, float], x: float) -> tuple[float, float]:
    """Return (joules of all GPUs, seconds) of one step; `contexts`: of the batch, and before each new prompt token.

    The chunks' contexts in KV are at least their mean, which is what is read here: the favourable direction.
    """
    context_tokens, prior_tokens = contexts
    duration_s = latency.mixed_step_s(profile, batch, context_tokens, chunk, prior_tokens, x)
    drawn_w = power.step_w(profile, batch + chunk, context_tokens + prior_tokens, duration_s, x)
    return profile.tp * drawn_w * duration_s, duration_s


def whole(pairs: tuple[Setting, ...]) -> Boxes:
    """Return boxes that together hold every step: decodes alone, prompts alone, and both (token budget apart)."""
    rows = []
    for i, (profile, _) in enumerate(pairs):
        seats = min(profile.max_num_seqs, profile.chunk_tokens)
        rows.append((i, 1, seats, 0, 0))
        rows.append((i, 0, 0, 1, profile.chunk_tokens))
        rows.append((i, 1, seats, 1, profile.chunk_tokens))
    return Boxes(*np.array(rows, dtype=np.int64).T)


def split(boxes: Boxes) -> Boxes:
    """Return the halves of boxes that are more than a point, each along its relatively longer side."""
    batch_ratio = boxes.most_batch / np.maximum(boxes.least_batch, 1)
    chunk_ratio = boxes.most_chunk / np.maximum(boxes.least_chunk, 1)
    more = (boxes.most_batch > boxes.least_batch) | (boxes.most_chunk > boxes.least_chunk)
    wide = boxes.where(more)
    by_batch = ((boxes.most_batch > boxes.least_batch) & _first_is_wider(boxes, batch_ratio, chunk_ratio))[more]
    low_b, high_b, low_c, high_c = wide.least_batch, wide.most_batch, wide.least_chunk, wide.most_chunk
    middle_b = np.where(by_batch, _middle(low_b, high_b), high_b)
    middle_c = np.where(by_batch, high_c, _middle(low_c, high_c))
    lower = Boxes(wide.setting, low_b, middle_b, low_c, middle_c)
    upper = Boxes(
        wide.setting,
        np.where(by_batch, middle_b + 1, low_b),
        high_b,
        np.where(by_batch, low_c, middle_c + 1),
        high_c,
    )
    pairs = zip(_sides(lower), _sides(upper), strict=True)
    return Boxes(*(np.concatenate(pair) for pair in pairs))


def _first_is_wider(boxes: Boxes, batch_ratio: Floats, chunk_ratio: Floats) -> Bools:
    return np.asarray((batch_ratio >= chunk_ratio) | (boxes.most_chunk == boxes.least_chunk))


def _sides(boxes: Boxes) -> tuple[Ints, ...]:
    return (boxes.setting, boxes.least_batch, boxes.most_batch, boxes.least_chunk, boxes.most_chunk)


def _middle(low: Ints, high: Ints) -> Ints:
    """Return the geometric middle: relative widths are what makes a box's corner a poor bound."""
    return np.clip(np.floor(np.sqrt(np.maximum(low, 1) * high)).astype(np.int64), low, np.maximum(high - 1, low))


def fitting(boxes: Boxes, pairs: tuple[Setting, ...]) -> Boxes:
    """Return boxes without those whose least corner is beyond the token budget of a step."""
    budget = np.array([profile.chunk_tokens for profile, _ in pairs], dtype=np.int64)
    return boxes.where(boxes.least_batch + boxes.least_chunk <= budget[boxes.setting])


Row = tuple[float, ...]


class Space:
    """The steps of some settings over the contexts of a trace. Corners are remembered: rounds ask for them again."""

    def __init__(self, pairs: tuple[Setting, ...], reach: Reach) -> None:
        self.pairs = pairs
        self.reach = reach
        self._known: dict[tuple[int, int, int, int], tuple[Row, ...]] = {}

    def corners(self, boxes: Boxes) -> Costs:
        """Return the least corner of each box at the ends of its contexts: four compositions a box, or a few more."""
        rows: list[Row] = []
        owners: list[int] = []
        sides = zip(*(side.tolist() for side in _sides(boxes)), strict=True)
        for i, (setting, low, high, chunk, _) in enumerate(sides):
            key = (setting, low, high, chunk)
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = tuple(self._corner(*key))
            rows += found
            owners += [i] * len(found)
        columns = np.array(rows, dtype=np.float64).reshape(-1, 7).T
        return Costs(np.array(owners, dtype=np.int64), *columns)

    def _corner(self, setting: int, low: int, high: int, chunk: int) -> Iterator[Row]:
        profile, x = self.pairs[setting]
        most = min(high * self.reach.most_context, profile.kv_tokens)
        contexts = (float(low * self.reach.least_context), float(most)) if low else (0.0,)
        priors = (0.0, float(self.reach.most_prior)) if chunk and self.reach.most_prior else (0.0,)
        places = [(context, prior) for context in contexts for prior in priors]
        if chunk:
            places += _kinks(places, lambda place: cost(profile, low, chunk, place, x)[1])
        for context, prior in places:
            energy_j, duration_s = cost(profile, low, chunk, (context, prior), x)
            yield (low, chunk, context, chunk * prior, energy_j, duration_s, profile.tp)


Place = tuple[float, float]  # contexts of the batch, context before each new prompt token


def _kinks(places: list[Place], duration_s: Callable[[Place], float]) -> list[Place]:
    """Return where the edges between corners leave the floor that a step with a prompt does not go below.

    On the floor and beyond it the joules are concave, across it they are not: these places are corners too.
    """
    lowest_s = duration_s(places[0])
    if duration_s((places[0][0] + 1.0, places[0][1] + 1.0)) > lowest_s:
        return []
    found = []
    for low, high in combinations(places, 2):
        edge = (low[0] == high[0]) != (low[1] == high[1])
        if edge and duration_s(low) <= lowest_s < duration_s(high):
            found.append(_last_on_floor(low, high, lowest_s, duration_s))
    return found


def _last_on_floor(low: Place, high: Place, floor_s: float, duration_s: Callable[[Place], float]) -> Place:
    """Bisect an edge for the last place on the floor (to 1e-12 of its length)."""
    inside, outside = 0.0, 1.0
    for _ in range(40):
        middle = (inside + outside) / 2
        place = (low[0] + middle * (high[0] - low[0]), low[1] + middle * (high[1] - low[1]))
        inside, outside = (middle, outside) if duration_s(place) <= floor_s else (inside, middle)
    return low[0] + inside * (high[0] - low[0]), low[1] + inside * (high[1] - low[1])
