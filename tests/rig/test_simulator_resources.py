"""The kubelet's PodResources answer, read back by protobuf itself through a real gRPC channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from rig.simulator.fleet import Tenant
from rig.simulator.node import Node
from rig.simulator.pods import NodeView
from rig.simulator.resources import NodeResources
from support import builders, simulator

MESSAGES: dict[
    str, list[tuple[str, int, str | None, bool]]
] = {  # k8s.io/kubelet/pkg/apis/podresources/v1/api.proto, the fields that a GPU agent reads
    "ContainerDevices": [("resource_name", 1, None, False), ("device_ids", 2, None, True)],
    "ContainerResources": [("name", 1, None, False), ("devices", 2, "ContainerDevices", True)],
    "PodResources": [
        ("name", 1, None, False),
        ("namespace", 2, None, False),
        ("containers", 3, "ContainerResources", True),
    ],
    "ListPodResourcesResponse": [("pod_resources", 1, "PodResources", True)],
}


def response_type() -> Any:  # a class made at run time has no static type
    file = descriptor_pb2.FileDescriptorProto(name="podresources.proto", package="v1", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            entry = message.field.add(name=field, number=number, label=3 if repeated else 1)
            entry.type = entry.TYPE_MESSAGE if kind else entry.TYPE_STRING
            if kind:
                entry.type_name = f".v1.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("v1.ListPodResourcesResponse"))


async def listed(socket: Path) -> Any:
    async with grpc.aio.insecure_channel(f"unix://{socket}") as channel:
        answer = await channel.unary_unary("/v1.PodResourcesLister/List")(b"")
    return response_type().FromString(answer)


def tenant(node: Node, uid: str, name: str, gpus: int) -> Tenant:
    held = node.assign(uid, gpus)
    assert held is not None
    return Tenant(simulator.pod_view(uid=uid, name=name), node, held, builders.profile())


@pytest.fixture
def node() -> Node:
    return Node(NodeView("gpu-0", 8, builders.H100))


async def test_each_pod_is_listed_with_one_entry_per_gpu(tmp_path: Path, node: Node) -> None:
    socket = tmp_path / "pod-resources.sock"
    resources = NodeResources(socket, node)
    await resources.start()
    try:
        resources.show([tenant(node, "a", "chat-a", 4), tenant(node, "b", "chat-b", 2)])
        answer = await listed(socket)
        assert [(pod.namespace, pod.name) for pod in answer.pod_resources] == [("llm", "chat-a"), ("llm", "chat-b")]
        [container] = answer.pod_resources[1].containers
        assert container.name == "engine"
        assert [device.resource_name for device in container.devices] == ["nvidia.com/gpu"] * 2
        assert [list(device.device_ids) for device in container.devices] == [[node.gpus[4].uuid], [node.gpus[5].uuid]]
    finally:
        await resources.stop()


async def test_a_node_without_pods_answers_with_an_empty_list_and_a_restart_takes_the_socket_over(
    tmp_path: Path, node: Node
) -> None:
    socket = tmp_path / "pod-resources.sock"
    socket.touch()  # what a killed simulator leaves
    resources = NodeResources(socket, node)
    await resources.start()
    try:
        resources.show([tenant(node, "a", "chat-a", 1)])
        resources.show([])
        assert len((await listed(socket)).pod_resources) == 0
    finally:
        await resources.stop()
