"""The kubelet's PodResources API (`v1.PodResourcesLister/List`) of one node, on a Unix socket.

As a real kubelet with NVIDIA's device plugin: device ids are GPU UUIDs, one `devices` entry per id under the same
resource name (seen on the third tier, 2026-11-20). The four messages are written by hand: a generated module would
bring protobuf's code generator into the rig for thirty bytes a pod.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import grpc

from rig.simulator.fleet import Tenant
from rig.simulator.node import Node
from rig.simulator.pods import GPU_RESOURCE

SERVICE, METHOD = "v1.PodResourcesLister", "List"
STOP_GRACE_S = 0.1
LENGTH_DELIMITED = 2  # protobuf wire type of strings and messages


class NodeResources:
    """One node's socket; `show` says what it answers from now on."""

    def __init__(self, path: Path, node: Node) -> None:
        self._path = path
        self._node = node
        self._answer = b""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen; what an earlier run left at the path is replaced."""
        self._path.unlink(missing_ok=True)
        self._server = grpc.aio.server()
        listing = {METHOD: grpc.unary_unary_rpc_method_handler(self._list)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, listing),))
        self._server.add_insecure_port(f"unix://{self._path}")
        await self._server.start()

    async def stop(self) -> None:
        """Close the socket."""
        if self._server is not None:
            await self._server.stop(STOP_GRACE_S)

    def show(self, tenants: Sequence[Tenant]) -> None:
        """Answer with these pods."""
        self._answer = b"".join(_field(1, self._pod(tenant)) for tenant in tenants)

    def _pod(self, tenant: Tenant) -> bytes:
        """Return a PodResources message."""
        pod, uuids = tenant.pod, [self._node.gpus[index].uuid for index in tenant.gpus]
        return resources(pod.namespace, pod.name, pod.container, uuids)

    async def _list(self, _request: bytes, _context: object) -> bytes:
        return self._answer


def listed(namespace: str, name: str, container: str, uuids: Sequence[str]) -> bytes:
    """Return one pod of an answer."""
    return _field(1, resources(namespace, name, container, uuids))


def resources(namespace: str, name: str, container: str, uuids: Sequence[str]) -> bytes:
    """Return a PodResources message: name 1, namespace 2, containers 3."""
    devices = b"".join(_field(2, _device(uuid)) for uuid in uuids)
    return _text(1, name) + _text(2, namespace) + _field(3, _text(1, container) + devices)


def _device(uuid: str) -> bytes:
    """Return a ContainerDevices message: resource_name 1, device_ids 2."""
    return _text(1, GPU_RESOURCE) + _text(2, uuid)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, payload: bytes) -> bytes:
    """Return a length-delimited field; numbers here are below 16, so the tag is one byte."""
    return bytes([number << 3 | LENGTH_DELIMITED]) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
