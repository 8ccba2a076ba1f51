"""Small worlds of the kernel in plain Python: the same source as the compiled one, and nothing to wait for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from capstan.replay import kernel
from capstan.replay.runs import Requests
from support import builders

PROFILE = builders.profile()
IDLE_W = PROFILE.draw.loaded_idle_w * PROFILE.tp
HOST_S = PROFILE.timing.queue_host_s


def trace(*rows: tuple[float, int, int]) -> Requests:
    arrival_s, prompts, outputs = zip(*rows, strict=True)
    return Requests(np.array(arrival_s, dtype=float), np.array(prompts), np.array(outputs))


def world(requests: Requests, *, slots: int = 4, end_s: float = 200.0, pools: int = 1) -> kernel.World:
    """One kind of replica, one class."""
    return kernel.World(requests, (PROFILE,), slots=slots, end_s=end_s, pools=pools, compile_it=False)


def classes(requests: Requests, codes: list[int], *, class_pool: Sequence[int], slots: int = 4) -> kernel.World:
    """Two pools, and requests of these classes."""
    return kernel.World(
        requests, (PROFILE,), slots=slots, end_s=200.0, pools=2, request_class=np.array(codes), class_pool=class_pool,
        compile_it=False,
    )  # fmt: skip


def ready(made: kernel.World, count: int = 1) -> kernel.World:
    for _ in range(count):
        made.create(0, now_s=made.now_s, ready_s=made.now_s)
    return made


def inside(made: kernel.World) -> list[int]:
    """Return the requests in each replica that is not gone, by slot."""
    live = made.replicas["state"] != kernel.FREE
    return [int(count) for count in (made.replicas["running"] + made.replicas["waiting"])[live]]
