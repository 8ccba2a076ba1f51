"""What of a spec becomes advice on a cluster, and that the condition says so and capacity is served all the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from capstan.model.policy import Knob, Knobs, Objective, Pools
from capstan.model.reasons import Reason
from capstan.serving import followed
from support import builders
from support.serving import Stage, chat

BY_CLASS, APART = {"scheme": "ByClass"}, {"scheme": "Disaggregated"}


def test_a_spec_without_any_of_it_is_followed_to_the_letter() -> None:
    asked = builders.policy()
    found = followed.live(asked)
    assert found.condition.holds is True
    assert found.policy == dataclasses.replace(asked, knobs=dataclasses.replace(asked.knobs, pools=Knob.ADVISE))


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        pytest.param({"knobs": Knobs(tensor_parallel=Knob.ACT)}, Reason.ADVISE_ONLY, "tensorParallel", id="tp"),
        pytest.param({"pools": Pools(by_class=True)}, Reason.ADVISE_ONLY, "pools.scheme", id="class-pools"),
        pytest.param({"pools": Pools(phases_apart=True)}, Reason.ADVISE_ONLY, "pools.scheme", id="phases-apart"),
        pytest.param({"objective": Objective.COST}, Reason.TARIFF_MISSING, "objective Cost", id="cost"),
        pytest.param({"objective": Objective.CARBON}, Reason.TARIFF_MISSING, "objective Carbon", id="carbon"),
    ],
)
def test_what_is_not_acted_on_is_said_with_its_field(change: dict[str, Any], reason: Reason, field: str) -> None:
    found = followed.live(dataclasses.replace(builders.policy(), **change))
    assert (found.condition.holds, found.condition.reason) == (False, reason)
    assert field in found.condition.message
    assert found.policy.knobs.tensor_parallel is not Knob.ACT
    assert found.policy.knobs.pools is Knob.ADVISE
    assert found.policy.objective is Objective.JOULES


def test_several_are_all_said_and_what_was_replaced_comes_first() -> None:
    asked = dataclasses.replace(
        builders.policy(), knobs=Knobs(tensor_parallel=Knob.ACT), pools=Pools(by_class=True), objective=Objective.COST
    )
    said = followed.live(asked).condition
    assert said.reason is Reason.TARIFF_MISSING
    assert [said.message.index(word) for word in ("objective", "tensorParallel", "pools.scheme")] == sorted(
        said.message.index(word) for word in ("objective", "tensorParallel", "pools.scheme")
    )


def test_classes_and_edges_stay_so_that_the_mix_is_known_and_advised_on() -> None:
    asked = dataclasses.replace(builders.policy(), pools=Pools(by_class=True, count=2))
    assert followed.live(asked).policy.pools == asked.pools


@pytest.mark.parametrize(
    "spec",
    [{"pools": BY_CLASS}, {"pools": APART}, {"knobs__tensorParallel": "Act"}, {"objective": "Carbon"}],
    ids=["class pools", "phases apart", "another tp", "carbon"],
)
async def test_a_policy_that_asks_for_more_is_served_as_any_other(spec: dict[str, object]) -> None:
    """One Deployment of its degree, scaled up under load; the condition says what was left to advice."""
    stage = Stage()
    stage.telemetry.rps = 12.0
    stage.apply(chat(**spec))
    await stage.tick(6)
    status, reason, message = stage.condition("SpecFollowed")
    assert status == "False"
    assert reason in ("AdviseOnly", "TariffMissing")
    assert "spec." in message
    assert [key for key in stage.cluster.objects if key.startswith("Deployment/")] == ["Deployment/llm/chat-tp4"]
    assert stage.cluster.replicas("llm/chat-tp4") > 1


async def test_a_followed_spec_says_so_and_the_word_changes_once() -> None:
    stage = Stage()
    stage.apply(chat())
    await stage.tick(2)
    assert stage.condition("SpecFollowed")[:2] == ("True", "Applied")
    stage.apply(chat(pools=BY_CLASS))
    await stage.tick(3)
    notes = [event.note for event in stage.cluster.events if "SpecFollowed" in event.note]
    assert len(notes) == 1
    assert "one pool serves all classes" in notes[0]
