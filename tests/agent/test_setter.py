"""The setter process on the real fake libnvidia-ml, through the real nvidia-ml-py: verbs, refusals, the watchdog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import agent as node
from support import kubelet

UUIDS = ("GPU-aaaa", "GPU-bbbb")
WATCHDOG_S = 0.5  # the default of 3 s is `test_watchdog`'s
POD_LIST = kubelet.pod_list({UUIDS[0]: ("llm", "chat-1"), "GPU-x": ("llm", "chat-1")})


@pytest.fixture
def gpus(tmp_path: Path) -> Iterator[node.state.State]:
    """Two H100s."""
    made = node.state.State.create(tmp_path / "nvml.state", UUIDS)
    yield made
    made.close()


@pytest.fixture
def socket(nvml_library: Path, gpus: node.state.State, tmp_path: Path) -> Iterator[Path]:
    """A running setter with a kubelet whose pod chat-1 holds the first GPU, one entry per device id."""
    kubelet_ = kubelet.serve(tmp_path / "kubelet.sock", lambda: POD_LIST)
    path = tmp_path / "s.sock"
    args = (
        "setter",
        "--socket",
        str(path),
        "--pod-resources-socket",
        f"{tmp_path}/kubelet.sock",
        "--state-dir",
        str(tmp_path / "kept"),
        "--min-clock-mhz",
        "600",
        "--watchdog-seconds",
        str(WATCHDOG_S),
    )
    with node.process(*args, env=node.environment(nvml_library, tmp_path / "nvml.state")):
        node.until(lambda: node.listens(path))
        yield path
    kubelet_.stop(None)


def test_a_clock_is_a_cap_on_the_grid_and_never_a_pin(socket: Path, gpus: node.state.State) -> None:
    assert node.ask(socket, verb="clock", uuid=UUIDS[0], megahertz=1416)["megahertz"] == 1410
    assert gpus.caps(0).clock_cap_mhz == 1410
    assert gpus.caps(1).clock_cap_mhz is None
    assert node.ask(socket, verb="clock", uuid=UUIDS[0], megahertz=None) == {"ok": True}
    assert gpus.caps(0).clock_cap_mhz is None


def test_identical_writes_reach_the_driver_once(socket: Path, gpus: node.state.State) -> None:
    for _ in range(5):
        node.ask(socket, verb="clock", uuid=UUIDS[0], megahertz=1410)
    assert gpus.writes(0).clock == 1
    node.ask(socket, verb="clock", uuid=UUIDS[0], megahertz=1410, again=True)
    assert gpus.writes(0).clock == 2


def test_a_limit_is_read_back_and_held_within_the_device(socket: Path, gpus: node.state.State) -> None:
    assert node.ask(socket, verb="limit", uuid=UUIDS[1], watts=450)["watts"] == 450
    assert gpus.caps(1).power_limit_w == 450
    refused = node.ask(socket, verb="limit", uuid=UUIDS[1], watts=50)
    assert refused["error"] == "NotEnforced", "200 W is the least that an H100 accepts: it must not pass for 50"


def test_the_admins_floor_holds(socket: Path, gpus: node.state.State) -> None:
    node.ask(socket, verb="clock", uuid=UUIDS[0], megahertz=345)
    assert gpus.caps(0).clock_cap_mhz == 600


def test_every_device_entry_counts(socket: Path) -> None:
    found = node.ask(socket, verb="devices")["devices"]
    assert found == {uuid: [{"namespace": "llm", "name": "chat-1"}] for uuid in (UUIDS[0], "GPU-x")}


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"verb": "explode"}, "UnknownVerb"),
        ({"verb": "clock", "uuid": "GPU-zzzz", "megahertz": 1410}, "UnknownGPU"),
        ({"verb": "clock", "megahertz": 1410}, "Malformed"),
        ({"verb": "clock", "uuid": UUIDS[0], "megahertz": -5}, "Malformed"),
        ({"verb": "clock", "uuid": UUIDS[0], "megahertz": "fast"}, "Malformed"),
        ({"verb": "limit", "uuid": UUIDS[0], "watts": 0}, "Malformed"),
    ],
)
def test_nonsense_is_refused_and_nothing_is_written(
    socket: Path, gpus: node.state.State, asked: dict[str, object], error: str
) -> None:
    assert node.ask(socket, **asked)["error"] == error
    assert (gpus.writes(0).clock, gpus.writes(0).limit) == (0, 0)


@pytest.mark.parametrize(
    ("code", "word"), [(4, "NoPermission"), (3, "NotSupported"), (15, "GPUIsLost"), (10, "Timeout"), (999, "Unknown")]
)
def test_a_driver_error_is_one_word_and_leaves_the_other_gpu_alone(
    socket: Path, gpus: node.state.State, code: int, word: str
) -> None:
    gpus.script_error(0, node.state.Call.SET_LOCKED_CLOCKS, code)
    assert node.ask(socket, verb="clock", uuid=UUIDS[0], megahertz=1410)["error"] == word
    assert node.ask(socket, verb="clock", uuid=UUIDS[1], megahertz=1410)["ok"] is True


def test_loosening_is_rate_limited_and_tightening_is_not(socket: Path, gpus: node.state.State) -> None:
    for mhz in (1410, 1500, 1200):
        node.ask(socket, verb="clock", uuid=UUIDS[0], megahertz=mhz)
    assert gpus.caps(0).clock_cap_mhz == 1200
    assert node.ask(socket, verb="clock", uuid=UUIDS[0], megahertz=1800)["error"] == "RateLimited"


def test_a_silent_agent_ends_in_the_safe_setting(socket: Path, gpus: node.state.State) -> None:
    node.ask(socket, verb="clock", uuid=UUIDS[1], megahertz=900)
    node.ask(socket, verb="safe", megahertz=1110, watts=400)
    node.until(lambda: gpus.caps(0).power_limit_w == 400, timeout_s=5)
    assert gpus.caps(0).clock_cap_mhz == 1110
    assert gpus.caps(1).clock_cap_mhz == 900, "the watchdog only tightens"


def test_a_node_without_a_safe_setting_is_left_alone_when_the_agent_goes(socket: Path, gpus: node.state.State) -> None:
    node.ask(socket, verb="clock", uuid=UUIDS[0], megahertz=1410)
    node.ask(socket, verb="safe", megahertz=None, watts=None)
    with pytest.raises(AssertionError):
        node.until(lambda: gpus.caps(0).clock_cap_mhz != 1410, timeout_s=3 * WATCHDOG_S)


def test_reset_gives_the_node_back(socket: Path, gpus: node.state.State) -> None:
    node.ask(socket, verb="clock", uuid=UUIDS[0], megahertz=1410)
    node.ask(socket, verb="limit", uuid=UUIDS[0], watts=450)
    assert node.ask(socket, verb="reset") == {"ok": True}
    assert (gpus.caps(0).clock_cap_mhz, gpus.caps(0).power_limit_w) == (None, 700)
