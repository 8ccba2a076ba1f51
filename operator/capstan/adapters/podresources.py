"""The kubelet's PodResources API (v1): which pod holds which GPU.

Who calls it: `app.setter`: the kubelet's folder and socket are root's. A real kubelet returns one
`devices` entry per device id under the same resource name (seen on the third tier): all entries count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

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


class PodResources:
    """A client for one kubelet."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._channel = grpc.insecure_channel(f"unix://{socket}")
        self._list = self._channel.unary_unary(METHOD, request_serializer=bytes, response_deserializer=bytes)

    def owners(self) -> dict[str, tuple[str, str]]:
        """Return (namespace, name) of the pod of every GPU, share of one or MIG instance that one holds, by device id.

        Raises:
            Unavailable: No kubelet behind the socket. Malformed: It answers something else.
        """
        try:
            answer = self._list(b"", timeout=DEADLINE_S)
        except grpc.RpcError as error:
            raise errors.Unavailable(f"PodResources on {self._socket}: {_code(error)}") from error
        return owners(answer)


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


def _code(error: grpc.RpcError) -> str:
    code = error.code() if isinstance(error, grpc.Call) else None
    return code.name if code is not None else str(error)
