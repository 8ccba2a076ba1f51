"""The fake GPU driver, compiled and driven by the real nvidia-ml-py in a process of its own."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rig.nvml import build, state

UUIDS = ("GPU-0000", "GPU-0001")
Drive = Callable[[str], dict[str, object]]


@pytest.fixture
def node(tmp_path: Path) -> state.State:
    return state.State.create(tmp_path / "nvml.state", UUIDS)


@pytest.fixture
def drive(nvml_library: Path, tmp_path: Path) -> Drive:
    """Run lines of Python against pynvml; `h` is GPU 0, and what the lines put into `out` comes back."""

    def run(lines: str) -> dict[str, object]:
        body = "\n".join(f"    {line}" for line in lines.strip().splitlines())
        code = f"""
import json, pynvml as n
out = {{}}
try:
    n.nvmlInit()
    h = n.nvmlDeviceGetHandleByIndex(0)
{body}
except n.NVMLError as failed:
    out["code"] = failed.value
print(json.dumps(out))
"""
        env = {
            **os.environ,
            "LD_LIBRARY_PATH": str(nvml_library.parent),
            "CAPSTAN_FAKE_NVML_STATE": str(tmp_path / "nvml.state"),
        }
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    return run


def test_both_sides_agree_on_the_layout(nvml_library: Path) -> None:
    c = ctypes.CDLL(str(nvml_library))
    assert c.capstan_fake_nvml_layout_size() == ctypes.sizeof(state.Layout)
    assert c.capstan_fake_nvml_gpu_size() == ctypes.sizeof(state.Gpu)
    assert c.capstan_fake_nvml_errors_offset() == state.Gpu.errors.offset
    assert c.capstan_fake_nvml_delays_offset() == state.Gpu.delays_ms.offset
    assert c.capstan_fake_nvml_energy_offset() == state.Gpu.energy_mj.offset


def test_every_field_lies_on_its_own_alignment() -> None:
    """So that a write of four or eight bytes is seen whole by the other process."""
    gpus = state.Layout.gpus.offset
    for name, *_ in state.Gpu._fields_:
        field = getattr(state.Gpu, name)
        if field.size in (4, 8):
            assert (gpus + field.offset) % field.size == 0, name
    assert ctypes.sizeof(state.Gpu) % 8 == 0


def test_a_node_shows_what_the_simulator_writes(node: state.State, drive: Drive) -> None:
    node.report(0, power_w=431.5, energy_j=12_345.678, sm_clock_mhz=1560, event_reasons=0x4)
    out = drive("""
out["count"] = n.nvmlDeviceGetCount()
out["uuid"] = n.nvmlDeviceGetUUID(h)
out["name"] = n.nvmlDeviceGetName(h)
out["usage"] = n.nvmlDeviceGetPowerUsage(h)
out["instant"] = n.nvmlDeviceGetFieldValues(h, [n.NVML_FI_DEV_POWER_INSTANT])[0].value.uiVal
out["energy"] = n.nvmlDeviceGetTotalEnergyConsumption(h)
out["sm"] = n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM)
out["reasons"] = n.nvmlDeviceGetCurrentClocksEventReasons(h)
out["same"] = n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByUUID("GPU-0001".encode()))
out["mig"] = n.nvmlDeviceGetMigMode(h)
""")
    assert out == {
        "count": 2, "uuid": "GPU-0000", "name": "NVIDIA H100 80GB HBM3", "usage": 431_500, "instant": 431_500,
        "energy": 12_345_678, "sm": 1560, "reasons": 4, "same": "GPU-0001", "mig": [0, 0],
    }  # fmt: skip


def test_the_simulator_sees_caps_and_limits_and_their_removal(node: state.State, drive: Drive) -> None:
    assert node.caps(0) == state.Caps(None, 700)
    drive("n.nvmlDeviceSetGpuLockedClocks(h, 345, 1560)\nn.nvmlDeviceSetPowerManagementLimit(h, 400_000)")
    assert node.caps(0) == state.Caps(1560, 400)
    assert node.caps(1) == state.Caps(None, 700)
    assert node.writes(0) == state.Writes(clock=1, limit=1)
    drive("n.nvmlDeviceResetGpuLockedClocks(h)")
    assert node.caps(0) == state.Caps(None, 400)
    node.reload_driver()
    assert node.caps(0) == state.Caps(None, 700)


def test_limits_and_clocks_are_listed_as_a_board_lists_them(node: state.State, drive: Drive) -> None:
    out = drive("""
