"""Every driver call with every code, and every call that hangs: the loop goes on, and only its own GPU is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rig.nvml import state
from support import agent, matrix

CODES = (*range(1, 30), 999)  # nvml.h, API 13: NVML_ERROR_UNINITIALIZED to the newest, and NVML_ERROR_UNKNOWN
LONELY = {"COUNT"}  # one for the node, not for a GPU
CALLS = (*(call.name for call in state.Call), *LONELY)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_touches_its_own_gpu_alone(call: str, nvml_library: Path, tmp_path: Path, root: Path) -> None:
    """31 faults per call: 30 codes and a hang. Unknown watts count at the board's 700 W, and all comes back after."""
    path = tmp_path / "nvml.state"
    state.State.create(path, ("GPU-aaaa", "GPU-bbbb")).close()
    codes = CODES if call in LONELY else (*CODES, matrix.HUNG)
    env = agent.environment(nvml_library, path)
    env["PYTHONPATH"] = f"{root / 'operator'}:{root / 'e2e'}:{root / 'tests'}"
    program = [sys.executable, "-m", matrix.__name__, str(path), call, *map(str, codes)]
    done = subprocess.run(program, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["code"] for one in told] == list(codes)
    for one in told:
        assert one["gpus"] == 2, one
        assert one["other"] is True, one
        assert one["watts"] in (None, 75.0), one
        assert one["most_w"] == 700, one
        assert one["back"] is True, one


def test_a_power_reading_that_fails_is_unknown_and_never_nothing(
    nvml_library: Path, tmp_path: Path, root: Path
) -> None:
    """The matrix can tell: with both power calls lost there are no watts, which the board's maximum stands for."""
    path = tmp_path / "nvml.state"
    gpus = state.State.create(path, ("GPU-aaaa", "GPU-bbbb"))
    gpus.script_error(0, state.Call.POWER_USAGE, 3)
    env = agent.environment(nvml_library, path)
    env["PYTHONPATH"] = f"{root / 'operator'}:{root / 'e2e'}:{root / 'tests'}"
    program = [sys.executable, "-m", matrix.__name__, str(path), "FIELD_VALUES", "3", "0"]
    done = subprocess.run(program, env=env, capture_output=True, text=True, check=True)
    assert [json.loads(line)["watts"] for line in done.stdout.splitlines()] == [None, None]
    gpus.close()
