"""A kubelet's PodResources API for tests: the answer, and a server of it.

Written by hand once more, so that neither our parser nor the rig's writer judges itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path

import grpc


def pod_list(owners: Mapping[str, tuple[str, str]]) -> bytes:
    """A ListPodResourcesResponse: GPU uuid to (namespace, pod); one `devices` entry per device id, as a real one."""
    pods = b""
    for namespace, name in dict.fromkeys(owners.values()):
        held = [uuid for uuid, owner in owners.items() if owner == (namespace, name)]
        devices = b"".join(field(2, field(1, b"nvidia.com/gpu") + field(2, uuid.encode())) for uuid in held)
        container = field(1, b"engine") + devices
        pods += field(1, field(1, name.encode()) + field(2, namespace.encode()) + field(3, container))
    return pods


def serve(socket: Path, answer: Callable[[], bytes]) -> grpc.Server:
    """Answer every List on a Unix socket; the caller stops it."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": handler}),))
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server


def field(number: int, payload: bytes) -> bytes:
    """One length-delimited protobuf field of under 16 KiB."""
    size = len(payload)
    length = [size] if size < 128 else [size & 127 | 128, size >> 7]
    return bytes([number << 3 | 2, *length]) + payload
