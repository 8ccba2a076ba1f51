"""The oracle's saving at a steady load on one tp 8 server, beside what DynamoLLM printed for its own system.

Who calls it: `app.replay`, the docs' tables. Must not know: the engine. A comparison of orders, not of goals: other
LLM, other engine, other clock response, and their saving is a controller's, not an oracle's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from capstan.replay.runs import Ints, Requests
from capstan.replay.searches import fluid, hindsight, oracle
from capstan.replay.searches.schedule import Planner
from capstan.replay.searches.trial import Evaluate

DYNAMOLLM = ((650.0, 0.57), (2000.0, 0.42), (4000.0, 0.15))
"""(tokens/s, saving): low, medium and high load of DynamoLLM's figure 13 (shared facts, dynamollm.md 1.4 and 3.4)."""

SERVER_GPUS = 8
DURATION_S = 900.0  # three of the score's windows, all with at least 100 requests from 0.33 requests/s on
SEED = 13


@dataclass(frozen=True, slots=True)
class Line:
    """One load. `single_j` is None where one tp 8 replica misses the SLO, `oracle_j` where no plan meets it."""

    tokens_per_s: float
    single_j: float | None
    oracle_j: float | None
    published_ratio: float

    @property
    def saving_ratio(self) -> float | None:
        """The oracle's saving over the server at full clock."""
        if self.single_j is None or self.oracle_j is None:
            return None
        return 1 - self.oracle_j / self.single_j


def steady(
    tokens_per_s: float, prompt_tokens: Ints, output_tokens: Ints, *, duration_s: float = DURATION_S, seed: int = SEED
) -> Requests:
    """Return Poisson arrivals at a constant rate of tokens (prompt and output together), lengths drawn as pairs."""
    chance = np.random.default_rng(seed)
    rate_rps = tokens_per_s / float(np.mean(prompt_tokens + output_tokens))
    count = chance.poisson(rate_rps * duration_s)
    arrival_s = np.sort(chance.uniform(0.0, duration_s, count))
    pick = chance.integers(0, len(prompt_tokens), count)
    return Requests(arrival_s, prompt_tokens[pick], output_tokens[pick])


def check(
    world: Callable[[Requests], Evaluate],
    model: fluid.Model,
    lengths: tuple[Ints, Ints],
    *,
    runs: int | None = None,
    loads: Sequence[tuple[float, float]] = DYNAMOLLM,
) -> tuple[Line, ...]:
    """Return one line per load.

    Args:
        world: Makes an `Evaluate` for a trace: same world as everywhere, scored by the `class` SLO.
        model: The fluid model of one server: `most_gpus` 8.
        lengths: Prompt and output lengths to draw from, as pairs.
        runs: World runs of each search; default by the trace's size.
        loads: (tokens/s, published saving).

    Raises:
        ValueError: The model is not of one server.
    """
    if model.most_gpus != SERVER_GPUS:
        raise ValueError(f"most_gpus is {model.most_gpus}; the check is on one server of {SERVER_GPUS} GPUs")
    return tuple(_line(world, model, lengths, load, runs) for load in loads)


def _line(
    world: Callable[[Requests], Evaluate],
    model: fluid.Model,
    lengths: tuple[Ints, Ints],
    load: tuple[float, float],
    runs: int | None,
) -> Line:
    requests = steady(load[0], *lengths)
    evaluate = world(requests)
    single = hindsight.single_pool(evaluate, model, requests)
    static = hindsight.best_static(evaluate, model, requests)
    plans = [tried.plan for tried in (single.tried, static) if tried is not None]
    found = oracle.search(evaluate, Planner(model, requests), requests, candidates=plans, runs=runs).tried
    single_j = single.tried.trial.energy_j if single.met else None
    return Line(load[0], single_j, None if found is None else found.trial.energy_j, load[1])


def table(lines: tuple[Line, ...]) -> str:
    """Return the lines as text; a load without a saving says why."""
    rows = ["tokens/s  oracle saves  DynamoLLM saved"]
    for line in lines:
        saved = line.saving_ratio
        said = "SLO missed" if saved is None else f"{saved:.0%}"
        rows.append(f"{line.tokens_per_s:>8.0f}  {said:>12}  {line.published_ratio:>15.0%}")
    return "\n".join(rows)
