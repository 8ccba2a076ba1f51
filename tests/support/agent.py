"""Real setter and agent processes for tests, on the fake driver."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rig.nvml import state


def until(check: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until `check`, or fail."""
    end_s = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < end_s, "it did not come true in time"
        time.sleep(0.02)


def environment(library: Path, nvml_state: Path) -> dict[str, str]:
    """The environment in which nvidia-ml-py finds the fake driver, and a process this package."""
    paths = (os.environ.get("PYTHONPATH"), str(Path(__file__).parents[1]))
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(library.parent),
        "CAPSTAN_FAKE_NVML_STATE": str(nvml_state),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


@contextmanager
def process(*args: str, env: dict[str, str], hurried: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Run `capstan …` and end it; `hurried` agents and setters wait a fifth of their time."""
    made = subprocess.Popen([sys.executable, "-m", "support.hurried" if hurried else "capstan", *args], env=env)
    try:
        yield made
    finally:
        made.kill()
        made.wait()


def ask(path: Path, **asked: object) -> dict[str, object]:
    """Ask the setter one line, as the agent does."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(5)
        peer.connect(str(path))
        peer.sendall(json.dumps(asked).encode() + b"\n")
        answer: dict[str, object] = json.loads(peer.makefile().readline())
        return answer


def listens(path: Path) -> bool:
    """Return whether somebody accepts connections: a socket file exists a moment before that."""
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(str(path)) == 0


__all__ = ["ask", "environment", "listens", "process", "state", "until"]
