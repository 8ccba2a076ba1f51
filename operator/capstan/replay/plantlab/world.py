"""The plant's state, and a second of it at a time.

Who calls it: `play`. Must not know: controllers, budgets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from capstan.api import plant
from capstan.replay.kernel import compiling
from capstan.replay.plantlab import draws, layout, physics, tables
from capstan.replay.plantlab.layout import Floats, Records
from capstan.replay.plantlab.scene import Scene

Second = Callable[[np.void, Records, Records, Records, Floats], None]


@functools.cache
def second(*, compile_it: bool) -> Second:
    """Return a second of the plant, compiled or as plain Python: the same source, the same bits."""
    if compile_it:
        return cast("Second", compiling.compiled((physics,), ("second",))["second"])
    return physics.second


class World:
    """True watts. `ac_w` [bin of 100 ms, domain]: column 0 is the root, the racks follow in their order."""

    def __init__(
        self, scene: Scene, faults: plant.Faults, rate: draws.Rate, *, seed: int, seconds: int, compile_it: bool = True
    ) -> None:
        self.scene = scene
        self.boards = draws.boards(scene, faults, seed)
        self.requests, ends = draws.requests(scene, rate, seed, seconds)
        self.servers = _servers(scene, ends)
        self.ac_w = np.zeros((seconds * layout.BINS, len(scene.domains)))
        self._plant = _plant(scene, seed)
        self._second = second(compile_it=compile_it)
        self.now_s = 0

    def advance(self) -> None:
        """Play one second."""
        self.servers["read_w"] = 0.0
        self._second(self._plant[0], self.servers, self.boards, self.requests, self.ac_w)
        self.now_s += 1

    def newest_w(self) -> Floats:
        """Return AC watts per domain, mean of the last second."""
        end = self.now_s * layout.BINS
        return np.asarray(self.ac_w[end - layout.BINS : end].mean(axis=0))

    def allowed_w(self) -> float:
        """Return AC watts of the root if every board drew exactly the limit in force, and the rest followed."""
        spec = self.scene.spec.supply
        gpus_w = self.boards["limit_w"].sum(axis=1)
        plant_ = self._plant[0]
        dc_w = gpus_w + np.minimum(
            plant_["non_gpu_idle_w"] + plant_["non_gpu_per_w"] * gpus_w, plant_["non_gpu_most_w"]
        )
        loads = np.linspace(0.0, 1.0, layout.SUPPLY_POINTS)
        return float((dc_w / np.interp(dc_w / spec.rated_watts, loads, plant_["supply_ratio"])).sum())


def _servers(scene: Scene, ends: Sequence[int]) -> Records:
    made = np.zeros(len(scene.servers), dtype=layout.SERVER)
    column = {domain.name: index for index, domain in enumerate(scene.domains)}
    made["domain"] = [column[server.domains[0]] for server in scene.servers]
    made["head"] = made["tail"] = ends[:-1]
    made["end"] = ends[1:]
    made["non_gpu_w"] = scene.spec.supply.non_gpu_idle_watts
    return made


def _plant(scene: Scene, seed: int) -> Records:
    spec, profile = scene.spec, scene.profile
    prompt_tokens, output_tokens = draws.mean_tokens()
    supply = spec.supply
    made = np.zeros(1, dtype=layout.PLANT)
    one = made[0]
    clocks = tables.clocks_ratio(profile)
    one["gpus"] = scene.gpus
    one["min_ratio"], one["grid_ratio"] = clocks[0], clocks[1] - clocks[0]
    one["release_s"] = spec.boards.release_milliseconds / 1e3
    one["idle_w"] = profile.draw.loaded_idle_w
    one["output_tokens"] = output_tokens
    one["patience_s"] = spec.load.patience_seconds
    one["non_gpu_idle_w"], one["non_gpu_most_w"] = supply.non_gpu_idle_watts, supply.non_gpu_full_watts
    swing_w = scene.gpus * (profile.draw.limit_w - profile.draw.loaded_idle_w)
    one["non_gpu_per_w"] = (supply.non_gpu_full_watts - supply.non_gpu_idle_watts) / swing_w
    one["non_gpu_idle_w"] -= one["non_gpu_per_w"] * scene.gpus * profile.draw.loaded_idle_w
    one["non_gpu_settle_s"] = max(supply.non_gpu_settle_milliseconds / 1e3, layout.SLICE_S)
    one["rated_w"] = supply.rated_watts
    one["prefill_w"], one["prefill_slowdown"] = tables.prefill_w(profile), tables.prefill_slowdown(profile)
    one["decode_w"], one["decode_s"] = tables.decoding(profile, prompt_tokens + output_tokens / 2)
    loads, efficiencies = np.array(supply.efficiency_percent, dtype=np.float64).T / 100
    one["supply_ratio"] = np.interp(np.linspace(0.0, 1.0, layout.SUPPLY_POINTS), loads, efficiencies)
    one["ripple_ratio"] = draws.ripple(scene, seed)
    return made
