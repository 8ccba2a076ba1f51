"""Which pod holds which GPU, as a kubelet tells it over gRPC."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from functools import partial
from pathlib import Path

import grpc
import pytest

from capstan.adapters import errors
from capstan.adapters.podresources import DEADLINE_S, PodResources, decoded, owners
from support import kubelet as kubelets
from support.kubelet import field, pod_list

Kubelet = Callable[[bytes], PodResources]


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    """Serve these bytes to every List."""
    servers: list[grpc.Server] = []

    def serve(answer: bytes) -> PodResources:
        servers.append(kubelets.serve(tmp_path / "kubelet.sock", lambda: answer))
        return PodResources(tmp_path / "kubelet.sock")

    yield serve
    for server in servers:
        server.stop(None).wait()


def test_all_entries_of_a_pod_count(kubelet: Kubelet) -> None:
    """A real kubelet sends one `devices` entry per device id under the same resource name."""
    owners = {f"GPU-{i}": ("llm", "chat-1") for i in range(4)} | {"GPU-9": ("batch", "sum-0")}
    assert kubelet(pod_list(owners)).owners() == owners


def test_other_resources_are_not_gpus(kubelet: Kubelet) -> None:
    answer = pod_list({"GPU-0": ("llm", "chat-1")}).replace(b"nvidia.com/gpu", b"example.com/fp")
    assert kubelet(answer).owners() == {}


@pytest.mark.parametrize("resource", [b"nvidia.com/gpu.shared", b"nvidia.com/mig-1g.10gb", b"nvidia.com/mig-3g.40gb"])
def test_shares_and_instances_are_gpus(resource: bytes) -> None:
    """The resource's name changes with the strategy of NVIDIA's device plugin."""
    container = field(1, b"engine") + field(2, field(1, resource) + field(2, b"MIG-0"))
    answer = field(1, field(1, b"chat-1") + field(2, b"llm") + field(3, container))
    assert owners(answer) == {"MIG-0": ("llm", "chat-1")}


def test_an_empty_node_has_no_owners(kubelet: Kubelet) -> None:
    assert kubelet(b"").owners() == {}


def test_unknown_fields_of_a_newer_kubelet_are_passed_over(kubelet: Kubelet) -> None:
    newer = pod_list({"GPU-0": ("llm", "chat-1")}) + b"\x9a\x06\x03abc"  # field 99
    assert kubelet(newer).owners() == {"GPU-0": ("llm", "chat-1")}


def test_an_answer_that_is_no_list_is_malformed(kubelet: Kubelet) -> None:
    with pytest.raises(errors.Malformed, match="PodResources"):
        kubelet(b"<html>").owners()


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_cut_message_never_crashes(cut: int) -> None:
    whole = pod_list({"GPU-0": ("llm", "chat-1")})
    try:
        decoded(whole[:cut])
    except errors.Malformed:
        return
    assert cut >= len(whole), "half a message must not pass for a whole one"


def test_a_node_of_many_pods_is_read_whole(kubelet: Kubelet) -> None:
    """More than HTTP/2's first window of 64 KiB: the kubelet goes on only where it is told to."""
    pods = b"".join(pod_list({f"GPU-{i:04d}": ("llm", f"chat-{i:04d}")}) for i in range(4000))
    assert len(pods) > 3 * 65_535
    found = kubelet(pods).owners()
    assert len(found) == 4000
    assert found["GPU-3999"] == ("llm", "chat-3999")


def test_a_kubelet_that_was_restarted_is_asked_anew(tmp_path: Path) -> None:
    """Between the two there is none, which is said; the client is the same all along."""
    client = PodResources(tmp_path / "kubelet.sock")
    for pod in ("chat-1", "chat-2"):
        answer = pod_list({"GPU-0": ("llm", pod)})
        server = kubelets.serve(tmp_path / "kubelet.sock", partial(bytes, answer))
        assert client.owners() == {"GPU-0": ("llm", pod)}
        server.stop(None).wait()
        with pytest.raises(errors.Unavailable):
            client.owners()


def test_a_kubelet_without_the_service_is_unavailable_with_its_code(tmp_path: Path) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_insecure_port(f"unix://{tmp_path}/kubelet.sock")
    server.start()
    with pytest.raises(errors.Unavailable, match="UNIMPLEMENTED"):
        PodResources(tmp_path / "kubelet.sock").owners()
    server.stop(None).wait()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["nothing", "another protocol"])
def test_a_socket_that_answers_otherwise_is_unavailable_within_the_deadline(tmp_path: Path, said: bytes) -> None:
    """Somebody listens, and says nothing or no HTTP/2: the setter's other calls do not wait for it."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "kubelet.sock"))
        listening.listen()
        answering = futures.ThreadPoolExecutor(1).submit(_answered, listening, said)
        begun_s = time.monotonic()
        with pytest.raises(errors.Unavailable, match=r"kubelet\.sock"):
            PodResources(tmp_path / "kubelet.sock").owners()
        assert time.monotonic() - begun_s < DEADLINE_S + 0.9
        answering.result()


def _answered(listening: socket.socket, said: bytes) -> None:
    """Take one call, say this, and hear it to its end."""
    peer, _ = listening.accept()
    with peer:
        peer.sendall(said)
        while peer.recv(4096):
            pass


def test_no_kubelet_is_unavailable_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match=r"kubelet\.sock"):
        PodResources(tmp_path / "kubelet.sock").owners()