memory = n.nvmlDeviceGetSupportedMemoryClocks(h)
clocks = n.nvmlDeviceGetSupportedGraphicsClocks(h, memory[0])
out.update(memory=memory, high=clocks[0], low=clocks[-1], count=len(clocks))
out["range"] = n.nvmlDeviceGetPowerManagementLimitConstraints(h)
out["stock"] = n.nvmlDeviceGetPowerManagementDefaultLimit(h)
out["enforced"] = n.nvmlDeviceGetEnforcedPowerLimit(h)
""")
    assert out == {
        "memory": [2619], "high": 1980, "low": 345, "count": 110, "range": [200_000, 700_000], "stock": 700_000,
        "enforced": 700_000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("n.nvmlDeviceSetGpuLockedClocks(h, 345, 1565)", 2),
        ("n.nvmlDeviceSetGpuLockedClocks(h, 345, 1995)", 2),
        ("n.nvmlDeviceSetGpuLockedClocks(h, 1560, 345)", 2),
        ("n.nvmlDeviceSetPowerManagementLimit(h, 199_999)", 2),
        ("n.nvmlDeviceSetPowerManagementLimit(h, 700_001)", 2),
        ("n.nvmlDeviceGetHandleByIndex(2)", 2),
        ("n.nvmlDeviceGetHandleByUUID(b'GPU-none')", 6),
    ],
    ids=["off the grid", "above the boost", "upside down", "limit too low", "limit too high", "no such index", "no id"],
)
def test_what_a_board_would_refuse_is_refused(node: state.State, drive: Drive, line: str, code: int) -> None:
    assert drive(line)["code"] == code
    assert node.writes(0) == state.Writes(0, 0)


LINES = {
    state.Call.HANDLE: "n.nvmlDeviceGetHandleByIndex(0)",
    state.Call.POWER_USAGE: "n.nvmlDeviceGetPowerUsage(h)",
    state.Call.ENERGY: "n.nvmlDeviceGetTotalEnergyConsumption(h)",
    state.Call.CLOCK_INFO: "n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM)",
    state.Call.SUPPORTED_CLOCKS: "n.nvmlDeviceGetSupportedMemoryClocks(h)",
    state.Call.SET_LOCKED_CLOCKS: "n.nvmlDeviceSetGpuLockedClocks(h, 345, 345)",
    state.Call.RESET_LOCKED_CLOCKS: "n.nvmlDeviceResetGpuLockedClocks(h)",
    state.Call.SET_LIMIT: "n.nvmlDeviceSetPowerManagementLimit(h, 300_000)",
    state.Call.LIMIT_CONSTRAINTS: "n.nvmlDeviceGetPowerManagementLimitConstraints(h)",
    state.Call.ENFORCED_LIMIT: "n.nvmlDeviceGetEnforcedPowerLimit(h)",
    state.Call.SET_PERSISTENCE: "n.nvmlDeviceSetPersistenceMode(h, 1)",
    state.Call.EVENT_REASONS: "n.nvmlDeviceGetCurrentClocksEventReasons(h)",
    state.Call.MIG_MODE: "n.nvmlDeviceGetMigMode(h)",
    state.Call.UUID: "n.nvmlDeviceGetUUID(h)",
    state.Call.MIG_PARENT: "n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(n.nvmlDeviceGetHandleByUUID('MIG-0000-6'))",
    state.Call.FIELD_VALUES: "raise n.NVMLError(n.nvmlDeviceGetFieldValues(h, [186])[0].nvmlReturn)",
}


def test_every_call_fails_as_scripted_and_only_on_its_gpu(node: state.State, drive: Drive) -> None:
    """One process tries every call in turn; the code of GPU 0 comes back, GPU 1 works throughout."""
    node.set_mig(0, enabled=True)
    for number, call in enumerate(state.Call):
        node.script_error(0, call, 100 + number)
    tries = "\n".join(
        f"try:\n    {line.replace('(h', '(zero')}\nexcept n.NVMLError as e:\n    out['{call.name}'] = e.value"
        for call, line in LINES.items()
        if call is not state.Call.HANDLE
    )
    node.script_error(0, state.Call.HANDLE, 0)
    out = drive(
        f"zero = h\none = n.nvmlDeviceGetHandleByIndex(1)\n{tries}\nout['one'] = n.nvmlDeviceGetPowerUsage(one)"
    )
    expected = {call.name: 100 + number for number, call in enumerate(state.Call) if call is not state.Call.HANDLE}
    assert out == {**expected, "one": 75_000}
    node.script_error(0, state.Call.HANDLE, 15)
    assert drive("pass") == {"code": 15}


@pytest.mark.parametrize("code", [9, 18, 999], ids=["driver not loaded", "versions differ", "unknown"])
def test_init_fails_as_scripted(node: state.State, drive: Drive, code: int) -> None:
    node.script_init_error(code)
    assert drive("pass") == {"code": code}


def test_an_instance_has_a_board_and_no_clock_of_its_own(node: state.State, drive: Drive) -> None:
    """MIG: the board is addressed, the instance only leads to it; without the mode there is no instance."""
    assert drive("n.nvmlDeviceGetHandleByUUID('MIG-0001-2')") == {"code": 6}
    node.set_mig(1, enabled=True)
    out = drive("""
