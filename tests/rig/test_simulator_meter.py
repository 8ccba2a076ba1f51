"""The closed loop: caps of the NVML state reach the engines, watts come back, and the truth adds up."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from rig.nvml.state import State
from rig.simulator import dcgm, exposition, files, sd
from rig.simulator.engines import Caps
from rig.simulator.fleet import Fleet
from rig.simulator.meter import Meter, tightest
from rig.simulator.pods import NodeView
from rig.simulator.profiles import Profiles
from rig.simulator.truth import Truth
from support import builders, simulator

UNLOADED_W, LOADED_W = 75.0, 115.0  # of builders.profile()


@dataclass
class Clock:
    """Time that only the test moves."""

    s: float = 1000.0


@dataclass
class Bench:
    """A node of 8 GPUs with one serving pod (GPUs 0-3) and one that starts (4-5); the clock is the test's."""

    fleet: Fleet
    state: State
    meter: Meter
    truth: io.StringIO
    now: Clock

    def tick(self, seconds: float = 0.1) -> None:
        """Meter the time up to `seconds` later; the engine advances with it."""
        self.now.s += seconds
        self.meter.tick(self.now.s, 1_000_000 + self.now.s)

    def rows(self) -> list[dict[str, dict[str, dict[str, float]]]]:
        return [json.loads(line) for line in self.truth.getvalue().splitlines()]


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    now = Clock()
    profile = simulator.quick_profile()
    fleet = Fleet(Profiles([profile]), simulator.Remover(), clock=lambda: now.s)
    [node] = fleet.see_nodes([NodeView("gpu-0", 8, builders.H100)])
    serving = simulator.pod_view(uid="a", name="chat-a", ip=simulator.address())
    starting = simulator.pod_view(uid="b", name="batch-b", policy="llm/batch", ready=False, gpus=2)
    await fleet.reconcile({"a": serving, "b": starting})
    state = files.open_state(tmp_path, node)
    truth = io.StringIO()
    bench = Bench(fleet, state, Meter(fleet, {"gpu-0": state}, Truth(truth)), truth, now)
    bench.tick(0.0)
    yield bench
    await fleet.close()
    state.close()


def gpu(state: State, index: int) -> tuple[float, int]:
    """Watts and SM clock that the fake driver shows."""
    shown = state._gpu(index)
    return shown.power_mw / 1000, shown.sm_clock_mhz


def lock(state: State, index: int, megahertz: int) -> None:
    """What the setter does through NVML."""
    state._gpu(index).locked_max_mhz = megahertz


async def test_idle_gpus_draw_by_what_is_loaded_on_them(bench: Bench) -> None:
    for _ in range(11):
        bench.tick()
    assert gpu(bench.state, 0)[0] == pytest.approx(LOADED_W), "serving, no request"
    assert gpu(bench.state, 4)[0] == pytest.approx(LOADED_W), "starting"
    power_w, clock_mhz = gpu(bench.state, 7)
    assert power_w == pytest.approx(UNLOADED_W), "no pod: unloaded"
    assert clock_mhz == 345, "at the lowest clock"


async def test_a_clock_lock_on_one_gpu_slows_the_whole_replica(bench: Bench) -> None:
    replica = bench.fleet.tenants["a"].replica
    assert replica is not None
    replica.submit(100, 5000)
    for _ in range(5):
        bench.tick()
    before_w, full_mhz = gpu(bench.state, 0)
    assert full_mhz == 1980
    lock(bench.state, 2, 1110)
    for _ in range(15):
        bench.tick()
    after_w, capped_mhz = gpu(bench.state, 0)
    assert capped_mhz == 1110, "the slowest GPU rules"
    assert LOADED_W < after_w < before_w


async def test_a_lock_also_holds_on_a_pod_that_starts(bench: Bench) -> None:
    lock(bench.state, 4, 990)
    bench.tick()
    assert gpu(bench.state, 5)[1] == 990


def test_the_tightest_of_both_caps_counts_each_for_itself() -> None:
    assert tightest([Caps(1980, 400), Caps(None, 700), Caps(1110, 650)]) == Caps(1110, 400)
    assert tightest([Caps(), Caps()]) == Caps(None, None)


async def test_reported_power_is_a_mean_over_a_second(bench: Bench) -> None:
    """NVML averages over a second on Ampere and later: one busy tick among ten idle ones shows as a tenth of it."""
    meter = bench.fleet.nodes["gpu-0"].meters[7]
    for _ in range(10):
        bench.tick()
    meter.book(UNLOADED_W + 500, 0.1)
    assert meter.power_w == pytest.approx(UNLOADED_W + 50)


