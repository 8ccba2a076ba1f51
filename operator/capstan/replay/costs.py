"""What joules and GPUs cost in a replay: from flags and the `Run` document to the core's tariffs, and in words.

Who calls it: `replay.load`. Must not know: runs, scores.

Where nothing is said of GPUs there is a rent and an embodied share all the same, named in every report: a kilowatt-hour
that is counted beside GPUs that are free would make any plan with more GPUs look good.
"""

from __future__ import annotations

import dataclasses

from capstan import units
from capstan.api import errors
from capstan.api import scenario as files
from capstan.model.objective import Tariffs
from capstan.model.policy import Objective, Policy
from capstan.replay.options import Options
from capstan.replay.scores import tariff

RENT_PER_GPU_HOUR = 11.06
"""US dollars: DynamoLLM's 1,362.7 an hour for 15.4 servers of eight H100s (facts/dynamollm.md 3.6)."""

EMBODIED_BOARD_KG = 164.0
"""CO2e of making an H100 with its eighth of the baseboard: NVIDIA's HGX H100 Product Carbon Footprint, 1,312 kg for
eight, cradle to gate. A life-cycle analysis for ADEME (Lees-Perasso et al. 2026, in EcoLogits) has 273 kg."""

EMBODIED_HOST_KG = 5700.0 / 8
"""Its eighth of everything else in the server: BoaviztAPI's figure for AWS p5.48xlarge without GPUs, as EcoLogits uses
it (docs/methodology/llm_inference.md). Four fifths of the whole: hosts dominate what is embodied (EcoServe, arXiv
2502.05043)."""

LIFETIME_YEARS = 5.0
"""An assumption: EcoLogits takes 3 years, servers are written off over 4 to 6."""


def of(options: Options, run: files.Run) -> Tariffs:
    """Return what joules and GPUs cost.

    Raises:
        TariffError: A file cannot be used. Invalid: a lifetime of nothing.
    """
    embodied_kg = _told(run.embodied_kilograms_per_gpu, EMBODIED_BOARD_KG + EMBODIED_HOST_KG)
    years = _told(run.gpu_lifetime_years, LIFETIME_YEARS)
    if years <= 0:
        raise errors.Invalid("gpuLifetimeYears", f"{years:g} is no lifetime; write a number above 0, such as 5")
    rent = RENT_PER_GPU_HOUR if options.gpu_hour_price is None else options.gpu_hour_price
    return Tariffs(
        price=None if options.price is None else tariff.price(options.price),
        rent_per_gpu_s=rent / units.SECONDS_PER_HOUR,
        intensity=None if options.carbon_intensity is None else tariff.carbon(options.carbon_intensity),
        embodied_g_per_gpu_s=embodied_kg * units.GRAMS_PER_KG / (years * units.HOURS_PER_YEAR * units.SECONDS_PER_HOUR),
    )


def aimed(policy: Policy, options: Options, tariffs: Tariffs) -> Policy:
    """Return a policy that makes least what was asked for; its own objective where nothing was.

    Raises:
        Invalid: Nobody said what carbon an hour's electricity is.
    """
    kind = options.objective or policy.objective
    check(kind, tariffs, f"{policy.key}, spec.objective" if options.objective is None else "--objective")
    return dataclasses.replace(policy, objective=kind)


def check(kind: Objective, tariffs: Tariffs, field: str) -> None:
    """Refuse an objective that nothing can be ranked by; `field` is where it was asked for.

    Raises:
        Invalid: Nobody said what carbon an hour's electricity is.
    """
    if not tariffs.serve(kind):
        fix = f"{kind} needs grams of CO2e per kWh over time; give --carbon-intensity FILE (start_s,g_per_kwh)"
        raise errors.Invalid(field, fix)


def notes(
    options: Options, run: files.Run, tariffs: Tariffs, kinds: tuple[Objective, ...]
) -> tuple[tuple[str, str], ...]:
    """Return what plans of these objectives are ranked by and what was assumed, as (name, value) pairs for people."""
    aims = ", ".join(dict.fromkeys(kinds))
    searched = "" if set(kinds) == {Objective.JOULES} else "; fixed fleets, oracle and bound are the least in joules"
    rent = (tariffs.rent_per_gpu_s or 0.0) * units.SECONDS_PER_HOUR
    rented = "as told" if options.gpu_hour_price is not None else "US dollars, from DynamoLLM's figures"
    told = [
        ("objective", f"{aims}{searched}"),
        ("GPU rent", f"{rent:g} a GPU-hour ({rented})"),
        ("price of electricity", "not given" if options.price is None else options.price.name),
        ("carbon intensity", "not given" if options.carbon_intensity is None else options.carbon_intensity.name),
    ]
    if tariffs.intensity is not None:
        share_g = (tariffs.embodied_g_per_gpu_s or 0.0) * units.SECONDS_PER_HOUR
        ours = run.embodied_kilograms_per_gpu is None and run.gpu_lifetime_years is None
        told.append(("embodied carbon", f"{share_g:.3g} g a GPU-hour{_ASSUMED if ours else ' (as told)'}"))
    return tuple(told)


_ASSUMED = (
    f" ({EMBODIED_BOARD_KG + EMBODIED_HOST_KG:g} kg a GPU with its share of the server over {LIFETIME_YEARS:g} years:"
    " NVIDIA's HGX H100 footprint, EcoLogits' host)"
)


def _told(text: str | None, otherwise: float) -> float:
    return otherwise if text is None else float(text)
