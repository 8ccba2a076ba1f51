"""Pods, addresses and recorders for the tests of the serving simulator and the load driver."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

from capstan.model.profile import Profile
from rig.simulator import pods
from rig.simulator.engines import Replica
from rig.simulator.pods import EngineArgs, PodView
from rig.simulator.server import EngineServer
from support import builders

_addresses = count(1)


def address() -> str:
    """A loopback address of this test process's own; every address of 127/8 answers without a route."""
    return f"127.87.{os.getpid() % 250 + 1}.{next(_addresses) % 250 + 1}"


def quick_profile(**timing: float) -> Profile:
    """An engine with steps of about 2 ms, so that a request of 20 tokens takes 50 ms."""
    base = builders.profile()
    quick = {"host_s": 0.001, "weights_s": 0.001, "prefill_base_s": 0.002, "prefill_min_s": 0.002, "queue_host_s": 0.0}
    return dataclasses.replace(base, timing=dataclasses.replace(base.timing, **{**quick, **timing}))


def pod_view(**changes: Any) -> PodView:
    """A Ready engine pod of 4 GPUs on `gpu-0`."""
    base = PodView(
        uid="uid-1",
        namespace="llm",
        name="chat-tp4-a",
        policy=builders.CHAT,
        node="gpu-0",
        ip=None,
        ready=True,
        deleting=False,
        draining=False,
        grace_s=30.0,
        gpus=4,
        container="engine",
        args=EngineArgs(model=builders.LLM, served_model_name="chat"),
    )
    return dataclasses.replace(base, **changes)


def pod_object(*args: str, **metadata: object) -> dict[str, object]:
    """The API object of a Ready engine pod, as the Deployment controller, the scheduler and KWOK leave it."""
    labels = {pods.POLICY_LABEL: "chat", "capstan.dev/tensor-parallel": "4"}
    return {
        "metadata": {"uid": "uid-1", "namespace": "llm", "name": "chat-tp4-a", "labels": labels, **metadata},
        "spec": {
            "nodeName": "gpu-0",
            "terminationGracePeriodSeconds": 90,
            "containers": [
                {"name": "sidecar"},
                {"name": "engine", "args": list(args), "resources": {"limits": {"nvidia.com/gpu": "4"}}},
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "127.89.0.7",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


class Remover:
    """Records which pods were removed; as the API server would, it leaves telling the fleet to the watch."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    async def remove(self, pod: PodView) -> None:
        self.removed.append(pod.name)


@contextlib.asynccontextmanager
async def serving(profile: Profile | None = None, **args: Any) -> AsyncIterator[tuple[EngineServer, str]]:
    """An engine that serves; yields it with its base URL."""
    engine_args = EngineArgs(model=builders.LLM, served_model_name="chat", **args)
    server = EngineServer(Replica(profile or quick_profile(), engine_args))
    ip = address()
    await server.start(ip)
    try:
        yield server, f"http://{ip}:8000"
    finally:
        await server.close()


async def until(true: Callable[[], bool], *, within_s: float = 1.5) -> None:
    """Wait until something is true; TimeoutError where it does not come."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - the things waited for have no event to wait on
            await asyncio.sleep(0.005)
