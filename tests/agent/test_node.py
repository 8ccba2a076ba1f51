"""A whole node: setter and agent processes on the fake libnvidia-ml, a kubelet, lease calls and a NodeCap.

Both turn five times a second (`support.hurried`): what is waited for is a number of turns, not of seconds.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.nvml import state
from support import agent
from support.node import UUIDS, Node

STOCK = (None, 700.0)
TURN_S = 0.2


@pytest.fixture
def node(nvml_library: Path, tmp_path: Path) -> Iterator[Node]:
    """A node whose processes are not started yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Node(nvml_library, tmp_path, port, hurried=True)
    yield made
    made.close()


def test_a_node_that_nobody_armed_or_planned_keeps_its_admins_settings(node: Node) -> None:
    """Installing an agent must not lift a limit that somebody set to save a breaker."""
    node.setter()
    agent.ask(node.socket, verb="limit", uuid=UUIDS[0], watts=500)
    agent.ask(node.socket, verb="clock", uuid=UUIDS[0], megahertz=1200)
    before = node.gpus.writes(0)
    node.agent()
    agent.until(lambda: len(node.call(0, {}).json()["gpus"]) == 2)
    answer = node.call(0, {}).json()
    time.sleep(3 * TURN_S)
    assert node.gpus.writes(0) == before
    assert node.gpus.writes(1) == state.Writes(0, 0)
    assert (answer["node"], answer["safe"], len(answer["gpus"])) == ("gpu-0", False, 2)
    assert answer["gpus"][0]["enforcedLimitWatts"] == 500


def test_an_energy_plan_sets_clocks_and_leaves_board_limits_alone(node: Node) -> None:
    node.setter()
    agent.ask(node.socket, verb="limit", uuid=UUIDS[0], watts=500)
    node.agent()
    plan = {"sequence": 1, "pods": [{"namespace": "llm", "name": "chat-1", "clockMegahertz": 1416}]}
    node.api.put({"plan": plan})
    node.until_caps((1410, 500), STOCK)
    node.api.put({"plan": {"sequence": 2, "pods": []}})
    node.until_caps((None, 500), STOCK)


def test_a_call_tightens_a_nodecap_loosens_and_silence_is_the_safe_setting(node: Node) -> None:
    node.start()
    assert node.call(0, {}).status_code == 200
    node.grant(1, {})
    node.until_armed()
    node.call(1, {})
    node.until_caps(STOCK, STOCK)
    node.call(2, {"lowMegahertz": 1560, "highMegahertz": 1830})
    node.until_caps((1830, 700), (1560, 700))
    answer = node.call(3, {}).json()
    assert [(gpu["pod"], gpu["clockCapMegahertz"]) for gpu in answer["gpus"]] == [("chat-1", 1830), ("batch-1", 1560)]
    node.grant(3, {}, high=("chat-1",))
    node.until_caps(STOCK, STOCK)
    node.call(4, {}, lease_s=0.5)
    node.until_caps((1110, 400), (1110, 400))
    assert 'capstan_agent_safe_setting{node="gpu-0"} 1.0' in node.metrics()
    node.call(5, {})
    node.until_caps(STOCK, STOCK)


def test_a_call_with_a_wrong_key_or_from_yesterday_is_refused(node: Node) -> None:
    node.start()
    assert node.call(7, {}, epoch=3).status_code == 200
    assert node.call(6, {}, epoch=3).status_code == 409
    assert node.call(99, {}, epoch=2).status_code == 409
    assert node.call(8, {}, epoch=3, key="guess").status_code == 401
    assert node.call(8, {"lowMegahertz": -1}, epoch=3).status_code == 400


def test_a_killed_agent_leaves_the_node_safe_and_starts_in_the_safe_setting(node: Node) -> None:
    node.setter(watchdog_s=0.5)
    first = node.agent()
    node.grant(1, {})
    node.until_armed()
    node.call(1, {})
    node.until_caps(STOCK, STOCK)
    first.send_signal(signal.SIGKILL)
    node.until_caps((1110, 400), (1110, 400), timeout_s=4)
    node.api.stored = None  # the API server has lost the NodeCap: the agent's own file must do
    node.agent()
    assert 'capstan_agent_safe_setting{node="gpu-0"} 1.0' in node.metrics()
    time.sleep(3 * TURN_S)
    node.until_caps((1110, 400), (1110, 400))
    assert node.call(99, {}, epoch=0).status_code == 409, "nor does it forget which controller was the last"
    node.call(2, {})
    node.until_caps(STOCK, STOCK)


