"""Which pod gets a request: the one with the least outstanding of ours, among those that are Ready and stay."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass

from rig.simulator.pods import PodView


@dataclass(frozen=True, slots=True)
class Backend:
    """One engine. `uid` tells pods of one name apart."""

    uid: str
    pod: str
    policy: str
    base_url: str
    model: str


def backends(pods: Iterable[PodView], port: int) -> dict[str, Backend]:
    """Return the pods that may get new requests, by uid: Ready, not being deleted, not labelled draining."""
    return {
        pod.uid: Backend(pod.uid, pod.name, pod.policy, f"http://{pod.ip}:{port}", pod.args.model_name)
        for pod in pods
        if pod.ready and pod.ip and not pod.deleting and not pod.draining
    }


class Balancer:
    """Counts what each pod still owes, and wakes who waits for a pod when the pods change."""

    def __init__(self) -> None:
        self._backends: dict[str, Backend] = {}
        self._outstanding: Counter[str] = Counter()
        self._turn: Counter[str] = Counter()  # requests given so far: breaks ties, so that idle pods take turns
        self._changed = asyncio.Event()

    def update(self, backends: dict[str, Backend]) -> None:
        """Take the pods of now."""
        newcomers = backends.keys() - self._backends.keys()
        start = min((self._turn[uid] for uid in self._backends), default=0)
        for uid in newcomers:
            self._turn[uid] = start  # a new pod shares from now on, it does not catch up
        self._backends = dict(backends)
        self._changed.set()
        self._changed = asyncio.Event()

    def take(self, policy: str, refused: Set[str] = frozenset()) -> Backend | None:
        """Return a policy's pod with the least outstanding requests, not among those that `refused`; None without one.

        Give it back with `release`.
        """
        able = [b for b in self._backends.values() if b.policy == policy and b.uid not in refused]
        chosen = min(able, key=lambda b: (self._outstanding[b.uid], self._turn[b.uid]), default=None)
        if chosen is not None:
            self._outstanding[chosen.uid] += 1
            self._turn[chosen.uid] += 1
        return chosen

    def release(self, backend: Backend) -> None:
        """Note that a request is done with its pod, well or not."""
        self._outstanding[backend.uid] -= 1

    async def changed(self, timeout_s: float) -> None:
        """Wait until the pods change, at most `timeout_s`."""
        waiter = self._changed
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.wait()
        except TimeoutError:
            return
