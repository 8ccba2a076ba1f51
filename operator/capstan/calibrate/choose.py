"""Which measurements set the level of an estimate: the rule, in one place.

Who calls it: `calibrate.estimate` and `calibrate.errors`. There is no engine flag: where shared/data measured this LLM
on this GPU, its own level is used, so that an estimate at another tp or batch continues those rows; everything else
gets the newest vLLM, at the mean level of the LLM's family where that is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from capstan.calibrate import measurements, parameters
from capstan.calibrate.fitted import Fitted, LevelKey
from capstan.calibrate.form import Level
from capstan.calibrate.geometry import Geometry
from capstan.calibrate.gpus import Gpu

RANK = (parameters.MODERN, parameters.APEX, parameters.LIB, parameters.SAGE, parameters.SPLITWISE)
"""Newest first; TensorRT-LLM is fitted for the silicon's sake only, a ServingProfile of ours is vLLM's."""

HOST_BOUND = (parameters.SPLITWISE,)
"""Engines whose decode step is mostly a host of 2023: last choice for decode, a good one for prefill."""

PREFILL_MEASURED = (parameters.SPLITWISE, parameters.SAGE, parameters.APEX)
"""Engines whose rows show a prefill by itself."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine and level of decode, those of prefill, and a sentence on why."""

    engine: str
    level: Level
    prefill_engine: str
    prefill_level: Level
    measured: LevelKey | None
    reason: str


def choice(fit: Fitted, llm: Geometry, gpu: Gpu) -> Choice:
    """Return whose level an estimate of an LLM on a GPU carries."""
    keys = _measured(fit, llm, gpu)
    if not keys:
        level_, reason = _family_level(fit, llm, parameters.MODERN)
        return Choice(parameters.MODERN, level_, parameters.MODERN, level_, None, reason)
    key = min(keys, key=_preference)
    first = key
    if key.engine not in PREFILL_MEASURED and key.engine != parameters.MODERN:
        first = next((one for one in keys if one.engine in PREFILL_MEASURED), key)
    reason = f"Level of {key.engine} as measured for {key.llm} on {key.gpu}"
    if first != key:
        reason += f"; prefill of {first.engine}, which measured it alone"
    return Choice(key.engine, fit.levels[key], first.engine, fit.levels[first], key, reason + ".")


def level(fit: Fitted, llm: Geometry, gpu: Gpu, engine: str) -> Level:
    """Return the level of one engine vintage: this LLM's on this GPU where measured, else its family's."""
    keys = [key for key in _measured(fit, llm, gpu) if key.engine == engine]
    return fit.levels[keys[0]] if keys else _family_level(fit, llm, engine)[0]


def _measured(fit: Fitted, llm: Geometry, gpu: Gpu) -> list[LevelKey]:
    """Return levels of this LLM on this GPU by rank; of the same shape with another context where none is equal."""
    keys = [key for key in fit.levels if key.gpu == gpu.name and key.engine in (*RANK, parameters.TRT)]
    dtype = llm.weight_dtype_bytes
    equal = [key for key in keys if measurements.shape(key.llm) == llm]
    alike = [
        key
        for key in keys
        if replace(measurements.shape(key.llm), context_limit=llm.context_limit, weight_dtype_bytes=dtype) == llm
    ]
    found = equal or alike
    return sorted((key for key in found if key.engine in RANK), key=lambda key: RANK.index(key.engine))


def _preference(key: LevelKey) -> tuple[bool, int]:
    """Return what the level is chosen by: not a host of 2023, then the newest; the same for every tp.

    One LLM on one GPU has one engine, whatever its tp: an older one that happens to have rows at tp 8 would make tp 8
    slower than tp 4, and every comparison of the two wrong. Other engines' rows at a tp shape the form all the same.
    """
    return key.engine in HOST_BOUND, RANK.index(key.engine)


def _family_level(fit: Fitted, llm: Geometry, engine: str) -> tuple[Level, str]:
    """Return the mean level of an LLM's family on an engine."""
    found = [
        own
        for key, own in fit.levels.items()
        if key.engine == engine and measurements.shape(key.llm).family == llm.family
    ]
    if not found:
        return Level(), f"Level of {engine} in general: no LLM of family {llm.family!r} was measured."
    return _mean(found), f"Level of {engine}, mean of {len(found)} measured LLM(s) of family {llm.family!r}."


def _mean(levels: Sequence[Level]) -> Level:
    names = [field.name for field in fields(Level)]
    logs = {name: [math.log(getattr(one, name)) for one in levels] for name in names}
    mean = Level(**{name: math.exp(sum(found) / len(found)) for name, found in logs.items()})
    return replace(
        mean, power=1.0
    )  # a board's draw is the GPU type's; left-out LLMs came out worse with their family's
