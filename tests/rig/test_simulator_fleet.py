"""The simulator as the kubelet of engine pods: GPUs given and taken back, engines started at Ready and drained."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

import aiohttp
import pytest

from rig.simulator import node as nodes
from rig.simulator.fleet import Fleet, Phase
from rig.simulator.node import Node
from rig.simulator.pods import NodeView, PodView
from rig.simulator.profiles import Profiles
from support import builders, simulator

GPU_0 = NodeView("gpu-0", 8, builders.H100)


@contextlib.asynccontextmanager
async def fleet_of(remover: simulator.Remover | None = None, *views: NodeView) -> AsyncIterator[Fleet]:
    fleet = Fleet(Profiles([simulator.quick_profile()]), remover or simulator.Remover())
    fleet.see_nodes(views or [GPU_0])
    try:
        yield fleet
    finally:
        await fleet.close()


def by_uid(*pods: PodView) -> dict[str, PodView]:
    return {pod.uid: pod for pod in pods}


async def answers(pod: PodView) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{pod.ip}:8000/health") as response:
            return response.status == 200
    except aiohttp.ClientConnectorError:
        return False


def test_gpu_ids_depend_on_the_node_s_name_alone() -> None:
    first, again, other = Node(GPU_0), Node(GPU_0), Node(NodeView("gpu-1", 8, builders.H100))
    assert first.gpus == again.gpus
    assert len({gpu.uuid for gpu in (*first.gpus, *other.gpus)}) == 16, "no two GPUs of the rig share an id"
    assert first.gpus[0].uuid.startswith("GPU-")
    assert nodes.gpu_id("gpu-0", 3).pci_bus_id == "00000000:13:00.0"


def test_gpus_are_given_whole_and_come_back() -> None:
    node = Node(GPU_0)
    assert node.assign("a", 4) == (0, 1, 2, 3)
    assert node.assign("b", 2) == (4, 5)
    assert node.assign("c", 4) is None, "two are left: a pod gets all or none"
    assert node.assign("a", 4) == (0, 1, 2, 3), "asking twice changes nothing"
    node.release("a")
    assert node.assign("c", 4) == (0, 1, 2, 3)
    assert node.holder(4) == "b"
    assert node.holder(7) is None


async def test_a_bound_pod_holds_its_gpus_before_it_is_ready_and_answers_only_then() -> None:
    async with fleet_of() as fleet:
        starting = simulator.pod_view(ip=simulator.address(), ready=False)
        await fleet.reconcile(by_uid(starting))
        tenant = fleet.tenants[starting.uid]
        assert (tenant.phase, tenant.gpus) == (Phase.STARTING, (0, 1, 2, 3))
        assert not await answers(starting)
        await fleet.reconcile(by_uid(dataclasses.replace(starting, ready=True)))
        assert tenant.phase is Phase.SERVING
        assert await answers(starting)


async def test_pods_without_a_node_or_on_a_node_without_gpus_get_nothing() -> None:
    async with fleet_of() as fleet:
        unbound = simulator.pod_view(uid="a", node=None)
        elsewhere = simulator.pod_view(uid="b", node="cpu-0")
        await fleet.reconcile(by_uid(unbound, elsewhere))
        assert fleet.tenants == {}


async def test_a_pod_that_finds_no_free_gpus_gets_them_when_they_are_free() -> None:
    async with fleet_of() as fleet:
        first, second = (simulator.pod_view(uid=u, ip=simulator.address(), gpus=8) for u in ("a", "b"))
        await fleet.reconcile(by_uid(first, second))
        assert set(fleet.tenants) == {"a"}
        await fleet.reconcile(by_uid(second))
        assert set(fleet.tenants) == {"b"}
        assert fleet.nodes["gpu-0"].held_by("b") == tuple(range(8))


async def test_a_deleted_pod_finishes_its_request_then_is_removed_and_gives_its_gpus_back() -> None:
    remover = simulator.Remover()
    async with fleet_of(remover) as fleet:
        pod = simulator.pod_view(ip=simulator.address())
        await fleet.reconcile(by_uid(pod))
        replica = fleet.tenants[pod.uid].replica
        assert replica is not None
        async with aiohttp.ClientSession() as session:
            body = {"prompt": "x", "max_tokens": 100}
            request = asyncio.create_task(session.post(f"http://{pod.ip}:8000/v1/completions", json=body))
            await simulator.until(lambda: replica.engine.running == 1)
            deleted = dataclasses.replace(pod, deleting=True)
            await fleet.reconcile(by_uid(deleted))
            await fleet.reconcile(by_uid(deleted))  # a second event of the same state changes nothing
            assert fleet.tenants[pod.uid].phase is Phase.DRAINING
            assert remover.removed == [], "it still has something to finish"
            response = await request
            assert (await response.json())["usage"]["completion_tokens"] == 100
        await simulator.until(lambda: remover.removed == [pod.name])
        assert fleet.nodes["gpu-0"].held_by(pod.uid) == (0, 1, 2, 3), "its GPUs are its own until it is gone"
        await fleet.reconcile({})
        assert fleet.nodes["gpu-0"].held_by(pod.uid) == ()
        assert not await answers(pod)


async def test_a_drain_that_outlasts_its_grace_is_cut_short() -> None:
    remover = simulator.Remover()
    async with fleet_of(remover) as fleet:
        pod = simulator.pod_view(ip=simulator.address(), grace_s=0.1)
        await fleet.reconcile(by_uid(pod))
        replica = fleet.tenants[pod.uid].replica
        assert replica is not None
        async with aiohttp.ClientSession() as session:
            body = {"prompt": "x", "max_tokens": 100_000}
            request = asyncio.create_task(session.post(f"http://{pod.ip}:8000/v1/completions", json=body))
            await simulator.until(lambda: replica.engine.running == 1)
            await fleet.reconcile(by_uid(dataclasses.replace(pod, deleting=True)))
            await simulator.until(lambda: remover.removed == [pod.name], within_s=1)
            await fleet.reconcile({})
            with pytest.raises(aiohttp.ClientError):
                await request


async def test_a_pod_deleted_before_it_was_ready_is_removed_at_once() -> None:
    remover = simulator.Remover()
    async with fleet_of(remover) as fleet:
        await fleet.reconcile(by_uid(simulator.pod_view(ready=False, deleting=True)))
        await simulator.until(lambda: remover.removed == ["chat-tp4-a"])


async def test_a_removal_that_the_api_refuses_is_tried_again() -> None:
    class Refusing(simulator.Remover):
        async def remove(self, pod: PodView) -> None:
            await super().remove(pod)
            if len(self.removed) == 1:
                raise aiohttp.ClientError("the API server is away")

    remover = Refusing()
    async with fleet_of(remover) as fleet:
        pods = by_uid(simulator.pod_view(ready=False, deleting=True))
        await fleet.reconcile(pods)
        await simulator.until(lambda: len(remover.removed) == 1)
        await asyncio.sleep(0)
        await fleet.reconcile(pods)
        await simulator.until(lambda: len(remover.removed) == 2)


async def test_a_pod_removed_by_force_takes_its_engine_with_it() -> None:
    async with fleet_of() as fleet:
        pod = simulator.pod_view(ip=simulator.address())
        await fleet.reconcile(by_uid(pod))
        await fleet.reconcile({})
        assert not await answers(pod)
        assert fleet.tenants == {}


async def test_an_address_that_is_taken_is_tried_again() -> None:
    async with fleet_of() as fleet:
        ip = simulator.address()
        first, second = (simulator.pod_view(uid=u, name=u, ip=ip) for u in ("a", "b"))
        await fleet.reconcile(by_uid(first, second))
        assert fleet.tenants["b"].server is None
        await fleet.reconcile(by_uid(second))
        assert fleet.tenants["b"].phase is Phase.SERVING


async def test_a_pod_with_flags_that_vllm_refuses_never_answers() -> None:
    async with fleet_of() as fleet:
        pod = simulator.pod_view(ip=simulator.address(), flaw="--max-num-seqs='many' is no number")
        await fleet.reconcile(by_uid(pod))
        assert fleet.tenants[pod.uid].phase is Phase.STARTING
        assert not await answers(pod)


def test_an_engine_without_a_profile_of_its_own_gets_the_nearest_physics() -> None:
    tp4 = builders.profile()
    tp8 = builders.profile(name="test-tp8", tp=8)
    known = Profiles([tp4, tp8])
    assert known.of(simulator.pod_view(gpus=8), builders.H100) is tp8
    stranger = simulator.pod_view(args=dataclasses.replace(simulator.pod_view().args, model="someone/else"))
    assert known.of(stranger, builders.H100) is tp4, "same tp first"
    with pytest.raises(ValueError, match="--profiles"):
        Profiles([])
