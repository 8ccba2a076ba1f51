"""An agent's answer: what is read, what is not believed, and what is told of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from capstan.adapters import errors
from capstan.adapters.agents import AgentCalls
from capstan.app.power import agents
from capstan.power import ports
from capstan.powercap.domains import NO_CAPS, ClassCaps

GPU: Mapping[str, object] = {
    "index": 0, "namespace": "llm", "pod": "chat-0", "powerWatts": 431.5, "powerLimitWatts": 700.0,
    "clockCapMegahertz": 1560.0, "maxPowerWatts": 700.0, "minPowerWatts": 200.0,
}  # fmt: skip


def answer(*gpus: Mapping[str, object], **said: object) -> dict[str, object]:
    """An answer of an agent; without GPUs, of one."""
    head = {"node": "gpu-0", "epoch": 3, "sequence": 7, "sampleSequence": 9, "ageSeconds": 0.4, "safe": False}
    return {**head, "gpus": list(gpus or (GPU,)), **said}


def test_an_answer_of_an_older_agent_is_read() -> None:
    report = agents.report(answer())
    assert report.gpus == (ports.GpuReport(0, "llm", "chat-0", 431.5, 700, 200, 1560, enforced_limit_w=700),)
    assert (report.caps, report.problems) == (None, ())


def test_an_answer_that_verifies_is_read() -> None:
    newer = {**GPU, "clockVerified": True, "limitVerified": False, "enforcedLimitWatts": 650.0, "persistent": True}
    report = agents.report(
        answer(newer, caps={"lowMegahertz": 1110}, problems=["GPU 0: the clock 1110 is not supported"])
    )
    assert report.gpus[0].clock_verified is True
    assert report.gpus[0].limit_verified is False
    assert (report.gpus[0].enforced_limit_w, report.gpus[0].persistent) == (650, True)
    assert report.caps == ClassCaps(low_mhz=1110)
    assert report.problems == ("GPU 0: the clock 1110 is not supported",)


def test_a_node_says_which_nodecap_it_keeps() -> None:
    assert agents.report(answer()).kept is None, "an agent of before grants: its node can hold none"
    assert agents.report(answer(keptEpoch=3, keptSequence=6)).kept == (3, 6)


def test_a_lease_without_caps_is_known_to_be_without() -> None:
    assert agents.report(answer(caps={})).caps == NO_CAPS


@pytest.mark.parametrize("watts", [None, -1, math.nan, math.inf, "431", True, 65_535, 431_500], ids=str)
def test_watts_that_cannot_be_count_at_the_largest_limit_and_are_told(watts: object) -> None:
    """Missing data must not look like low power, and a reading in milliwatts not like a fire."""
    report = agents.report(answer(GPU, {**GPU, "index": 1, "powerWatts": watts}))
    assert report.gpus_w == pytest.approx(431.5 + 700)
    assert len(report.problems) == 1
    assert "GPU 1" in report.problems[0]
    assert "counts at 700 W" in report.problems[0]


@pytest.mark.parametrize(
    "limits",
    [(0, 0), (-700, 200), (math.nan, 200), (None, 200), (700_000, 200), (700, 800)],
    ids=["an unknown model", "negative", "NaN", "missing", "milliwatts", "upside down"],
)
def test_a_gpu_whose_limits_are_unknown_makes_its_node_silent(limits: tuple[object, object]) -> None:
    """What it can draw is what a silent node counts as; without that nothing of the answer is safe to use."""
    with pytest.raises(errors.Malformed):
        agents.report(answer({**GPU, "maxPowerWatts": limits[0], "minPowerWatts": limits[1]}))


@pytest.mark.parametrize(
    "broken",
    [{"gpus": None}, {"gpus": [1]}, {"epoch": -1}, {"ageSeconds": "0"}, {"caps": {"lowMegahertz": -1}}],
    ids=["no GPUs", "a GPU that is a number", "an epoch below zero", "an age in words", "a cap below zero"],
)
def test_an_answer_that_is_none_is_malformed(broken: dict[str, object]) -> None:
    with pytest.raises(errors.Malformed):
        agents.report(answer(**broken))


class Scripted(AgentCalls):
    """Answers from a script, by address."""

    def __init__(self, folder: Path, said: Mapping[str, Mapping[str, object] | errors.AdapterError]) -> None:
        super().__init__(folder / "key")
        self._answers = said
        self.bodies: list[object] = []

    async def renew(self, address: str, body: Mapping[str, object]) -> Mapping[str, object]:
        """Answer, or raise."""
        self.bodies.append(json.loads(json.dumps(body)))
        found = self._answers[address]
        if isinstance(found, errors.AdapterError):
            raise found
        return found


def call(address: str, node: str = "gpu-0") -> ports.LeaseCall:
    return ports.LeaseCall(node, address, 3, 7, 4, ClassCaps(low_mhz=1110.5))


async def test_who_answers_is_heard_who_is_newer_is_known_and_who_is_silent_is_absent(tmp_path: Path) -> None:
    said: dict[str, Mapping[str, object] | errors.AdapterError]
    said = {"a": answer(), "b": errors.Conflict("older than 3 and 9"), "c": errors.Unavailable("no answer")}
    scripted = Scripted(tmp_path, said)
    found = await agents.Agents(scripted).renew((call("a"), call("b", "gpu-1"), call("c", "gpu-2")))
    assert set(found) == {"gpu-0", "gpu-1"}
    assert found["gpu-1"] == ports.Outdated("gpu-1")
    assert scripted.bodies[0] == {"epoch": 3, "sequence": 7, "leaseSeconds": 4, "caps": {"lowMegahertz": 1110}}


async def test_another_nodes_agent_is_not_this_nodes(tmp_path: Path) -> None:
    """A pod IP that was given to another node's agent meanwhile."""
    assert await agents.Agents(Scripted(tmp_path, {"a": answer(node="gpu-9")})).renew((call("a"),)) == {}


async def test_a_problem_is_logged_once_and_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said: dict[str, Mapping[str, object] | errors.AdapterError] = {"a": answer({**GPU, "powerWatts": None})}
    asked = agents.Agents(Scripted(tmp_path, said))
    for _ in range(3):
        await asked.renew((call("a"),))
    said["a"] = answer()
    await asked.renew((call("a"),))
    assert [record.getMessage() for record in caplog.records] == [
        "node gpu-0: GPU 0 cannot be read, and counts at 700 W",
        "node gpu-0: its agent answers again, without problems",
    ]
