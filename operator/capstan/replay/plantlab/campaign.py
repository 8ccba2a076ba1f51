"""All runs of a scenario: each strategy under each variant at each seed, and the power steps.

Who calls it: `app.replay_kinds`. Must not know: pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from capstan.api import plant
from capstan.replay.plantlab import crossings, draws, scores
from capstan.replay.plantlab.crossings import Step
from capstan.replay.plantlab.guaranteed import Guaranteed
from capstan.replay.plantlab.play import Asked, Cut, Run, Uncapped, play
from capstan.replay.plantlab.scene import Scene
from capstan.replay.plantlab.scores import Score
from capstan.replay.plantlab.statistical import Statistical

COMPARED = (Guaranteed.name, Statistical.name)
Told = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Cell:
    """A strategy under one variant: a score per seed."""

    strategy: str
    variant: str
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class StepCell:
    """A strategy under one variant of the power step: a score per seed."""

    strategy: str
    variant: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Campaign:
    """Everything that was played; `shown` are the first seed's runs of the first variant, for drawings."""

    scene: Scene
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    steps: tuple[StepCell, ...]
    shown: tuple[Run, ...]
    shown_steps: tuple[Run, ...]


def played(scene: Scene, seeds: tuple[int, ...], told: Told) -> Campaign:
    """Play everything; `told` hears the share that is done."""
    spec = scene.spec
    hours = [(strategy, faults) for faults in spec.variants for strategy in COMPARED]
    hours.insert(0, (Uncapped.name, spec.variants[0]))
    cuts = [
        (strategy, faults) for strategy in COMPARED for faults in (spec.power_step.variants if spec.power_step else ())
    ]
    whole = len(hours) + len(cuts)
    cells, steps, shown, shown_steps = [], [], [], []
    for strategy, faults in hours:
        runs = _hour(scene, strategy, faults, seeds)
        cells.append(Cell(strategy, faults.name, tuple(score for _, score in runs)))
        if faults is spec.variants[0]:
            shown.append(runs[0][0])
        told(len(cells) / whole)
    for strategy, faults in cuts:
        first, found = _cut(scene, strategy, faults)
        steps.append(StepCell(strategy, faults.name, found))
        shown_steps.append(first)
        told((len(cells) + len(steps)) / whole)
    return Campaign(scene, seeds, tuple(cells), tuple(steps), tuple(shown), tuple(shown_steps))


def _hour(scene: Scene, strategy: str, faults: plant.Faults, seeds: Sequence[int]) -> list[tuple[Run, Score]]:
    """Play the scenario's load at every seed; only the first run is kept whole by who calls."""
    load, seconds = scene.spec.load, scene.spec.duration_seconds
    runs = (play(scene, Asked(strategy, faults, draws.hour(load, seed), seconds, seed)) for seed in seeds)
    return [(run, scores.of(run)) for run in runs]


def _cut(scene: Scene, strategy: str, faults: plant.Faults) -> tuple[Run, tuple[Step, ...]]:
    """Play the power step at every seed; each cuts at another moment within a second of the controllers."""
    spec = scene.spec.power_step
    if spec is None:
        raise ValueError("a scenario without a power step plays none")
    seconds = spec.at_seconds + spec.for_seconds
    moments_s = [spec.at_seconds + float(draws.stream(seed, draws.CUT).random()) for seed in range(1, spec.seeds + 1)]
    asked = [
        Asked(strategy, faults, draws.flash(spec, at_s), seconds, seed, Cut(at_s, 1 - spec.cut_percent / 100))
        for seed, at_s in enumerate(moments_s, 1)
    ]
    first = play(scene, asked[0])
    return first, (crossings.step(first), *(crossings.step(play(scene, each)) for each in asked[1:]))
