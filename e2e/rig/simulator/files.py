"""The folder of a node, `<dir>/nodes/<node>/`: its NVML state file, and where its sockets go."""

from __future__ import annotations

from pathlib import Path

from rig.nvml import state
from rig.simulator.node import Node

PRODUCTS = (state.H100, state.A100)
MAX_SOCKET_PATH_BYTES = 107  # sun_path of unix(7) holds 108 with the closing zero


def node_folder(root: Path, node: str) -> Path:
    """Return the folder of a node, which is made where it is missing."""
    folder = root / "nodes" / node
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_state(root: Path, node: Node) -> state.State:
    """Return a node's NVML state file: the one that is there, locks and all, where it holds these GPUs; else a new one.

    A setter may have the file mapped already: replacing it would part the two.
    """
    path = node_folder(root, node.view.name) / "nvml.state"
    uuids = tuple(gpu.uuid for gpu in node.gpus)
    if path.exists():
        known = state.State(path)
        if known.uuids == uuids:
            return known
        known.close()
    return state.State.create(path, uuids, _product(node.view.gpu_product))


def socket_path(root: Path, node: str) -> Path:
    """Return where a node's PodResources socket goes.

    Raises:
        ValueError: The path is longer than a Unix socket's may be.
    """
    path = node_folder(root, node) / "pod-resources.sock"
    if len(str(path).encode()) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f"{path} is too long for a Unix socket ({MAX_SOCKET_PATH_BYTES} bytes): choose a shorter --dir"
        )
    return path


def _product(gpu_product: str) -> state.Product:
    """Return the GPU behind a `nvidia.com/gpu.product` label (dashes for blanks); an H100 where nobody knows it."""
    name = gpu_product.replace("-", " ")
    return next((p for p in PRODUCTS if p.name.replace("-", " ") == name), state.H100)
