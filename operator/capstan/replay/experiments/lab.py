"""Where rows are played: one scenario per set of flags and seed, one search per world, everything done once.

Who calls it: `app.experiment`, tests. Must not know: figures, tables, terminals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path

from capstan.api import scenario as files
from capstan.replay import load, play, start
from capstan.replay.configured import Configured
from capstan.replay.experiments import later
from capstan.replay.experiments.kinds import Cell, Experiment, Row
from capstan.replay.experiments.warm import Warmed
from capstan.replay.load import Loaded
from capstan.replay.options import Options
from capstan.replay.pages import shocks
from capstan.replay.play import CAPSTAN
from capstan.replay.runs import Run
from capstan.replay.scenario import Scenario
from capstan.replay.scores import score
from capstan.replay.scores.compare import ORACLE, SINGLE_POOL, Column
from capstan.replay.scores.limits import SloSet
from capstan.replay.scores.score import Score
from capstan.replay.seen import System
from capstan.replay.stage import Stage
from capstan.replay.systems import Capstan

QUICK_S = 900
"""What `--quick` leaves of a trace without events: one seed of it shows whether an experiment runs, and no more."""

SEEDS = (1, 2, 3)
"""Where nobody says which: the fewest that give an interval worth printing."""

Cells = Mapping[str, tuple[Cell, ...]]
"""By label of the row, one per seed."""


def over(lower: Options, upper: Options) -> Options:
    """Return flags with others over them: what those leave open is as below."""
    told = {field.name: getattr(upper, field.name) for field in dataclasses.fields(upper)}
    return dataclasses.replace(lower, **{name: value for name, value in told.items() if not _open(value)})


def _open(value: object) -> bool:
    """Return whether a flag was left open; 0 seconds are told."""
    return value is None or value is False or value == ()


class Lab:
    """One experiment on one scenario file.

    Args:
        experiment: What is asked.
        path: The scenario file.
        asked: Flags of the command line; they win over the experiment's own, a row's win over both.
        quick: One seed, and the trace's first minutes.
        told: Told what is being done, and the share of it that is done.
    """

    def __init__(
        self, experiment: Experiment, path: Path, asked: Options, *, quick: bool = False, told: play.Told
    ) -> None:
        base = over(over(Options(seeds=SEEDS), experiment.asked), asked)
        self.experiment = experiment
        self.path = path
        self.quick = quick
        self._base = dataclasses.replace(base, seeds=base.seeds[:1]) if quick else base
        self._told = told
        self._loaded: dict[Options, Loaded] = {}
        self._scenarios: dict[tuple[Options, int], Scenario] = {}
        self._singles: dict[Hashable, Run] = {}
        self._stages: dict[int, Stage] = {}
        self._before: list[Column] = []
        self._seeks = False
        self.runs = 0
        self.rate = 1.0
        self.provisioning = ""

    @property
    def loaded(self) -> Loaded:
        """The scenario file under the flags that all rows share."""
        return self._read(Options())

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are played: one where nothing is drawn."""
        loaded = self.loaded
        drawn = loaded.chancy or self.rate != 1.0 or any(demand.past for demand in loaded.demands)
        return loaded.options.seeds if drawn else loaded.options.seeds[:1]

    def play(self) -> tuple[tuple[Row, ...], Cells]:
        """Play every row at every seed.

        Raises:
            Invalid: The scenario has not what the experiment needs, or a flag makes no sense.
            TraceError, TariffError: A file's fault.
        """
        rows = self._rows()
        self._provision()
        cells: dict[str, list[Cell]] = {row.label: [] for row in rows}
        for seed in self.seeds:
            self._forget()
            found = {
                row.label: self._cell(row, seed, f"{place}/{len(rows)} {row.label}, seed {seed}")
                for place, row in enumerate(rows, start=1)
            }
            oracle = next((found[row.label].score for row in rows if row.system == ORACLE), None)
            for label, cell in found.items():
                cells[label].append(dataclasses.replace(cell, oracle=oracle))
        return rows, {label: tuple(each) for label, each in cells.items()}

    def stages(self) -> Iterator[tuple[int, Stage]]:
        """Yield each seed with the stage that rows without a flag or a bend of their own are played on.

        Raises:
            Invalid: A flag makes no sense.
        """
        self._provision()
        for seed in self.seeds:
            self._forget()
            yield seed, self._stage(self._bent(self.loaded, Row(CAPSTAN), seed))

    # --- before anything is played -----------------------------------------------------------------

    def _rows(self) -> tuple[Row, ...]:
        """Return the rows.

        Raises:
            Invalid: A system that nobody made.
        """
        rows = self.experiment.rows(self.loaded)
        self._seeks = any(row.system == ORACLE for row in rows)
        play.wanted(tuple(row.system for row in rows), self.loaded.systems)
        return rows

    def _provision(self) -> None:
        """Find the rate that all rows and seeds share: the highest at which the fleet of `auto:N` does at every seed.

        At the first seed's own it would miss the SLO at others, and no saving could be quoted.
        """
        loaded = self.loaded
        slo_set = loaded.options.slo or SloSet.SCENARIO
        self.rate, self.provisioning = play.rate_of(loaded, None, slo_set, self._told)

    def _read(self, asked: Options) -> Loaded:
        options = over(self._base, asked)
        if options not in self._loaded:
            found = load.read(self.path, options)
            self._loaded[options] = self._short(found) if self.quick else found
        return self._loaded[options]

    def _short(self, found: Loaded) -> Loaded:
        """Return a scenario of the first minutes; one with events keeps them all."""
        if found.run.events or (found.run.duration_seconds or QUICK_S + 1) <= QUICK_S:
            return found
        return dataclasses.replace(found, run=found.run.model_copy(update={"duration_seconds": QUICK_S}))

    # --- one row -----------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Forget what only rows at one seed share."""
        self._scenarios.clear()
        self._singles.clear()
        self._stages.clear()
        self._before.clear()

    def _cell(self, row: Row, seed: int, words: str) -> Cell:
        loaded = self._read(row.asked)
        scenario = self._bent(loaded, row, seed)
        stage = self._stage(scenario)
        self._told(words, 0.0)
        run = self._part(self._played(stage, loaded, row, lambda done: self._told(words, done)))
        scored = self._scored(run, scenario)
        if self._seeks:
            self._before.append(Column(run, scored))
        events = tuple((own.policy, each) for own in scored.policies for each in shocks.of(run, own))
        return Cell(scored, self._single(stage, seed) if self.experiment.baseline else None, events)

    def _stage(self, scenario: Scenario) -> Stage:
        """Return where a scenario is played: rows of the same one share what was searched for in it."""
        return self._stages.setdefault(id(scenario), Stage(scenario))

    def _bent(self, loaded: Loaded, row: Row, seed: int) -> Scenario:
        """Return a row's scenario."""
        key = (loaded.options, seed)
        if key not in self._scenarios:
            self._scenarios[key] = loaded.scenario(seed=seed, rate=self.rate)
        scenario = self._scenarios[key]
        bent = row.bend(scenario)
        aims = [[service.policy.slo for service in each.services] for each in (scenario, bent)]
        return bent if aims[0] == aims[1] else _resized(bent, loaded.run.start)

    def _played(self, stage: Stage, loaded: Loaded, row: Row, told: Callable[[float], None]) -> Run:
        self.runs += 1
        own = loaded.systems.get(row.system)
        if own is None and not row.warm:
            return play.play_one(stage, row.system, self._before, told)
        if own is None and row.system != play.CAPSTAN:
            raise ValueError(f"{row.label}: only Capstan and its settings files have a warm pool; got {row.system}")
        system: System = Capstan.of(stage.scenario) if own is None else Configured(stage.scenario, own)
        return stage.play(Warmed(system, row.warm) if row.warm else system, told)

    def _single(self, stage: Stage, seed: int) -> Score:
        """Return single-pool in a row's world; rows whose worlds are alike for it share one search."""
        scenario = stage.scenario
        slos = tuple(service.policy.slo for service in scenario.services)
        key = (seed, scenario.truths, slos, scenario.nodes, repr(scenario.settings.tariffs))
        if key not in self._singles:
            self._told(f"{SINGLE_POOL}, seed {seed}", 0.0)
            self._singles[key] = self._part(stage.single_pool())
        return self._scored(self._singles[key], scenario)

    def _part(self, run: Run) -> Run:
        """Return what of a run is scored."""
        return later.rest(run, min(self.experiment.after_s, run.duration_s / 2))

    def _scored(self, run: Run, scenario: Scenario) -> Score:
        """Score a run by the limits that its policies aim at: those of the set asked for, as the row bends them."""
        return score.of(run, SloSet.SCENARIO, scenario.settings.tariffs)