mig = n.nvmlDeviceGetHandleByUUID('MIG-0001-2')
out["board"] = n.nvmlDeviceGetUUID(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig))
n.nvmlDeviceSetGpuLockedClocks(mig, 345, 345)
""")
    assert out == {"board": "GPU-0001", "code": 2}


def test_a_board_may_accept_a_setting_and_ignore_it(node: state.State, drive: Drive) -> None:
    node.ignore(0, clocks=True, limits=True)
    drive("n.nvmlDeviceSetGpuLockedClocks(h, 345, 1560)\nn.nvmlDeviceSetPowerManagementLimit(h, 400_000)")
    assert (node.caps(0), node.writes(0)) == (state.Caps(None, 700), state.Writes(1, 1))


def test_a_call_takes_as_long_as_scripted(node: state.State, drive: Drive) -> None:
    node.script_delay(0, state.Call.ENERGY, 0.05)
    took = "import time\nbegan = time.monotonic()\nn.nvmlDeviceGet{}(h)\nout['s'] = time.monotonic() - began"
    slow, fast = (drive(took.format(name))["s"] for name in ("TotalEnergyConsumption", "PowerUsage"))
    assert isinstance(slow, float)
    assert isinstance(fast, float)
    assert slow >= 0.05 > fast


def test_a_gpu_can_be_plugged_in_and_the_count_may_fail(node: state.State, drive: Drive) -> None:
    node.plug_in("GPU-0002")
    assert drive("out['count'] = n.nvmlDeviceGetCount()") == {"count": 3}
    node.script_count_error(15)
    assert drive("n.nvmlDeviceGetCount()") == {"code": 15}


def test_one_gpu_resets_alone_and_its_counter_starts_anew(node: state.State, drive: Drive) -> None:
    for index in range(2):
        node.report(index, power_w=100, energy_j=50, sm_clock_mhz=600)
        drive(f"n.nvmlDeviceSetPowerManagementLimit(n.nvmlDeviceGetHandleByIndex({index}), 400_000)")
    node.reset(0)
    assert [node.caps(index).power_limit_w for index in range(2)] == [700, 400]
    assert drive("out['j'] = n.nvmlDeviceGetTotalEnergyConsumption(h)") == {"j": 0}


def test_without_a_state_file_there_is_no_driver(drive: Drive) -> None:
    assert drive("pass") == {"code": 9}


def test_a_file_of_another_version_is_refused_on_both_sides(tmp_path: Path, drive: Drive) -> None:
    path = tmp_path / "nvml.state"
    state.State.create(path, UUIDS).close()
    content = bytearray(path.read_bytes())
    content[4] = 99
    path.write_bytes(content)
    assert drive("pass") == {"code": 18}
    with pytest.raises(ValueError, match="version"):
        state.State(path)


def test_a_short_file_and_a_crowded_node_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(ValueError, match="too short"):
        state.State(tmp_path / "short")
    with pytest.raises(ValueError, match="1 to 16"):
        state.State.create(tmp_path / "many", [f"GPU-{i}" for i in range(17)])


def test_no_compiler_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "")
    with pytest.raises(build.NoCompilerError, match="apt-get install gcc"):
        build.build(tmp_path / "out")
