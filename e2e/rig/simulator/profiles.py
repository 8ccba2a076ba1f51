"""Which physics an engine gets: the shipped ServingProfiles, by model, GPU and tp.

The world needs physics for every engine, also for one that Capstan has no profile for; so where none covers a pod, the
nearest one stands in, and the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from capstan.model.profile import Profile
from rig.simulator.pods import PodView

log = logging.getLogger(__name__)


class Profiles:
    """The profiles of one folder."""

    def __init__(self, profiles: Sequence[Profile]) -> None:
        if not profiles:
            raise ValueError("the simulator needs at least one ServingProfile: see --profiles")
        self._profiles = tuple(profiles)

    def of(self, pod: PodView, gpu_product: str) -> Profile:
        """Return the profile that covers a pod; else one of the same tp, else any (logged)."""
        for profile in self._profiles:
            if profile.covers(pod.args.model, gpu_product, pod.gpus):
                return profile
        stand_in = min(self._profiles, key=lambda p: (p.tp != pod.gpus, gpu_product not in p.gpu_products))
        log.warning(
            "%s/%s: no profile covers %s on %s at tp %d; %s stands in",
            *(pod.namespace, pod.name, pod.args.model, gpu_product, pod.gpus, stand_in.name),
        )
        return stand_in

    def of_gpu(self, gpu_product: str) -> Profile:
        """Return a profile measured on a GPU, for its clocks and idle watts; any where none was."""
        return next((p for p in self._profiles if gpu_product in p.gpu_products), self._profiles[0])
