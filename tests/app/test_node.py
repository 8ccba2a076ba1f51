"""The files of agent and setter, and device ids of the kubelet as boards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from capstan.adapters import errors
from capstan.adapters.nvml.device import NvmlError
from capstan.agent.lease import Lease
from capstan.agent.ports import NOTHING_KEPT, Failed, Kept, Pod
from capstan.app.node import AgentFile, Kubelet, SetterFile
from capstan.powercap.domains import SafeSetting

CHAT, BATCH = ("llm", "chat-1"), ("llm", "batch-1")


def test_what_a_setter_keeps_its_successor_reads(tmp_path: Path) -> None:
    kept = Kept((1110.0, 400.0), {"a": 1410.0}, {"a": 450.0, "b": 300.0})
    SetterFile(tmp_path / "new").write(kept)
    assert SetterFile(tmp_path / "new").read() == kept
    SetterFile(tmp_path / "new").write(NOTHING_KEPT)
    assert SetterFile(tmp_path / "new").read() == NOTHING_KEPT
    assert SetterFile(tmp_path / "none").read() == NOTHING_KEPT


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 100_000, '{"safe": 5, "megahertz": [], "watts": null}', '{"safe": {"megahertz": "x"}}',
     '{"safe": {"megahertz": NaN, "watts": 400}, "megahertz": {"a": -1, "b": true, "c": Infinity}}'],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    for name in ("setter.json", "safe.json"):
        (tmp_path / name).write_text(text)
    assert SetterFile(tmp_path).read() == NOTHING_KEPT
    assert AgentFile(tmp_path).read() == Lease()


def test_what_can_be_read_of_a_file_is_read(tmp_path: Path) -> None:
    """A cap is worth having, even where the entry beside it is spoilt."""
    (tmp_path / "setter.json").write_text('{"safe": {"megahertz": 1110, "watts": 400}, "megahertz": {"a": 9, "b": 0}}')
    assert SetterFile(tmp_path).read() == Kept((1110, 400), {"a": 9}, {})


def test_the_agents_file_keeps_the_safe_setting_and_the_epoch(tmp_path: Path) -> None:
    AgentFile(tmp_path / "new").write(SafeSetting(1110, 400), 7)
    assert AgentFile(tmp_path / "new").read() == Lease(safe=SafeSetting(1110, 400), epoch=7)
    (tmp_path / "safe.json").write_text('{"clock_mhz": 1110, "power_limit_w": 400}')  # as earlier ones wrote it
    assert AgentFile(tmp_path).read() == Lease(safe=SafeSetting(1110, 400))


class Boards:
    """MIG instances by a table; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def physical(self, device: str) -> str:
        self.asked.append(device)
        board = {"MIG-a-1": "GPU-a", "MIG-a-2": "GPU-a"}.get(device, device.partition("::")[0])
        if board.startswith("MIG-"):
            raise NvmlError("NVML6", "no such instance")
        return board


def kubelet(listed: Mapping[str, tuple[str, str]]) -> tuple[Kubelet, Boards]:
    boards = Boards()
    return Kubelet(lambda: listed, boards.physical), boards


def test_a_shared_board_is_there_once_with_all_its_pods() -> None:
    """Two instances and a share of one pod, one share of another: two boards, three pods in all."""
    listed = {"MIG-a-1": CHAT, "MIG-a-2": BATCH, "GPU-b::0": CHAT, "GPU-b::1": CHAT}
    assert kubelet(listed)[0].owners() == {"GPU-a": (Pod(*BATCH), Pod(*CHAT)), "GPU-b": (Pod(*CHAT),)}


def test_an_instance_is_asked_for_once_while_it_is_listed() -> None:
    listed = {"MIG-a-1": CHAT}
    found, boards = kubelet(listed)
    for _ in range(3):
        found.owners()
    assert boards.asked == ["MIG-a-1"]
    del listed["MIG-a-1"]
    assert found.owners() == {}
    listed["MIG-a-1"] = BATCH
    assert found.owners() == {"GPU-a": (Pod(*BATCH),)}
    assert len(boards.asked) == 2, "instances are made anew under new names: what is gone is forgotten"


def test_an_id_of_no_board_is_said_once_and_takes_no_other_away(caplog: pytest.LogCaptureFixture) -> None:
    found, _ = kubelet({"MIG-zz": BATCH, "GPU-b": CHAT})
    for _ in range(3):
        assert found.owners() == {"GPU-b": (Pod(*CHAT),)}
    assert caplog.text.count("MIG-zz") == 1


def test_a_silent_kubelet_is_a_failure_and_not_an_empty_node() -> None:
    def silent() -> Mapping[str, tuple[str, str]]:
        raise errors.Unavailable("PodResources: UNAVAILABLE")

    with pytest.raises(Failed, match="UNAVAILABLE"):
        Kubelet(silent, str).owners()
