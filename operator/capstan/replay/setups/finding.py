"""One search from beginning to end, and what it found, as pages and documents need it.

Who calls it: `app.search`; `setups.pages`, `setups.drawings`, `setups.document` read `Found`. Must not know: files.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from capstan.replay.setups import apart, handed
from capstan.replay.setups.apart import Apart
from capstan.replay.setups.handed import PairHunt
from capstan.replay.setups.hunt import Hunt
from capstan.replay.setups.kinds import Objective, Pair, Setup
from capstan.replay.setups.screen import Screen, Screened
from capstan.replay.setups.world import Alone, Played

PAIR_SHARE = 0.3
"""Of the world runs, kept for pairs of pools: a few starts, each with some clocks up or down. They also get what the
search in one pool leaves."""

RUNS, RUN_REQUESTS, LEAST_RUNS = 80, 200_000, 24
"""World runs of a search: 80 up to 200,000 requests, where a run takes about a second, fewer for longer traces. Azure's
conversation hour needs 32."""

Told = Callable[[str, float], None]
Clock = Callable[[], float]
AnyPlayed = Played[Setup] | Played[Pair]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a search is to do: what it makes least, and the world runs that it may use."""

    objective: Objective = Objective.JOULES
    runs: int = RUNS


@dataclass(frozen=True, slots=True)
class Found:
    """A search that is done. `rows` and `pairs` fit in closed form; `hunt` and `pair_hunt` hold what was played.

    Seconds are this machine's, of the closed form and of the world.
    """

    alone: Alone
    asked: Asked
    screen: Screen
    rows: tuple[Screened, ...]
    pairs: tuple[Apart, ...]
    hunt: Hunt
    pair_hunt: PairHunt
    screening_s: float
    playing_s: float

    @property
    def best(self) -> AnyPlayed | None:
        """The best of all that met the SLO, in one pool or two; None where nothing did."""
        met = [one for one in (self.hunt.best, self.pair_hunt.best) if one is not None]
        return min(met, key=self.key, default=None)

    def key(self, one: AnyPlayed) -> tuple[float, ...]:
        """Return what the objective makes least."""
        return self.screen.key(self.asked.objective, one.setup, one.energy_j)

    @property
    def closest(self) -> AnyPlayed:
        """What comes nearest where nothing meets the SLO: the most requests inside it."""
        return max(self.played, key=lambda one: (one.attainment_ratio, -one.energy_j))

    @property
    def played(self) -> tuple[AnyPlayed, ...]:
        """Everything that was played, best first: what met the SLO, then what missed it by attainment."""
        each: list[AnyPlayed] = [*self.hunt.tried.values(), *self.pair_hunt.tried.values()]
        met = sorted((one for one in each if one.slo_met), key=self.key)
        return (*met, *sorted((one for one in each if not one.slo_met), key=lambda one: -one.attainment_ratio))

    @property
    def runs(self) -> int:
        """World runs that were used."""
        return len(self.hunt.tried) + len(self.pair_hunt.tried)

    def screened_j(self, setup: Setup | Pair) -> float | None:
        """Return the closed form's joules of what was played; None for a pair that it did not list."""
        if isinstance(setup, Setup):
            return self.screen.at(setup).energy_j
        return next((pair.energy_j for pair in self.pairs if pair.pair == setup), None)

    @property
    def errors_ratio(self) -> tuple[float, ...]:
        """Joules of the closed form over the world's, less 1, of every run whose requests were all served."""
        done = ((one, self.screened_j(one.setup)) for one in self.played if one.completed == one.requests)
        return tuple(energy_j / one.energy_j - 1 for one, energy_j in done if energy_j is not None)


def runs_for(requests: int) -> int:
    """Return the world runs that a search of a trace may use."""
    return max(LEAST_RUNS, min(RUNS, RUNS * RUN_REQUESTS // max(requests, 1)))


def find(alone: Alone, screen: Screen, asked: Asked, *, told: Told, clock_s: Clock) -> Found:
    """Screen the grid, play the best, and return everything.

    Args:
        alone: The service.
        screen: Its set-ups in closed form.
        asked: The objective and the world runs.
        told: Told what is being done, and the share of it that is.
        clock_s: The time, for what is printed about it.
    """
    began_s = clock_s()
    told("screening in closed form", 0.0)
    rows, pairs = screen.rows(), apart.search(screen)
    screened_s = clock_s()
    play, play_pair = functools.partial(alone.play, screen), functools.partial(handed.play, alone, screen)
    runs = max(int(asked.runs * (1 - PAIR_SHARE)), 1)
    hunt = Hunt(screen, play, runs, asked.objective, functools.partial(told, "one pool"))
    hunt.search()
    left = asked.runs - len(hunt.tried)
    pair_hunt = PairHunt(screen, play_pair, left, asked.objective, functools.partial(told, "prefill and decode apart"))
    pair_hunt.search(pairs, apart.search(screen, hunt.borne_ratio))
    return Found(alone, asked, screen, rows, pairs, hunt, pair_hunt, screened_s - began_s, clock_s() - screened_s)