def _resized(scenario: Scenario, begin: files.Start) -> Scenario:
    """Return a scenario that starts with what its limits ask for, where starts are sized by them."""
    if begin is not files.Start.SIZED:
        return scenario
    services = tuple(
        dataclasses.replace(
            service, start=start.sized(service.policy, service.profiles, service.requests, scenario.nodes)
        )
        for service in scenario.services
    )
    return dataclasses.replace(scenario, services=start.shared(services, scenario.nodes))


def conditions(lab: Lab) -> Iterator[tuple[str, str]]:
    """Yield what held for every row, for people."""
    loaded = lab.loaded
    asked = loaded.options
    slo = asked.slo or SloSet.SCENARIO
    rate = "the trace's own" if lab.rate == 1 else f"{lab.rate:.4g} times the trace's own ({lab.provisioning})"
    yield "scenario", loaded.run.name
    yield "requests", "; ".join(demand.source for demand in loaded.demands)
    yield "SLO set", str(slo)
    yield "rates", rate
    yield "seeds", ", ".join(map(str, lab.seeds))
    yield "periods", f"{asked.periods or loaded.run.periods} s (cluster, pool, instance)"
    if all(row.asked.startup_s is None for row in lab.experiment.rows(loaded)):
        yield "start-up", f"{loaded.run.startup_seconds if asked.startup_s is None else asked.startup_s} s"
    if lab.quick:
        yield "shortened", "--quick: one seed, and without events the first minutes only; no result, a rehearsal"
