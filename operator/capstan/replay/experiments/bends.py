"""What experiments change of a scenario beyond the flags of `capstan replay`: limits, margins, true physics, aims.

Who calls it: `catalog`. Must not know: rows, systems.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from capstan import units
from capstan.model.objective import Series
from capstan.model.policy import Objective
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.replay.experiments.kinds import Bend
from capstan.replay.scenario import Scenario

HIGHEST_VOLTAGE_RATIO = 1.0
HIGHEST_SHARE_RATIO = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """What of a profile is wrong together: fields of `draw`, `timing` or `clocks`, as (record, names) pairs.

    `most` bounds a field that is a share and cannot exceed it.
    """

    words: str
    fields: tuple[tuple[str, tuple[str, ...]], ...]
    most: float | None = None

    def changed(self, profile: Profile, factor: float) -> Profile:
        """Return a profile whose fields of this part are `factor` times as large."""
        for record, names in self.fields:
            held = getattr(profile, record)
            values = {name: self._bounded(getattr(held, name) * factor) for name in names}
            profile = dataclasses.replace(profile, **{record: dataclasses.replace(held, **values)})
        return profile

    def _bounded(self, value: float) -> float:
        return value if self.most is None else min(value, self.most)


PARTS = (
    Part("decode time", (("timing", ("host_s", "weights_s", "per_sequence_s", "per_context_token_s")),)),
    Part(
        "prefill time",
        (
            (
                "timing",
                (
                    "prefill_base_s",
                    "prefill_per_token_s",
                    "prefill_per_token_long_s",
                    "prefill_min_s",
                    "attention_per_token2_s",
                ),
            ),
        ),
    ),
    Part("dynamic watts", (("draw", ("memory_w", "dynamic_w", "compute_w", "context_w")),)),
    Part("idle watts", (("draw", ("unloaded_w", "loaded_idle_w", "static_w")),)),
    Part("clock response, watts", (("clocks", ("v_min_ratio",)),), HIGHEST_VOLTAGE_RATIO),
    Part(
        "clock response, time", (("timing", ("decode_clock_ratio", "prefill_clock_ratio")),), HIGHEST_SHARE_RATIO
    ),
)  # fmt: skip
"""Issue 5's list, each alone. A clock answers in watts (core voltage) and in time (the share of a step that scales)."""


def truth(part: Part, factor: float) -> Bend:
    """Return what makes one part of the true physics `factor` times what is believed."""

    def bend(scenario: Scenario) -> Scenario:
        truths = tuple(tuple(part.changed(profile, factor) for profile in each) for each in scenario.truths)
        return dataclasses.replace(scenario, truths=truths)

    return bend


def told(bend: Bend) -> Bend:
    """Return the same, and systems know it: what is believed is what is true. The start stays."""

    def knowing(scenario: Scenario) -> Scenario:
        bent = bend(scenario)
        services = tuple(
            dataclasses.replace(service, profiles=profiles)
            for service, profiles in zip(bent.services, bent.truths, strict=True)
        )
        return dataclasses.replace(bent, services=services)

    return knowing


def tighter(factor: float) -> Bend:
    """Return what makes every limit on a latency `factor` times as long."""
    return _policies(lambda slo: _scaled(slo, factor))


def margin(ratio: float) -> Bend:
    """Return what makes plans aim at this share of every limit."""

    def bend(scenario: Scenario) -> Scenario:
        return dataclasses.replace(
            scenario, settings=dataclasses.replace(scenario.settings, slo_margin_ratio=ratio)
        )  # fmt: skip

    return bend


def aimed(objective: Objective, *, g_per_kwh: float | None = None) -> Bend:
    """Return what makes plans aim at an objective, where electricity has a constant intensity (None: as given)."""

    def bend(scenario: Scenario) -> Scenario:
        services = tuple(
            dataclasses.replace(service, policy=dataclasses.replace(service.policy, objective=objective))
            for service in scenario.services
        )
        settings = scenario.settings
        if g_per_kwh is not None:
            intensity = Series((0.0,), (g_per_kwh / units.JOULES_PER_KWH,))
            tariffs = dataclasses.replace(settings.tariffs, intensity=intensity)
            settings = dataclasses.replace(settings, tariffs=tariffs)
        return dataclasses.replace(scenario, services=services, settings=settings)

    return bend


def _policies(of: Callable[[Slo], Slo]) -> Bend:
    def bend(scenario: Scenario) -> Scenario:
        services = tuple(
            dataclasses.replace(service, policy=dataclasses.replace(service.policy, slo=of(service.policy.slo)))
            for service in scenario.services
        )
        return dataclasses.replace(scenario, services=services)

    return bend


def _scaled(slo: Slo, factor: float) -> Slo:
    tiers = tuple((tokens, ttft_s * factor) for tokens, ttft_s in slo.tiers)
    return Slo(slo.ttft_s * factor, slo.tpot_s * factor, slo.percentile_ratio, tiers)
