"""Systems of settings files on one stage: each distinct setting is played once, also where two names ask for it.

Who calls it: `replay.play`. Must not know: scores, what a knob does.

What caps cost a system in latency is told by its twin: the same settings with every power domain only watched. Where no
domain of a scenario can be armed, all that settings say of power is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from capstan.api.system import Begin, Power, System
from capstan.replay.configured import Configured
from capstan.replay.runs import Run
from capstan.replay.stage import Stage, Told


class Twins:
    """The settings that were played, with their runs."""

    def __init__(self, stage: Stage, configured: Mapping[str, System]) -> None:
        self._stage = stage
        self._configured = configured
        self._played: dict[str, Run] = {}

    def play(self, name: str, told: Told) -> Run:
        """Run a system of a settings file.

        Raises:
            KeyError: There is no such file.
        """
        return self._run(self._configured[name], told)

    def uncapped(self, system: System, told: Told) -> Run:
        """Run a system without caps."""
        return self._run(system.model_copy(update={"power": Power.UNARMED}), told)

    def _run(self, system: System, told: Told) -> Run:
        scenario = self._stage.scenario
        if not any(domain.armed for domain in scenario.domains):
            system = system.model_copy(update={"power": Power.UNARMED})
        settings = system.model_dump_json(exclude={"name", "words"})
        if settings not in self._played:
            fixed = self._stage.single_pool_wants() if system.start is Begin.SINGLE_POOL else None
            self._played[settings] = self._stage.play(Configured(scenario, system, fixed), told)
        return dataclasses.replace(self._played[settings], system=system.name)
