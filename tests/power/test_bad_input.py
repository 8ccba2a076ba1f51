"""Bad input, one by one: each ends in one condition that names the field and the fix, and loosens nothing."""

from __future__ import annotations

from typing import Any

import pytest

from capstan.power import ports
from capstan.powercap.domains import Level
from support.power_loop import Site, conditions, domain


async def accepted(site: Site, name: str, seconds: int = 3) -> tuple[str, str, str]:
    """Return (status, reason, message) of a domain's condition Accepted."""
    await site.run(seconds)
    stored = next(d for d in site.api.domains if d["metadata"]["name"] == name)
    listed = stored["status"]["conditions"]
    found = next(c for c in listed if c["type"] == "Accepted")
    return found["status"], found["reason"], found["message"]


TREES = {
    "a circle of parents": (
        [domain("row-1", type="Row", parentName="rack-7"), domain("rack-7", parentName="row-1")],
        "spec.parentName: rack-7 -> row-1 -> rack-7 is a circle",
    ),
    "a parent that is not there": (
        [domain("rack-7", parentName="row-9")],
        "spec.parentName: no PowerDomain is named row-9; create it",
    ),
    "a node in two racks": (
        [domain("rack-7"), domain("rack-8")],
        "spec.nodeSelector: node gpu-0 and 3 more also stands in rack-8; narrow one selector",
    ),
}


@pytest.mark.parametrize(("domains", "message"), TREES.values(), ids=TREES)
async def test_a_tree_that_is_not_sound_is_not_armed_and_says_why(domains: list[ports.Document], message: str) -> None:
    site = Site(*domains)
    status, reason, said = await accepted(site, "rack-7")
    assert (status, reason) == ("False", "InvalidTree")
    assert message in said
    assert site.api.caps == {}


async def test_a_tree_that_became_unsound_under_an_armed_domain_goes_on_capping() -> None:
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    site.api.edit(domain(parentName="row-9"))
    verdict = await site.run(2)
    assert (verdict.armed, verdict.step.level) == (True, Level.LOW_DEEP)
    assert conditions(site.api.statuses[-1])["Accepted"] == ("False", "InvalidTree")


async def test_a_child_above_its_parent_is_told_and_armed() -> None:
    """The parent binds first: that is allowed, and worth a word."""
    row = domain("row-1", budget_w=12_000, type="Row")
    site = Site(domain("rack-7", budget_w=30_000, parentName="row-1"), row)
    status, _, said = await accepted(site, "rack-7")
    assert status == "True"
    assert "30000 is above the 12000 of row-1, which binds first" in said
    assert set(site.api.caps) == set(site.fleet.watts)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"thresholds": {"lowPercent": 80, "highPercent": 70}}, "lowPercent"),
        ({"thresholds": {"lowPercent": 80, "highPercent": 99}}, "highPercent"),
        ({"caps": {"lowBaseMegahertz": 1000, "lowDeepMegahertz": 1200, "highMegahertz": 1300,
                   "brakeMegahertz": 400}}, "lowDeepMegahertz"),
        ({"budgetWatts": -1}, "budgetWatts"),
        ({"budgetWatts": float("nan")}, "budgetWatts"),
        ({"budgetWatts": "40 kW"}, "budgetWatts"),
        ({"strategy": "Hopeful"}, "strategy"),
        ({"reductions": [{"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "budgetWatts": 20_000}]},
         "reductions"),
    ],
    ids=["low above high", "high above brake", "deep above base", "negative", "NaN", "words", "an unknown strategy",
         "a reduction that raises"],
)  # fmt: skip
async def test_an_edit_that_is_not_valid_is_told_by_field_and_the_last_valid_spec_holds(
    spec: dict[str, Any], message: str
) -> None:
    site = Site(domain())
    await site.run(2)
    site.draw(500)
    site.api.edit(domain(**spec))
    verdict = await site.run(2)
    assert (verdict.armed, verdict.step.level) == (True, Level.LOW_DEEP)
    status, reason, said = await accepted(site, "rack-7")
    assert (status, reason) == ("False", "InvalidSpec")
    assert message in said


async def test_a_domain_that_never_was_valid_touches_nothing() -> None:
    site = Site(domain(budgetWatts=-5))
    for _ in range(3):
        await site.power_of(site.power)
    assert (site.api.caps, site.api.statuses) == ({}, [])


async def test_what_agents_say_of_their_gpus_stands_in_the_status() -> None:
    """Unsupported clocks, unreadable watts: the agent knows, the power engineer must not have to look for its log."""
    site = Site(domain())
    await site.run(2)
    site.fleet.problems = {"gpu-1": ("GPU 2: the clock 405 is not supported, 345 is set",)}
    await site.run(2)
    assert conditions(site.api.statuses[-1])["MembersComplete"] == ("False", "TelemetryLost")
    assert site.message("MembersComplete") == "gpu-1: GPU 2: the clock 405 is not supported, 345 is set"


async def test_a_nodecap_of_another_epoch_is_not_ours_to_follow() -> None:
    """An older one is written over, a newer one is another leader's, and ours fails on its version or is refused."""
    site = Site(domain())
    await site.run(2)
    site.api.adopt("gpu-1", epoch=1, sequence=1)
    await site.run(15)
    assert site.api.scene_.node_powers["gpu-1"].epoch == 3


async def test_a_node_of_which_nothing_is_known_arms_nobody() -> None:
    """A GPU model without limits makes its agent's answer unusable: the node was never heard."""
    site = Site(domain())
    site.fleet.silent = {"gpu-3"}
    verdict = await site.run(5)
    assert not verdict.armed
    assert site.message("Armed") == "waiting to hear from every node once"