async def test_the_truth_adds_up_over_nodes_policies_and_idle_gpus(bench: Bench) -> None:
    replica = bench.fleet.tenants["a"].replica
    assert replica is not None
    replica.submit(100, 5000)
    for _ in range(21):
        bench.tick()
    _, last = bench.rows()
    chat, batch = last["policies"]["llm/chat"], last["policies"]["llm/batch"]
    assert batch["gpus_w"] == pytest.approx(2 * LOADED_W, abs=0.1)
    assert last["unassigned_w"] == pytest.approx(2 * UNLOADED_W, abs=0.1)
    assert last["nodes"]["gpu-0"]["gpus_w"] == pytest.approx(chat["gpus_w"] + 230 + 150, abs=0.3)
    assert chat["gpus_w_max"] >= chat["gpus_w"] > 4 * LOADED_W
    assert last["policies"]["llm/batch"]["energy_j"] == pytest.approx(2.0 * 230), "joules count on"
    assert (chat["ready"], chat["starting"], chat["running"], chat["clock_mhz"]) == (1, 0, 1, 1980)
    assert (batch["ready"], batch["starting"]) == (0, 1)
    assert batch["clock_mhz"] is None, "nothing runs yet"


async def test_engine_joules_and_metered_joules_are_the_same(bench: Bench) -> None:
    replica = bench.fleet.tenants["a"].replica
    assert replica is not None
    replica.submit(500, 300)
    for _ in range(12):
        bench.tick()
    metered_j = sum(meter.energy_j for meter in bench.fleet.nodes["gpu-0"].meters[:4])
    assert metered_j == pytest.approx(replica.engine.energy_j)


async def test_a_policy_keeps_its_joules_when_its_last_pod_is_gone(bench: Bench) -> None:
    for _ in range(11):
        bench.tick()
    await bench.fleet.reconcile({})
    for _ in range(11):
        bench.tick()
    first, last = bench.rows()
    assert last["policies"]["llm/chat"]["energy_j"] >= first["policies"]["llm/chat"]["energy_j"] > 0
    assert last["policies"]["llm/chat"]["gpus_w"] < LOADED_W
    assert last["unassigned_w"] == pytest.approx(8 * UNLOADED_W, rel=0.1)


async def test_the_dcgm_page_names_every_gpu_and_the_pod_on_it(bench: Bench) -> None:
    for _ in range(11):
        bench.tick()
    page = exposition.page(dcgm.lines(bench.fleet.rows())).decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert {name: family.type for name, family in families.items()} == {
        "DCGM_FI_DEV_SM_CLOCK": "gauge",
        "DCGM_FI_DEV_POWER_USAGE": "gauge",
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "counter",
        "DCGM_FI_DEV_GPU_UTIL": "gauge",
    }
    power = families["DCGM_FI_DEV_POWER_USAGE"].samples
    assert [sample.labels["gpu"] for sample in power] == [str(index) for index in range(8)]
    assert power[0].labels == {
        "gpu": "0",
        "UUID": bench.state.uuids[0],
        "pci_bus_id": "00000000:10:00.0",
        "device": "nvidia0",
        "modelName": "NVIDIA H100 80GB HBM3",
        "hostname": "gpu-0",
        "DCGM_FI_DRIVER_VERSION": dcgm.DRIVER_VERSION,
        "container": "engine",
        "namespace": "llm",
        "pod": "chat-a",
    }
    assert (power[7].labels["pod"], power[7].labels["namespace"]) == ("", ""), "a GPU without a pod"
    assert power[7].value == UNLOADED_W
    energy_mj = families["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"].samples[7].value
    assert energy_mj == pytest.approx(1.1 * UNLOADED_W * 1000, rel=1e-3)


def test_a_state_file_that_is_there_keeps_its_locks(tmp_path: Path) -> None:
    """The setter maps the file: a simulator that starts again must not pull it from under the setter."""
    fleet = Fleet(Profiles([builders.profile()]), simulator.Remover())
    [node] = fleet.see_nodes([NodeView("gpu-0", 8, builders.H100)])
    first = files.open_state(tmp_path, node)
    lock(first, 3, 1110)
    again = files.open_state(tmp_path, node)
    assert again.caps(3).clock_cap_mhz == 1110
    first.close()
    again.close()


def test_a_folder_too_deep_for_a_socket_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter --dir"):
        files.socket_path(tmp_path / ("x" * 100), "gpu-0")


def test_targets_for_prometheus_carry_the_labels_that_joins_need() -> None:
    pod = simulator.pod_view(ip="127.89.0.7")
    assert sd.engine(pod) == {
        "targets": ["127.89.0.7:8000"],
        "labels": {"job": "vllm", "namespace": "llm", "pod": "chat-tp4-a", "node": "gpu-0"},
    }
    assert sd.agents(["127.88.0.2", "127.88.0.1"]) == [
        {"targets": ["127.88.0.1:9808", "127.88.0.2:9808"], "labels": {"job": "capstan-agent"}}
    ]
    assert sd.agents([]) == []
    assert sd.from_options(["operator=127.0.0.1:8080"]) == [
        {"targets": ["127.0.0.1:8080"], "labels": {"job": "operator"}}
    ]


@pytest.mark.parametrize("option", ["operator", "=127.0.0.1:1", "operator=127.0.0.1"])
def test_an_extra_target_of_another_shape_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="job=host:port"):
        sd.from_options([option])
