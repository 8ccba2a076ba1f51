"""The fit: step times of all data sets at once, then each measured level, then power.

Who calls it: `capstan profile fit` and the leave-out table. Least squares on log ratios with a robust loss; every group
(data set, LLM, GPU, tp, engine, figure) weighs the same whatever its rows. Starting values are fixed, so the result is
the same on every run.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from capstan.calibrate import form, gpus, measurements, modelled, parameters, physics
from capstan.calibrate.fitted import Fitted, LevelKey
from capstan.calibrate.measurements import Kind, Observation
from capstan.calibrate.parameters import Power, Prior
from capstan.model.profile import Draw, Profile, Timing

Vector = npt.NDArray[np.float64]

ROBUST_RATIO = 0.05
"""Errors beyond 5 % count linearly: a row that the form cannot reach does not bend the others."""

PRIOR_WEIGHT, LEVEL_PRIOR_WEIGHT = 0.03, 0.02
"""One spread away from its start a parameter costs as much as 3 % (2 %) on one group."""

KIND_WEIGHT = {Kind.REDUCE: 0.3, Kind.LAYERS: 0.4}  # kernels alone show the shape; engines set the level
POWER_KINDS = (Kind.LOOP_POWER, Kind.RUN_POWER)
JUDGED_KINDS = (Kind.LOOP_ENERGY,)  # follows from time and power; errors are printed, nothing is fitted to it
EVALUATIONS = 25

Profiles = Callable[[Observation], Profile]


def fit(seen: Sequence[Observation], start: dict[str, float] | None = None) -> Fitted:
    """Return everything fitted to `seen`; `start`: times to begin at (a leave-out begins at the full fit)."""
    steps = [one for one in seen if one.kind not in (*POWER_KINDS, *JUDGED_KINDS)]
    times = fit_times(steps, start)
    levels = fit_levels(times, steps)
    watts = [one for one in seen if one.kind in POWER_KINDS]
    power = {gpu: fit_power(times, levels, gpu, watts) for gpu in sorted({one.gpu for one in watts})}
    return Fitted(times, power, fit_power_levels(times, levels, power, watts), {}, {})


def profiles(times: dict[str, float], levels: dict[LevelKey, form.Level], power: dict[str, Power]) -> Profiles:
    """Return a lookup of the physics behind an observation, each made once."""
    made: dict[tuple[str, str, str, int], Profile] = {}

    def lookup(one: Observation) -> Profile:
        key = (one.engine, one.llm, one.gpu, one.tp)
        if key not in made:
            made[key] = _profile(times, levels, power, one)
        return made[key]

    return lookup


def _profile(
    times: dict[str, float], levels: dict[LevelKey, form.Level], power: dict[str, Power], one: Observation
) -> Profile:
    gpu = gpus.find(one.gpu)
    draw: Draw = parameters.draw(power[gpu.name], gpu, one.tp) if gpu.name in power else physics.NO_DRAW
    if one.kind is Kind.REDUCE:
        shape = measurements.shape(REDUCE_SHAPE)
        return physics.profile(shape, gpu, one.tp, physics.all_reduce(times, gpu, one.tp), draw)
    shape = measurements.shape(one.llm)
    timing: Timing = physics.step_times(times, shape, gpu, one.tp, one.engine)
    level = levels.get(LevelKey(one.engine, one.llm, one.gpu), form.Level())
    return physics.profile(shape, gpu, one.tp, form.levelled(timing, level), form.levelled_draw(draw, level))


REDUCE_SHAPE = "meta-llama/Llama-2-70b-hf"  # an all-reduce has no LLM; any shape will do


def fit_times(seen: Sequence[Observation], start: dict[str, float] | None = None) -> dict[str, float]:
    """Return the parameters of step times."""
    priors = parameters.priors()
    fixed = {name: prior.start for name, prior in priors.items()}
    moving = {name: prior for name, prior in priors.items() if prior.spread > 0}

    def errors(values: dict[str, float]) -> Vector:
        return log_errors(profiles(fixed | values, {}, {}), seen)

    begin = {name: start[name] for name in moving} if start else None
    return fixed | _minimise(errors, moving, weights(seen), PRIOR_WEIGHT, begin)


def fit_levels(times: dict[str, float], seen: Sequence[Observation]) -> dict[LevelKey, form.Level]:
    """Return how far each measured (engine, LLM, GPU) lies from the global model."""
    priors = {name: Prior(1.0, spread) for name, spread in parameters.LEVEL.items()}
    found = {}
    for key, rows in _grouped(seen).items():

        def errors(values: dict[str, float], key: LevelKey = key, rows: list[Observation] = rows) -> Vector:
            return log_errors(profiles(times, {key: form.Level(**values)}, {}), rows)

        found[key] = form.Level(**_minimise(errors, priors, weights(rows), LEVEL_PRIOR_WEIGHT))
    return found


def fit_power(
    times: dict[str, float], levels: dict[LevelKey, form.Level], gpu: str, seen: Sequence[Observation]
) -> Power:
    """Return the draw of one GPU type, for all LLMs together."""
    rows = [one for one in seen if one.gpu == gpu]
    limit_w = gpus.find(gpu).limit_w
    priors = {
        name: Prior(prior.start * limit_w if name.endswith("_w") else prior.start, prior.spread)
        for name, prior in parameters.POWER_PRIORS.items()
    }

    def errors(values: dict[str, float]) -> Vector:
        return log_errors(profiles(times, levels, {gpu: Power(**values)}), rows)

    return Power(**_minimise(errors, priors, weights(rows), LEVEL_PRIOR_WEIGHT))


def fit_power_levels(
    times: dict[str, float],
    levels: dict[LevelKey, form.Level],
    power: dict[str, Power],
    seen: Sequence[Observation],
) -> dict[LevelKey, form.Level]:
    """Return the levels with each measured LLM's own factor on its draw."""
    priors = {"power": Prior(1.0, parameters.POWER_LEVEL_SPREAD)}
    found = dict(levels)
    for key, rows in _grouped(seen).items():
        own = levels.get(key, form.Level())

        def errors(
            values: dict[str, float], key: LevelKey = key, rows: list[Observation] = rows, own: form.Level = own
        ) -> Vector:
            return log_errors(profiles(times, {key: replace(own, **values)}, power), rows)

        found[key] = replace(own, **_minimise(errors, priors, weights(rows), LEVEL_PRIOR_WEIGHT))
    return found