def test_a_killed_setter_loses_no_cap_and_its_successor_takes_orders(node: Node) -> None:
    first = node.setter()
    node.agent()
    node.grant(1, {"lowMegahertz": 1560})
    node.until_armed()
    node.call(1, {})
    node.until_caps(STOCK, (1560, 700))
    first.send_signal(signal.SIGKILL)
    first.wait()
    node.call(2, {"lowMegahertz": 1305})
    assert node.gpus.caps(1).clock_cap_mhz == 1560
    node.socket.unlink()
    node.setter()
    node.until_caps(STOCK, (1305, 700))


def test_an_agent_that_was_stopped_past_the_watchdog_gets_its_clocks_back(node: Node) -> None:
    """The setter went to the safe setting by itself; the agent, still under its lease, must notice."""
    node.setter(watchdog_s=0.5)
    running = node.agent()
    node.grant(1, {})
    node.until_armed()
    node.call(1, {}, lease_s=60)
    node.until_caps(STOCK, STOCK)
    running.send_signal(signal.SIGSTOP)
    node.until_caps((1110, 400), (1110, 400), timeout_s=4)
    running.send_signal(signal.SIGCONT)
    node.until_caps(STOCK, STOCK)


def test_one_lost_gpu_counts_as_unreadable_and_the_other_is_capped(node: Node) -> None:
    node.start()
    for call in (state.Call.FIELD_VALUES, state.Call.POWER_USAGE, state.Call.SET_LOCKED_CLOCKS, state.Call.SET_LIMIT):
        node.gpus.script_error(0, call, 15)
    node.grant(1, {"lowMegahertz": 1560, "highMegahertz": 1560, "powerLimitWatts": 450})
    node.call(1, {})
    node.until_caps(STOCK, (1560, 450))
    agent.until(lambda: node.call(1, {}).json()["gpus"][0]["powerWatts"] is None)
    found = node.call(1, {}).json()["gpus"]
    assert (found[0]["maxPowerWatts"], found[1]["powerWatts"]) == (700, 75)


def test_caps_reach_the_gpus_while_the_kubelet_is_silent(node: Node) -> None:
    node.start()
    node.grant(1, {"lowMegahertz": 1560})
    node.until_armed()
    node.call(1, {})
    node.until_caps(STOCK, (1560, 700))
    node.stop_kubelet()
    node.call(2, {"lowMegahertz": 1305, "highMegahertz": 1605})
    node.until_caps((1605, 700), (1305, 700))  # chat-1 is remembered as High


def test_a_reset_gpu_is_in_the_safe_setting_until_its_clock_is_proved(node: Node) -> None:
    """It forgot lock and limit and runs at full clock; the other goes on. A clock at its cap proves the lock."""
    node.start()
    node.grant(1, {"lowMegahertz": 1560, "highMegahertz": 1560, "powerLimitWatts": 450})
    node.call(1, {})
    node.until_caps((1560, 450), (1560, 450))
    node.gpus.reset(0)
    node.gpus.report(0, power_w=600, energy_j=1, sm_clock_mhz=1980)
    node.until_caps((1110, 400), (1560, 450))
    agent.until(lambda: node.call(1, {}).json()["gpus"][0]["clockVerified"] is False)
    assert 'capstan_agent_gpu_cap_verified{gpu="0",kind="clock",node="gpu-0"} 0.0' in node.metrics()
    node.gpus.report(0, power_w=350, energy_j=2, sm_clock_mhz=1110)
    node.until_caps((1560, 450), (1560, 450))


def test_a_lock_without_effect_is_noticed_and_answered_with_the_safe_limit(node: Node) -> None:
    """R12: the driver says OK and does nothing. The board limit needs no lock; the other GPU goes on."""
    node.start()
    node.gpus.ignore(0, clocks=True)
    node.gpus.report(0, power_w=650, energy_j=1, sm_clock_mhz=1980)
    node.grant(1, {"lowMegahertz": 1560, "highMegahertz": 1560})
    node.call(1, {})
    node.until_caps((None, 400), (1560, 700))
    agent.until(lambda: [gpu["clockVerified"] for gpu in node.call(1, {}).json()["gpus"]] == [False, None])
    assert node.call(1, {}).json()["gpus"][0]["limitVerified"] is True
    node.gpus.ignore(0)
    node.gpus.report(0, power_w=300, energy_j=2, sm_clock_mhz=1110)
    node.until_caps((1560, 700), (1560, 700))


