"""What a run cost: money and carbon of its assigned GPUs, part by part.

Who calls it: `scores.score`. Must not know: files, SLOs, which system ran.

Watts over time are multiplied by the price or the intensity of that moment: carbon falls less than energy where the
saving is not in the dirtiest hours, and a mean factor would hide that (facts/dynamollm.md 3.6). The watts are those of
assigned GPUs, as in the boundary *released*: GPUs without a pod cost nobody rent or an embodied share here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capstan.model.objective import Series, Tariffs
from capstan.replay.runs import Run
from capstan.replay.scores import watts


@dataclass(frozen=True, slots=True)
class Bill:
    """Money in the currency of the tariffs, carbon in grams of CO2e. None: not given, or not known throughout.

    Attributes:
        rent: Of assigned GPUs by the second. electricity: their joules, each at the price of its moment.
        cost: Both; rent alone or electricity alone where the other was not given.
        operational_g: Their joules, each at the intensity of its moment. embodied_g: their share of making the servers.
        carbon_g: Both; operational alone where no embodied share was given. Without an intensity there is none.
    """

    rent: float | None = None
    electricity: float | None = None
    cost: float | None = None
    operational_g: float | None = None
    embodied_g: float | None = None
    carbon_g: float | None = None


NOTHING = Bill()


def of(run: Run, tariffs: Tariffs) -> Bill:
    """Return what a run cost; `start_s` of a series counts from the first arrival, as the run's own times do."""
    gpu_s = sum(service.gpu_seconds for service in run.services) or None  # a run that nobody counted GPUs of has 0
    rent = _share(gpu_s, tariffs.rent_per_gpu_s)
    electricity = None if tariffs.price is None else integral(run, tariffs.price)
    operational_g = None if tariffs.intensity is None else integral(run, tariffs.intensity)
    embodied_g = None if tariffs.intensity is None else _share(gpu_s, tariffs.embodied_g_per_gpu_s)
    return Bill(
        rent=rent,
        electricity=electricity,
        cost=_sum((tariffs.rent_per_gpu_s is not None, rent), (tariffs.price is not None, electricity)),
        operational_g=operational_g,
        embodied_g=embodied_g,
        carbon_g=_sum(
            (tariffs.intensity is not None, operational_g),
            (tariffs.intensity is not None and tariffs.embodied_g_per_gpu_s is not None, embodied_g),
        ),
    )


def integral(run: Run, per_j: Series) -> float | None:
    """Return the run's joules, each times the value of its moment; None where watts are not known throughout."""
    edges_s, gpus_w = watts.steps([service.series for service in run.services])
    if not len(gpus_w) or not np.isfinite(gpus_w).all():
        return None
    steps = list(per_j.steps(float(edges_s[0]), float(edges_s[-1])))
    starts_s = np.array([start_s for start_s, _, _ in steps])
    values = np.array([value for _, _, value in steps])
    cuts_s = np.union1d(edges_s, starts_s)
    power_w = gpus_w[np.searchsorted(edges_s, cuts_s[:-1], side="right") - 1]
    rate = values[np.searchsorted(starts_s, cuts_s[:-1], side="right") - 1]
    return float((power_w * np.diff(cuts_s) * rate).sum())


def _share(gpu_s: float | None, per_gpu_s: float | None) -> float | None:
    return None if gpu_s is None or per_gpu_s is None else gpu_s * per_gpu_s


def _sum(*parts: tuple[bool, float | None]) -> float | None:
    """Return the sum of the parts that were asked for; None where there is none, or one of them is not known."""
    asked: Sequence[float | None] = [value for given, value in parts if given]
    known = [value for value in asked if value is not None]
    return sum(known) if known and len(known) == len(asked) else None