def log_errors(lookup: Profiles, seen: Sequence[Observation]) -> Vector:
    """Return log(modelled / measured) of each observation."""
    return np.array([math.log(modelled.value(lookup(one), one) / one.value) for one in seen])


def group(one: Observation) -> tuple[str, str, str, int, str, Kind]:
    """Return the group that an observation belongs to; groups weigh the same."""
    return one.source, one.llm, one.gpu, one.tp, one.engine, one.kind


def weights(seen: Sequence[Observation]) -> Vector:
    """Return the square root of each observation's weight."""
    rows = Counter(group(one) for one in seen)
    return np.array([math.sqrt(KIND_WEIGHT.get(one.kind, 1.0) / rows[group(one)]) for one in seen])


def _grouped(seen: Sequence[Observation]) -> dict[LevelKey, list[Observation]]:
    found: dict[LevelKey, list[Observation]] = defaultdict(list)
    for one in seen:
        if one.engine != parameters.OPERATORS:
            found[LevelKey(one.engine, one.llm, one.gpu)].append(one)
    return dict(found)


def _minimise(
    errors: Callable[[dict[str, float]], Vector],
    priors: dict[str, Prior],
    weight: Vector,
    prior_weight: float,
    begin: dict[str, float] | None = None,
) -> dict[str, float]:
    """Return the values that minimise robust weighted errors plus the distance from the priors."""
    names = list(priors)
    centre = np.log([priors[name].start for name in names])
    spread = np.array([priors[name].spread for name in names])

    def residuals(logs: Vector) -> Vector:
        found = errors(dict(zip(names, np.exp(logs).tolist(), strict=True)))
        return np.concatenate([weight * _robust(found), prior_weight * (logs - centre) / spread])

    first = centre if begin is None else np.log([begin[name] for name in names])
    result = least_squares(residuals, first, method="trf", max_nfev=EVALUATIONS, xtol=1e-5, ftol=1e-5)
    return dict(zip(names, np.exp(result.x).tolist(), strict=True))


def _robust(found: Vector) -> Vector:
    """Return residuals whose square is the soft-L1 loss of `found`."""
    scaled = found / ROBUST_RATIO
    loss = 2 * (np.sqrt(1 + scaled**2) - 1)
    return np.asarray(np.sign(found) * ROBUST_RATIO * np.sqrt(loss))