def test_a_restarted_setter_without_an_agent_ends_in_the_safe_setting(node: Node) -> None:
    """Both die, the driver is loaded anew, and only the setter comes back: its own file tells it."""
    first, running = node.setter(), node.agent()
    node.grant(1, {"lowMegahertz": 900, "highMegahertz": 1830})
    node.call(1, {})
    node.until_caps((1830, 700), (900, 700))
    for process in (running, first):
        process.kill()
        process.wait()
    node.gpus.reload_driver()
    node.socket.unlink()
    node.setter(watchdog_s=0.5)
    node.until_caps((1110, 400), (900, 400))


@pytest.mark.parametrize("call", [state.Call.SET_LOCKED_CLOCKS, state.Call.FIELD_VALUES], ids=["a write", "a read"])
def test_a_driver_call_that_hangs_costs_the_other_gpu_nothing(node: Node, call: state.Call) -> None:
    """One board hangs for good: the other is capped, reported and, when the agent dies, brought to safety."""
    node.setter(watchdog_s=0.5)
    running = node.agent()
    node.gpus.script_delay(0, call)
    node.grant(1, {"lowMegahertz": 1560, "highMegahertz": 1560})
    node.call(1, {})
    agent.until(lambda: node.gpus.caps(1) == state.Caps(1560, 700), timeout_s=12)
    agent.until(lambda: node.call(1, {}).json()["ageSeconds"] < 2)
    assert node.call(1, {}).json()["gpus"][0]["powerWatts"] == (None if call is state.Call.FIELD_VALUES else 75)
    running.send_signal(signal.SIGKILL)
    agent.until(lambda: node.gpus.caps(1) == state.Caps(1110, 400), timeout_s=6)


def test_two_pods_on_one_board_in_mig_mode_are_one_gpu(node: Node) -> None:
    """Its High pod decides the cap; watts are there once."""
    node.gpus.set_mig(0, enabled=True)
    node.owners = {"MIG-aaaa-0": ("llm", "batch-1"), "MIG-aaaa-1": ("llm", "chat-1"), f"{UUIDS[1]}::0": ("llm", "b-2")}
    node.start()
    node.grant(1, {"lowMegahertz": 1305, "highMegahertz": 1830})
    node.call(1, {})
    node.until_caps((1830, 700), (1305, 700))
    found = node.call(1, {}).json()["gpus"]
    assert [(gpu["pod"], gpu["sharedBy"], gpu["powerWatts"]) for gpu in found] == [("chat-1", 2, 75), ("b-2", 1, 75)]


def test_a_new_gpu_is_in_the_safe_setting_until_it_was_read_back(node: Node) -> None:
    node.start()
    node.grant(1, {"lowMegahertz": 1560, "highMegahertz": 1560})
    node.call(1, {})
    node.until_caps((1560, 700), (1560, 700))
    node.gpus.plug_in("GPU-cccc")
    node.until_caps((1560, 700), (1560, 700), (1110, 400), timeout_s=14)
    node.until_caps((1560, 700), (1560, 700), (1560, 700))


def test_a_nodecap_of_nonsense_keeps_the_one_before(node: Node) -> None:
    node.start()
    node.grant(1, {"lowMegahertz": 1560, "highMegahertz": 1560})
    node.call(1, {})
    node.until_caps((1560, 700), (1560, 700))
    node.api.put({"power": "nonsense"})
    time.sleep(3 * TURN_S)
    node.until_caps((1560, 700), (1560, 700))


def test_idle_clocks_below_the_cap_cost_no_write(node: Node) -> None:
    """A cap is not a pin: lower is legitimate, and a calm node writes nothing to its driver."""
    node.start()
    node.grant(1, {"lowMegahertz": 1560, "highMegahertz": 1560})
    node.call(1, {})
    node.until_caps((1560, 700), (1560, 700))
    before = [node.gpus.writes(i) for i in range(2)]
    time.sleep(5 * TURN_S)
    assert [node.gpus.writes(i) for i in range(2)] == before
