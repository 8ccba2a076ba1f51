"""The NVML adapter on the fake library, through the real nvidia-ml-py, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rig.nvml import state
from support import agent

UUIDS = ("GPU-aaaa", "GPU-bbbb")
Drive = Callable[[str], list[object]]

PREAMBLE = """
import dataclasses, json, logging
logging.basicConfig(level=logging.ERROR)
from capstan.adapters import errors
from capstan.adapters.nvml import open_driver
from rig.nvml import state

def tried(function, *args):
    try:
        return function(*args)
    except errors.AdapterError as error:
        return error.word

node = state.State(state.Path(PATH))
driver = tried(open_driver)
if not isinstance(driver, str):
    for index in driver.missing():
        tried(driver.describe, index)
said = []
A, B = "GPU-aaaa", "GPU-bbbb"
def sample():
    return [driver.read(index) for index in range(driver.count())]
def show():
    return [dataclasses.asdict(one) for one in sample()]
"""


@pytest.fixture
def node(tmp_path: Path) -> state.State:
    """Two H100s."""
    return state.State.create(tmp_path / "nvml.state", UUIDS)


@pytest.fixture
def drive(nvml_library: Path, node: state.State, tmp_path: Path, root: Path) -> Drive:
    """Run lines against `driver` and `node`; what they append to `said` comes back."""

    def run(lines: str) -> list[object]:
        path = tmp_path / "nvml.state"
        code = PREAMBLE.replace("PATH", repr(str(path))) + lines + "\nprint(json.dumps(said))"
        env = agent.environment(nvml_library, path)
        env["PYTHONPATH"] = f"{root / 'operator'}:{root / 'e2e'}"
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: list[object] = json.loads(done.stdout)
        return found

    return run


def test_a_sample_is_in_watts_joules_and_megahertz(node: state.State, drive: Drive) -> None:
    node.report(0, power_w=431.5, energy_j=12_345.678, sm_clock_mhz=1560)
    first, second = drive("said += show()")
    assert first == {
        "index": 0, "uuid": "GPU-aaaa", "power_w": 431.5, "energy_j": 12_345.678, "sm_clock_mhz": 1560.0,
        "limit_w": 700.0, "min_limit_w": 200.0, "max_limit_w": 700.0, "persistent": True,
        }  # fmt: skip
    assert isinstance(second, dict)
    assert second["power_w"] == 75.0


def test_without_an_instant_reading_the_average_counts(node: state.State, drive: Drive) -> None:
    node.script_error(0, state.Call.FIELD_VALUES, 3)
    assert drive("said.append(sample()[0].power_w)") == [75.0]


@pytest.mark.parametrize("watts", [0, 2_900, 4_294_967], ids=["zero", "above any spike", "a sentinel"])
def test_a_figure_that_no_board_draws_is_no_reading(node: state.State, drive: Drive, watts: float) -> None:
    node.report(0, power_w=watts, energy_j=1, sm_clock_mhz=1980)
    assert drive("said += [one.power_w for one in sample()]") == [None, 75.0]


def test_each_figure_fails_alone_and_comes_back(node: state.State, drive: Drive) -> None:
    lines = """
for call, code in ((state.Call.ENERGY, 3), (state.Call.CLOCK_INFO, 10), (state.Call.ENFORCED_LIMIT, 999)):
    node.script_error(0, call, code)
one = sample()[0]
said.append([one.power_w, one.energy_j, one.sm_clock_mhz, one.limit_w])
for call in state.Call:
    node.script_error(0, call, 0)
one = sample()[0]
said.append([one.power_w, one.energy_j, one.sm_clock_mhz, one.limit_w])
"""
    assert drive(lines) == [[75.0, None, None, None], [75.0, 0.0, 345.0, 700.0]]


def test_a_gpu_that_was_lost_before_the_start_is_counted_and_found_again(node: state.State, drive: Drive) -> None:
    node.script_error(0, state.Call.HANDLE, 15)
    lines = """
