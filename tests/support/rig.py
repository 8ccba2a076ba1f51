"""A control plane for tests: one for the session, skipped with one line where its programs cannot be had."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rig import binaries
from rig.controlplane import PROGRAMS, ControlPlane

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class ApiServer:
    """What a test needs of the control plane: how to reach it as an administrator, and the rig behind it."""

    kubeconfig: Path
    url: str
    token: str
    ca: Path
    control_plane: ControlPlane


def control_plane(folder: Path) -> ControlPlane:
    """Return a control plane, not started; skips where its programs are neither here nor may be built.

    A first build takes 15-20 minutes: `make test` does it before pytest, `CAPSTAN_RIG_BUILD=1` lets pytest do it.
    """
    try:
        programs = binaries.find(PROGRAMS, may_build=os.environ.get("CAPSTAN_RIG_BUILD") == "1")
    except binaries.NotAvailable as problem:
        pytest.skip(f"no real API server: {problem}")
    return ControlPlane(folder, programs=programs)


def eventually(holds: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
    """Wait until `holds` is true; fails with `what` after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(POLL_S)
