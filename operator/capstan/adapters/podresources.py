"""The kubelet's PodResources API (v1): which pod holds which GPU.

Who calls it: `app.setter`, on a thread without a loop: the kubelet's folder and socket are root's. A real kubelet
returns one `devices` entry per device id under the same resource name (seen on the third tier): all entries count.

grpclib instead of grpcio, whose core and threads put the setter beyond its 40 MB (`python -m rig agent-cost`). A call
has a connection of its own: a kubelet that restarts leaves nothing behind that has to be noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from capstan.adapters import errors

METHOD = "/v1.PodResourcesLister/List"
WHOLE = ("nvidia.com/gpu", "nvidia.com/gpu.shared")  # the second: NVIDIA's plugin with `renameByDefault`
INSTANCE = "nvidia.com/mig-"  # one resource per MIG profile, such as nvidia.com/mig-1g.10gb
DEADLINE_S = 1.0

_FIELDS: Mapping[str, tuple[tuple[str, int, str | None], ...]] = {  # message: (field, number, its message or a string)
    "ListPodResourcesResponse": (("pod_resources", 1, "PodResources"),),
    "PodResources": (("name", 1, None), ("namespace", 2, None), ("containers", 3, "ContainerResources")),
    "ContainerResources": (("name", 1, None), ("devices", 2, "ContainerDevices")),
    "ContainerDevices": (("resource_name", 1, None), ("device_ids", 2, None)),
}
_REPEATED = {"pod_resources", "containers", "devices", "device_ids"}


class _Bytes(CodecBase):
    """Messages as they are on the wire: an answer that is no protobuf is told apart from a call that failed."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: type[bytes]) -> bytes:
        """Return what is sent."""
        del message_type
        return message

    def decode(self, data: bytes, message_type: type[bytes]) -> bytes:
        """Return what came."""
        del message_type
        return data


class PodResources:
    """A client for one kubelet."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def owners(self) -> dict[str, tuple[str, str]]:
        """Return (namespace, name) of the pod of every GPU, share of one or MIG instance that one holds, by device id.

        Raises:
            Unavailable: No kubelet behind the socket. Malformed: It answers something else.
        """
        try:
            answer = asyncio.run(self._list())
        except GRPCError as error:
            raise errors.Unavailable(f"PodResources on {self._socket}: {error.status.name}") from error
        except (OSError, TimeoutError, ProtocolError, StreamTerminatedError) as error:
            raise errors.Unavailable(f"PodResources on {self._socket}: {error or 'too slow'}") from error
        return owners(answer)

    async def _list(self) -> bytes:
        """Ask once, on a connection of its own."""
        async with asyncio.timeout(DEADLINE_S), Channel(path=str(self._socket), codec=_Bytes()) as channel:
            return await UnaryUnaryMethod[bytes, bytes](channel, METHOD, bytes, bytes)(b"")


def owners(answer: bytes) -> dict[str, tuple[str, str]]:
    """Return what a List answered. Raises Malformed."""
    return dict(_owners(decoded(answer)))


def decoded(answer: bytes) -> Message:
    """Parse a ListPodResourcesResponse. Raises Malformed."""
    message = _response()()
    try:
        message.ParseFromString(answer)
    except DecodeError as error:
        raise errors.Malformed(f"PodResources: {error}") from error
    return message


def _owners(message: Message) -> Iterator[tuple[str, tuple[str, str]]]:
    for pod in message.pod_resources:  # type: ignore[attr-defined]  # a message class made at run time
        for container in pod.containers:
            for devices in container.devices:
                if devices.resource_name in WHOLE or devices.resource_name.startswith(INSTANCE):
                    yield from ((uuid, (pod.namespace, pod.name)) for uuid in devices.device_ids)


@cache
def _response() -> type[Message]:
    """Return the message class, made from the four messages that we read (kubelet/pkg/apis/podresources/v1)."""
    file = descriptor_pb2.FileDescriptorProto(name="podresources.proto", package="v1", syntax="proto3")
    for name, fields in _FIELDS.items():
        made = file.message_type.add(name=name)
        for field, number, of in fields:
            kind = descriptor_pb2.FieldDescriptorProto
            made.field.add(
                name=field,
                number=number,
                label=kind.LABEL_REPEATED if field in _REPEATED else kind.LABEL_OPTIONAL,
                type=kind.TYPE_MESSAGE if of else kind.TYPE_STRING,
                type_name=f".v1.{of}" if of else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("v1.ListPodResourcesResponse"))