said += [[one.uuid, one.power_w, one.max_limit_w] for one in sample()]
said.append(driver.uuids())
node.script_error(0, state.Call.HANDLE, 0)
said.append([one.uuid for one in sample()])
"""
    assert drive(lines) == [
        ["unreadable-0", None, 700.0], ["GPU-bbbb", 75.0, 700.0], ["GPU-bbbb"], ["GPU-aaaa", "GPU-bbbb"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked_mhz", "set_mhz"),
    [(1416, 1410), (1410, 1410), (99_999, 1980), (1, 345)],
    ids=["off the grid", "on it", "above the boost", "below the lowest"],
)
def test_a_cap_is_snapped_down_to_a_supported_clock(
    node: state.State, drive: Drive, asked_mhz: float, set_mhz: int
) -> None:
    assert drive(f"said.append(driver.cap_clock(A, {asked_mhz}))") == [float(set_mhz)]
    assert node.caps(0).clock_cap_mhz == set_mhz


@pytest.mark.parametrize(
    ("asked_w", "set_w"), [(400, 400), (None, 700), (50, 200), (5000, 700)], ids=["asked", "stock", "floor", "ceiling"]
)
def test_a_limit_stays_within_the_device_and_the_driver_stays_loaded(
    node: state.State, drive: Drive, asked_w: float | None, set_w: float
) -> None:
    node.reload_driver()
    assert drive(f"said.append(driver.limit_power(A, {asked_w}, 1e6))") == [float(set_w)]
    assert node.caps(0).power_limit_w == set_w
    assert node._gpu(0).persistence == 1, "without persistence the limit dies with its last client"


CODES = {3: "NotSupported", 4: "NoPermission", 10: "Timeout", 15: "GPUIsLost", 999: "Unknown", 27: "NVML27"}


def test_every_write_translates_every_code_and_spares_the_other_gpu(node: state.State, drive: Drive) -> None:
    """All (write, code) pairs; nvidia-ml-py's own exceptions can be neither compared nor hashed."""
    lines = f"""
writes = {{
    state.Call.SET_LOCKED_CLOCKS: lambda uuid: driver.cap_clock(uuid, 1410),
    state.Call.RESET_LOCKED_CLOCKS: lambda uuid: driver.reset_clock(uuid),
    state.Call.SET_LIMIT: lambda uuid: driver.limit_power(uuid, 400, 1e6),
}}
for call, write in writes.items():
    for code in {list(CODES)}:
        node.script_error(0, call, code)
        said.append(tried(write, A))
        tried(write, B) in (None, 1410.0, 400.0) or said.append("the other GPU suffered")
    node.script_error(0, call, 0)
said.append(tried(driver.cap_clock, "GPU-none", 1410))
"""
    assert drive(lines) == [*CODES.values()] * 3 + ["UnknownGPU"]


def test_a_model_that_nobody_knows_is_as_it_says(drive: Drive, tmp_path: Path) -> None:
    """Nothing is known by name: 7 MHz steps from 100 to 772 MHz, 50 to 333 W. 500 MHz lies between 499 and 506."""
    mystery = state.Product("NVIDIA Mystery 1", 100, 772, 7, 999, 50, 333, 20)
    state.State.create(tmp_path / "nvml.state", ("GPU-aaaa",), mystery).close()
    lines = """
said += [driver.cap_clock(A, 500), driver.limit_power(A, 400, 1e6), driver.limit_power(A, 1, 1e6)]
said += [sample()[0].max_limit_w, sample()[0].power_w]
"""
    assert drive(lines) == [499.0, 333.0, 50.0, 333.0, 20.0]


@pytest.mark.parametrize("limit_w", [None, 680], ids=["stock", "asked"])
def test_an_admins_ceiling_goes_before_stock_and_the_board_before_the_admin(
    node: state.State, drive: Drive, limit_w: float | None
) -> None:
    assert drive(f"said += [driver.limit_power(A, {limit_w}, most) for most in (650, 100)]") == [650.0, 200.0]


def test_a_gpu_that_was_lost_gets_a_new_handle_and_keeps_its_name(node: state.State, drive: Drive) -> None:
    lines = """
node.script_error(0, state.Call.FIELD_VALUES, 15)
said.append([sample()[0].uuid, sample()[0].power_w, sample()[0].max_limit_w, driver.missing()])
node.script_error(0, state.Call.FIELD_VALUES, 0)
said.append([sample()[0].power_w, driver.missing()])
node.plug_in("GPU-cccc")
said.append([driver.missing(), [one.uuid for one in sample()]])
"""
    assert drive(lines) == [
        ["GPU-aaaa", None, 700.0, [0]], [75.0, []], [[2], ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "board"),
    [
        ("GPU-bbbb", "GPU-bbbb"),
        ("GPU-bbbb::3", "GPU-bbbb"),
        ("MIG-bbbb-2", "GPU-bbbb"),
        ("MIG-bbbb-2::1", "GPU-bbbb"),
        ("MIG-GPU-bbbb/7/0", "GPU-bbbb"),
        ("MIG-aaaa-2", "NVML6"),
    ],
    ids=["whole", "a share", "an instance", "a share of an instance", "before R470", "a board without MIG"],
)
def test_every_device_id_leads_to_its_board(node: state.State, drive: Drive, device: str, board: str) -> None:
    node.set_mig(1, enabled=True)
    assert drive(f"said.append(tried(driver.physical, {device!r}))") == [board]


@pytest.mark.parametrize(
    ("code", "word"), [(9, "DriverNotLoaded"), (18, "NVML18"), (4, "NoPermission")], ids=["no driver", "versions", "no"]
)
def test_a_driver_that_does_not_start_is_one_word(node: state.State, drive: Drive, code: int, word: str) -> None:
    node.script_init_error(code)
    assert drive("said.append(driver)") == [word]
